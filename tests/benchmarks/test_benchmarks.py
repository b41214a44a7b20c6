"""The bench measures what it says: the same network three ways, in turn, with its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import harness, layers, networks, timing, writing
from benchmarks.textbook import TextbookDynamicConv2d, as_textbook
from dyconv import build_model
from dyconv.base import dynamic_layers

SMALL = networks.Case("small", "mobilenet_v2", 16, 4, 2, {"width": 0.1, "depth": 0.3, "stem_stride": 1})


def test_the_textbook_computes_the_same_numbers() -> None:
    model = build_model("mobilenet_v2", 10, width=0.1, depth=0.3, stem_stride=1, num_kernels=4, seed=0, dropout=0.0)
    model = model.double()
    for _, layer in dynamic_layers(model):
        torch.nn.init.normal_(layer.attention_branch.excite.weight)  # type: ignore[union-attr, arg-type]
    textbook = as_textbook(model)
    layers = [module for module in textbook.modules() if isinstance(module, TextbookDynamicConv2d)]
    assert len(layers) == len(list(dynamic_layers(model)))
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    for network in (model, textbook):
        network(images).square().sum().backward()
    torch.testing.assert_close(textbook(images), model(images))
    ours, theirs = ([p.grad for p in network.parameters()] for network in (model, textbook))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_steps_take_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []
    lasting = {"a": iter([9, 9, 1, 2, 30]), "b": iter([9, 9, 4, 6, 5])}

    def step(name: str) -> Any:
        def run() -> None:
            order.append(name)
            now[0] += next(lasting[name])

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    assert timing.interleaved({"a": step("a"), "b": step("b")}, rounds=3) == {"a": 2, "b": 5}
    assert order == ["a", "b"] * 5


def test_peak_memory_is_the_worst_moment() -> None:
    mib = 2**20

    def step() -> None:
        first = torch.empty(8 * mib, dtype=torch.uint8)
        second = torch.empty(4 * mib, dtype=torch.uint8)
        del first, second
        torch.empty(5 * mib, dtype=torch.uint8)

    assert timing.peak_bytes(step) == pytest.approx(12 * mib, rel=0.01)


def test_a_network_is_measured_and_told(tmp_path: Path) -> None:
    measured = networks.measure(SMALL)
    seconds = measured["seconds"]
    assert set(seconds) == {"static", "static NCHW", "ours", "textbook"}
    assert measured["times_as_fast_as_textbook"] == seconds["textbook"] / seconds["ours"]
    shape = layers.Shape((8, 12), 6, 3, 2, 1, 4)
    layer = {"network": "small, 16 px", **layers.measure(shape)}
    assert layer["peak_bytes"]["textbook"] > layer["peak_bytes"]["static"]
    where = {"machine": "m", "torch": "t", "python": "p", "commit": "c0ffee"}
    known = {
        "networks": {"measured": where, "results": [measured]},
        "layers": {"measured": where, "results": [layer]},
        "planning": {"measured": where, "results": [{"runs": 10, "seconds": 0.001}]},
    }
    writing.write(known, tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert f"{measured['times_as_fast_as_textbook']:.2f}" in page
    assert "8→12 3×3 /2 at 6 px" in page
    assert "c0ffee" in page
    assert (tmp_path / "performance.png").stat().st_size > 1000


def test_shapes_are_those_of_the_dynamic_layers() -> None:
    found = layers.shapes("resnet18", 32, 64, {})
    assert layers.Shape((64, 64), 32, 3, 1, 1, 64) in found
    assert layers.Shape((512, 512), 4, 3, 1, 1, 64) in found
    assert len(found) == len(set(found))
    assert not any(shape.channels[0] == 3 for shape in found), "the stem is static"


@pytest.mark.parametrize("runs", [10, 100])
def test_planning_plans_so_many_runs(runs: int) -> None:
    assert 0 < harness._planned(runs) < 10
