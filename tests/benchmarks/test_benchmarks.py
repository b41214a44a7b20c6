"""The bench measures what it says: the same network three ways, in turn, with its memory."""

from __future__ import annotations

import cProfile
import pstats
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import harness, latency, layers, networks, reporting, roofline, timing, writing
from benchmarks.anatomy import KINDS, anatomy
from benchmarks.roofline import MachineSpeed, Work, bound, bound_of_step, measure_machine
from benchmarks.textbook import TextbookDynamicConv2d, as_textbook
from dyconv import build_model
from dyconv.base import dynamic_layers
from runners.training.checkpoint import CheckpointStore

MACHINE = MachineSpeed(1e9, {2**n: 1e9 for n in range(16, 29, 2)})
LAUNCH = {"first_step_seconds": 3.0, "quick": [{"studies": "all studies", "own": 2.0, "others": 98.0}]}
TRIAL = {
    "title": "one", "seconds": 2.0, "network_seconds": 1.9, "share_outside": 0.05, "share_state": 0.004,
    "images_per_second": 100.0,
}  # fmt: skip
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


def test_a_bound_is_the_larger_of_arithmetic_and_memory() -> None:
    slow_memory = MachineSpeed(1e12, {2**n: 4e6 for n in range(16, 29, 2)})
    slow_arithmetic = MachineSpeed(1e6, {2**n: 1e15 for n in range(16, 29, 2)})
    # 1x1, 3 -> 5 channels on 2x2 pixels, 7 images.
    static, dynamic = (Work(15, 60, 12, 20, 7, kernels) for kernels in (1, 4))
    assert bound(static, slow_arithmetic) == pytest.approx(3 * 7 * 60 / 1e6)
    assert bound(static, slow_memory) == pytest.approx(3 * (7 * 32 + 15) / 1e6)
    assert bound(dynamic, slow_arithmetic) == pytest.approx((3 * 7 * 60 + 4 * 7 * 4 * 15) / 1e6)
    assert bound(dynamic, slow_memory) == pytest.approx((3 * (7 * 32 + 60) + 4 * 60 + 7 * 12) / 1e6)


@pytest.mark.parametrize("side", [(7, 3, 1, 1, 1), (8, 3, 2, 1, 1), (2, 3, 1, 1, 1), (9, 5, 2, 3, 2), (4, 1, 2, 0, 1)])
def test_products_with_padding_are_not_counted(side: tuple[int, int, int, int, int]) -> None:
    size, kernel, stride, padding, dilation = side
    line = torch.ones(1, 1, size)
    met = torch.nn.functional.conv1d(line, torch.ones(1, 1, kernel), None, stride, padding, dilation).sum()
    assert roofline.meetings(*side) == met
    # 6 groups of 2 -> 4 channels.
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 6}
    layer = torch.nn.Conv2d(12, 24, kernel, **options)
    slow = MachineSpeed(1e6, {2**n: 1e15 for n in range(16, 29, 2)})
    found = bound_of_step(torch.nn.Sequential(layer), torch.randn(5, 12, size, size), slow)
    assert found == pytest.approx(3 * 5 * 6 * 2 * 4 * float(met) ** 2 / 1e6)


def test_a_layer_and_the_network_that_has_it_have_one_bound() -> None:
    slow = MachineSpeed(1e6, {2**n: 1e15 for n in range(16, 29, 2)})
    layer = torch.nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
    expected = bound(layers.Shape((8, 8), 5, 3, 2, 8, 3).work(1), slow)
    assert bound_of_step(torch.nn.Sequential(layer), torch.randn(3, 8, 5, 5), slow) == pytest.approx(expected)


def test_the_bound_of_a_step_counts_every_layer_once() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1), torch.nn.BatchNorm2d(5), torch.nn.ReLU())
    memory = MachineSpeed(1e12, {2**n: 4e6 for n in range(16, 29, 2)})
    expected = bound(Work(15, 60, 12, 20, 7, 1), memory) + 7 * 20 * (3 + 5 + 2 + 3) / 1e6
    assert bound_of_step(model, torch.randn(7, 3, 2, 2), memory) == pytest.approx(expected)
    dynamic = build_model("resnet10", 10, num_kernels=4, stem_kernel=3, stem_stride=1, stem_pool=False, seed=0)
    static = build_model("resnet10", 10, stem_kernel=3, stem_stride=1, stem_pool=False, seed=0)
    images = torch.randn(2, 3, 8, 8)
    assert bound_of_step(dynamic, images, MACHINE) > bound_of_step(static, images, MACHINE)


def test_the_time_of_a_step_is_told_apart() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(16, 64, 3), torch.nn.BatchNorm2d(64), torch.nn.ReLU())
    found = anatomy(timing.training_step(torch.nn.Sequential(model, torch.nn.Flatten()), torch.randn(8, 16, 24, 24)))
    assert set(found) == set(KINDS)
    assert all(found[kind] > 0 for kind in ("products", "norms and activations", "calls"))
    assert found["products"] > found["copies"]


def test_a_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.roofline.interleaved", lambda steps, rounds: dict.fromkeys(steps, 0.5))
    machine = measure_machine()
    assert machine.multiply_adds == 2 * 1024**3
    assert machine.bytes_per_second[2**16] == 2**25
    assert machine.bytes_per_second[2**28] == 2**29


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
    measured = networks.measure(SMALL, MACHINE)
    seconds = measured["seconds"]
    assert set(seconds) == {"static", "static NCHW", "ours", "textbook"}
    assert measured["times_as_fast_as_textbook"] == seconds["textbook"] / seconds["ours"]
    shape = layers.Shape((8, 12), 6, 3, 2, 1, 4)
    layer = {"network": "small, 16 px", **layers.measure(shape, MACHINE)}
    assert layer["peak_bytes"]["textbook"] > layer["peak_bytes"]["static"]
    where = {"machine": "m", "torch": "t", "python": "p", "commit": "c0ffee"}
    known = {
        "machine": {"measured": where, "results": asdict(MACHINE)},
        "networks": {"measured": where, "results": [measured]},
        "layers": {"measured": where, "results": [layer]},
        "launch": {"measured": where, "results": LAUNCH},
        "trial": {"measured": where, "results": TRIAL},
        "planning": {"measured": where, "results": [{"runs": 10, "seconds": 0.001}]},
        "reporting": {"measured": where, "results": [{"runs": 10, "seconds": 2.0}]},
    }
    few = latency.measure(latency.Case("small, 16 px", "mobilenet_v2", 16, (1, 2), SMALL.options))
    assert [(r["batch"], r["format"]) for r in few] == [(n, name) for name in ("NCHW", "channels-last") for n in (1, 2)]
    known["latency"] = {"measured": where, "results": few}
    writing.write(known, tmp_path)
    front = (tmp_path / "performance.md").read_text()
    assert f"{measured['times_as_fast_as_textbook']:.2f} times as fast as the textbook's" in front
    single = [r["seconds"] for r in few if r["batch"] == 1]
    ratio = min(s["ours"] for s in single) / min(s["static"] for s in single)
    assert f"One image takes {ratio:.2f} times the static time" in front
    assert "c0ffee" in front
    assert len(front.splitlines()) < 70
    page = (tmp_path / "developing" / "timings.md").read_text()
    assert f"{measured['times_as_fast_as_textbook']:.2f}" in page
    assert "8→12 3×3 /2 at 6 px" in page
    assert "c0ffee" in page
    assert "| all studies | 2.0 | 98 | 2.0 % |" in page
    assert "takes 0.4 %" in page
    assert "| 10 | 2.0 | 200.0 |" in page
    assert (tmp_path / "performance.png").stat().st_size > 1000


def test_time_in_modules_counts_what_they_call_and_not_what_calls_them(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, check_owner=lambda: time.sleep(0.2))

    def work() -> None:
        time.sleep(0.3)
        store.forget_beyond(0)
        store.clear()

    with cProfile.Profile() as profile:
        work()
    stats = pstats.Stats(profile)
    assert harness.seconds_in(stats, ("training/checkpoint",)) == pytest.approx(0.4, abs=0.05)
    assert harness.seconds_in(stats, ("state/attempts",)) == 0


def test_shapes_are_those_of_the_dynamic_layers() -> None:
    found = layers.shapes("resnet18", 32, 64, {})
    assert layers.Shape((64, 64), 32, 3, 1, 1, 64) in found
    assert layers.Shape((512, 512), 4, 3, 1, 1, 64) in found
    assert len(found) == len(set(found))
    assert not any(shape.channels[0] == 3 for shape in found), "the stem is static"


def test_planning_plans_so_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SIZES", (10, 100))
    assert len(harness.many_runs(100).trials) == 100
    found = harness.planning()
    assert [one["runs"] for one in found] == [10, 100]
    assert all(0 < one["seconds"] < 10 for one in found)


def test_a_report_of_made_up_runs_is_made_of_all_of_them() -> None:
    measured = reporting._reported(20)
    assert measured["runs"] == 20
    assert 0 < measured["seconds"] < 60
