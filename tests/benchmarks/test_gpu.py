"""The measurement of a GPU: walked on the CPU at tiny size, ending in time, going on after failures."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as bench
from benchmarks.gpu import choosing, parts, rivals
from benchmarks.gpu.clock import Budget, TimeIsUp, interrupted_after
from benchmarks.gpu.parts import Case
from benchmarks.gpu.setting import on_cpu
from dyconv.kernels.cuda import choices, roofline
from dyconv.kernels.cuda.choices import Target, choices_of, geometry_of

ROOT = Path(__file__).resolve().parents[2]


def results_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / bench.RESULTS).read_text())  # type: ignore[no-any-return]


def test_a_dry_run_walks_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests compile; two networks would take longer than everything else here.
    monkeypatch.setattr(torch, "compile", lambda module, backend: module)
    assert bench.main(["--dry-run", "--out", str(tmp_path)]) == 0
    measured = results_in(tmp_path)
    assert list(measured["parts"]) == list(bench.PARTS)
    for name, part in measured["parts"].items():
        assert part, name
        for result in part:
            assert "failed" not in result, result
            assert "skipped" not in result, result
    (first, *_) = measured["parts"]["layers"]
    assert set(first["seconds"]) == set(first["forward_seconds"]) == {"static", "ours", "textbook", "timm"}
    steps = {implementation for result in measured["parts"]["networks"] for implementation in result["seconds"]}
    assert steps == {"static", "ours", "textbook", "static, compiled", "ours, compiled"}
    page = (tmp_path / bench.PAGE).read_text()
    assert page.count("\n## ") == len(bench.PARTS)
    assert "dry run" in page
    # The table that it wrote is one that choices are made by; the one in the source tree is as it was.
    monkeypatch.setattr(choices, "TABLE", tmp_path / bench.DRY_TABLE)
    part = choices_of.__wrapped__(measured["device"])
    assert len(part.rows) == len(measured["parts"]["choices"])
    assert json.loads(choices.TABLE.read_text())["devices"][measured["device"]]["measured"] == measured["origin"]


def test_when_the_time_is_over_the_rest_is_left_out_and_said(tmp_path: Path) -> None:
    started = time.monotonic()
    bench.main(["--dry-run", "--minutes", "0", "--out", str(tmp_path)])
    assert time.monotonic() - started < 30
    for part in results_in(tmp_path)["parts"].values():
        assert all(result["skipped"] for result in part)
    assert "Skipped: one" not in (tmp_path / bench.PAGE).read_text()
    assert "no time was left" in (tmp_path / bench.PAGE).read_text()


def _three_cases(setting: Any) -> Iterator[Case]:
    def fails() -> dict[str, Any]:
        raise RuntimeError("CUDA out of memory")

    def never_ends() -> dict[str, Any]:
        while True:
            # As a compiler does, which makes errors of its own of all that pass.
            try:
                time.sleep(0.01)
            except Exception:
                continue

    yield Case("one", lambda: {"right": True, "errors": {"tiled": 0.1}})
    yield Case("two", fails)
    yield Case("three", never_ends)
    yield Case("four", lambda: {"right": True, "errors": {"tiled": 0.2}})


def test_a_case_that_fails_or_hangs_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.PARTS, "checks", (_three_cases, 1.0))
    assert bench.main(["checks", "--dry-run", "--minutes", "0.02", "--out", str(tmp_path)]) == 1
    one, two, three, four = results_in(tmp_path)["parts"]["checks"]
    assert one["right"]
    assert "out of memory" in two["failed"]
    assert "stopped after" in three["skipped"]
    assert four["skipped"]
    page = (tmp_path / bench.PAGE).read_text()
    assert "Failed: two (RuntimeError: CUDA out of memory)" in page
    assert "Skipped: three" in page


def test_wrong_numbers_are_found_and_end_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = parts._by_image
    monkeypatch.setattr(parts, "_by_image", lambda *arguments: exact(*arguments) * 1.1)
    assert bench.main(["checks", "--dry-run", "--out", str(tmp_path)]) == 1
    assert "**wrong**" in (tmp_path / bench.PAGE).read_text()


def test_without_a_gpu_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main(["--out", str(tmp_path)]) == 2
    assert "--dry-run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bench.main(["--dry-run", "laeyrs"])
    assert "laeyrs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_parts_share_what_is_left() -> None:
    now = 0.0
    budget = Budget(600, lambda: now)
    first = budget.part(0.5)
    assert first.left == 300
    now = 100.0
    # It left 200 seconds, which are there for the next one.
    assert budget.part(1.0).left == 500
    now = 700.0
    assert budget.part(1.0).left <= 0


def test_an_interrupt_is_called_off_when_the_block_ends() -> None:
    with pytest.raises(TimeIsUp), interrupted_after(0.01):
        time.sleep(5)
    with interrupted_after(0.05):
        pass
    time.sleep(0.1)


def test_shares_are_found_from_times_that_follow_them() -> None:
    table = json.loads(choices.TABLE.read_text())["devices"]["NVIDIA H200"]
    sheet = roofline.Device(**table["sheet"])
    shares = {name: share * 0.7 for name, share in roofline.SHARES.items()}
    rows = []
    for row in table["rows"][::7]:
        g, dtype = geometry_of(row), row["dtype"]
        times = {name: roofline.seconds(name, g, sheet, dtype, shares) for name in row["seconds"]}
        rows.append({**row, "seconds": times})
    fitted = choosing.fitted_shares(rows, sheet)
    assert fitted["product"] == pytest.approx(shares["product"], rel=0.1)
    assert fitted["tiled"] == pytest.approx(shares["tiled"], rel=0.1)
    assert fitted["direct"] == pytest.approx(shares["direct"], rel=0.1)


def test_a_measured_device_replaces_its_estimate_and_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    row = json.loads(choices.TABLE.read_text())["devices"]["NVIDIA H200"]["rows"][0]
    part = choosing.table_part("NVIDIA A100-SXM4-80GB", [row], roofline.DEVICES["NVIDIA A100"], {"date": "today"})
    choosing.write_table("NVIDIA A100-SXM4-80GB", part, path)
    assert list(json.loads(path.read_text())["devices"]) == ["NVIDIA A100-SXM4-80GB", "NVIDIA H200"]


def test_a_device_without_a_data_sheet_is_described_by_what_was_measured() -> None:
    rates = {"bfloat16": 2e12, "float32": 1e12}
    machine = {"operations_per_second": rates, "vector": 5e11, "bytes_per_second": 1e11, "start_seconds": 1e-5}
    sheet = choosing.sheet_of("A new GPU", machine)
    assert sheet.tensor == {**rates, "float16": 2e12}
    assert (sheet.vector, sheet.bytes_per_second, sheet.start_seconds) == (5e11, 1e11, 1e-5)
    assert choosing.sheet_of("NVIDIA H200", machine) == roofline.DEVICES["NVIDIA H200"]


def test_rivals_compute_the_same_where_they_should() -> None:
    settings = {"kernel_size": 3, "padding": 1, "bias": False}
    built = rivals.layers((8, 12), 4, settings, on_cpu())
    images = torch.randn(3, 8, 5, 5)
    torch.testing.assert_close(built["ours"](images), built["textbook"](images), rtol=1e-4, atol=1e-5)
    assert built["timm"](images).shape == built["static"](images).shape == (3, 12, 5, 5)


def test_every_case_of_a_gpu_is_a_shape_that_some_algorithm_computes() -> None:
    for g in parts._LAYERS:
        assert min(g.output_size) > 0
        programs = Target("NVIDIA H200", "bfloat16", True).programs(g)
        assert programs == {"direct" if g.depthwise else "tiled"}


def test_make_starts_it_and_its_dry_run() -> None:
    recipe = re.search(r"^bench-gpu:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert recipe.group(1).endswith("-m benchmarks.gpu $(if $(DRY_RUN),--dry-run)")
