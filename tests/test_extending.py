"""Does exactly what docs/extending.md says: each example is taken from the page, run, and at most ten lines long."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = {match[1]: match[2] for match in re.finditer(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, flags=re.DOTALL)}
TOP2 = "name: top2\nquestion: q\nreference: all\nvariants:\n  all: {}\n  two: {intervention: {aggregation: top2}}\n"
LAYERS = "name: layers\nquestion: q\nreference: static\nvariants:\n  static: {model.layer: static}\n"
LAYERS += "  mine: {model.layer: tanh, model.options.sharpness: 2.0}\n"
SHARP = "model.options.sharpness=2"
WHERE = "model.where={not: {role: [stem]}}"


def _run(
    folder: Path, *arguments: str, timeout: float = 1100, code: Mapping[str, str] = EXAMPLES
) -> subprocess.CompletedProcess[str]:
    for name, text in code.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "aggregation_top2.yaml").write_text(TOP2, encoding="utf-8")
    (folder / "layers.yaml").write_text(LAYERS, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, str(ROOT / "run_ablation.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def _lines(code: str) -> int:
    """Counts what a person writes: statements, not blank lines, imports or comments."""
    kept = [line for line in code.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return sum(not line.startswith(("import ", "from ")) for line in kept)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_at_most_ten_lines(name: str) -> None:
    assert 0 < _lines(EXAMPLES[name]) <= 10


def test_the_page_has_all_five() -> None:
    assert set(EXAMPLES) == {"my_strategy", "my_layer", "my_network", "my_data", "my_study"}


def test_the_layer_of_the_page_passes_its_checks(tmp_path: Path) -> None:
    check = "from dyconv.testing import check_layer\nfrom my_layer import TanhConv2d\n"
    check += "print(check_layer(TanhConv2d, options={'sharpness': 2.0}))\n"
    (tmp_path / "my_layer.py").write_text(EXAMPLES["my_layer"], encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", check]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1000, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    # All but the start from a static network, which this kind does not say, and that a conversion from it needs.
    assert "TanhConv2d: 21 checks passed on layers of 10 geometries." in done.stdout
    assert done.stdout.count("\n- ") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("aggregation_top2.yaml", "--plugin", "my_strategy"),
        pytest.param(
            ("aggregation", "cost", "--plugin", "my_layer", "--set", "model.layer=tanh", "--set", SHARP),
            marks=pytest.mark.torture,
        ),
        pytest.param(
            ("branch", "--plugin", "my_network", "--plugin", "my_study", "--set", "model.name=tiny", "--set", WHERE),
            marks=pytest.mark.torture,
        ),
        pytest.param(
            ("branch", "--plugin", "my_data", "--plugin", "my_study", "--set", "data.name=stripes"),
            marks=pytest.mark.torture,
        ),
    ],
    ids=["strategy", "layer kind", "network", "data set"],
)
def test_an_example_runs_to_a_report(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    small = ("--preset", "smoke", "--seeds", "1", "--format", "md", "--dispatch", "inline")
    sizes = ("data.train_images=32", "data.validation_images=16", "data.test_images=16")
    done = _run(tmp_path, "run", *arguments, *small, *(part for size in sizes for part in ("--set", size)))
    assert done.returncode == 0, done.stdout + done.stderr
    reports = list((tmp_path / "runs" / "reports").glob("*.md"))
    assert len(reports) == 1


CHANGES = {
    "my_strategy": {"topk(2": "topk(1"},
    "my_layer": {"torch.tanh": "torch.sigmoid"},
    "my_network": {"8, 3, spec": "9, 3, spec", "Conv2d(8, 16": "Conv2d(9, 16"},
    "my_data": {"* 255": "* 254"},
}


# Four programs, each of which imports torch. Without them it is tested in tests/runners/test_plugin_identity.py.
@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("module", "cell", "settings", "reason"),
    [
        ("my_strategy", "aggregation_top2.yaml/two", (), "strategy top2 (plug-in my_strategy) has changed since"),
        ("my_layer", "layers.yaml/mine", (), "layer tanh (plug-in my_layer) has changed since"),
        ("my_network", "branch/ratio_4", ("model.name=tiny", WHERE), "network tiny (plug-in my_network) has changed"),
        (
            "my_data",
            "branch/ratio_4",
            ("data.name=stripes",),
            "data set stripes (plug-in my_data) has changed since: content",
        ),
    ],
)
def test_results_of_changed_code_are_not_taken_for_those_of_the_code_before(
    tmp_path: Path, module: str, cell: str, settings: tuple[str, ...], reason: str
) -> None:
    sizes = ("data.train_images=32", "data.validation_images=16", "data.test_images=16")
    scale = ["--preset", "smoke", "--plugin", module, "--plugin", "my_study"]
    scale += [part for value in (*settings, *sizes) for part in ("--set", value)]
    run = ("run", cell.partition("/")[0], *scale, "--format", "md", "--dispatch", "inline", "--seeds")
    code = EXAMPLES[module]
    first = _run(tmp_path, *run, "1")
    assert first.returncode == 0, first.stdout + first.stderr
    before = _measured(tmp_path)
    for old, new in CHANGES[module].items():
        assert old in code
        code = code.replace(old, new)
    second = _run(tmp_path, *run, "2", code={**EXAMPLES, module: code})
    assert second.returncode == 0, second.stdout + second.stderr
    # Two rows of two seeds; only a training that does not name what has changed is used again.
    assert len(_measured(tmp_path) - before) == (3 if module in ("my_strategy", "my_layer") else 4)
    code += "\nimport torch\ntorch.set_flush_denormal(True)\n" if module != "my_data" else ""
    code = code.replace("* 254", "* 253")
    told = _run(tmp_path, "explain", cell, *scale, "--seed", "0", code={**EXAMPLES, module: code})
    assert reason in told.stdout, told.stdout + told.stderr
    assert "reused" not in told.stdout


def _measured(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("runs/state/*/result.json")}


def test_without_its_plugin_an_example_is_an_error(tmp_path: Path) -> None:
    done = _run(tmp_path, "plan", "aggregation_top2.yaml")
    assert (done.returncode, "unknown aggregation 'top2'" in done.stderr) == (2, True)


def test_a_plan_says_what_a_network_of_a_plugin_leaves_static(tmp_path: Path) -> None:
    plan = ("plan", "temperature", "--plugin", "my_network", "--set", "model.name=tiny", "--set")
    done = _run(tmp_path, *plan, WHERE)
    assert done.returncode == 0, done.stdout + done.stderr
    told = "DY-tiny K=4 at not (stem): 2 of 3 convolutions are dynamic.\nLeft static (1): 0: is not meant by `where`"
    assert f"{told} (role stem).\n" in done.stdout
    done = _run(tmp_path, *plan, "model.where={role: [depthwise]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DY-tiny K=4 at depthwise: It cannot be built: " in done.stdout


@pytest.mark.torture
def test_an_installed_plugin_needs_no_option(tmp_path: Path) -> None:
    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[dyconv_ablations.plugins]\nmine = my_strategy\n")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from run_ablation import main; main(sys.argv[1:])"
    _run(tmp_path, "schema")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "plan", "aggregation_top2.yaml"],
        capture_output=True,
        text=True,
        timeout=1000,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
