"""Timing a few steps: what is found of a tiny network, of one whose steps are long, and of one that cannot be built."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.planning.lint import network_of
from ablations.planning.nodes import CostNode, TrialNode
from ablations.spec.trial import resolve
from runners.estimates import calibration
from runners.estimates.calibration import Calibrated, calibrate, count_parameters
from runners.estimates.estimate import speed_key
from tests.runners.bench import TINY, Bench


def timed(node: TrialNode | CostNode) -> Calibrated:
    found = calibrate(speed_key(node), node, "cpu", 1, ())
    assert isinstance(found, Calibrated), found
    return found


def test_a_tiny_network_is_timed_and_nothing_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.root.parent)
    before = sorted(Path().rglob("*"))
    node = TrialNode("f" * 64, resolve([TINY], {}, 0))
    found = timed(node)
    assert (found.key, found.device, found.network) == (speed_key(node), "cpu", network_of(node.spec))
    assert 0 < found.speed.image < found.speed.step < 5
    assert found.speed.setup > 0
    assert found.speed.memory > 50e6
    assert found.speed.gpu_memory == 0
    # Weights are 4 bytes a parameter, and the statistics of the normalisation beside.
    assert 4 * found.parameters < found.speed.weights < 6 * found.parameters
    assert found.parameters == count_parameters(node.spec, ())
    assert sorted(Path().rglob("*")) == before


def test_a_network_that_is_counted_is_timed_once(bench: Bench) -> None:
    node = CostNode("c" * 64, bench.trial().spec)
    found = timed(node)
    assert found.speed.setup > 0
    assert found.speed.step == 0
    assert found.parameters == count_parameters(node.spec, ())


def test_what_cannot_be_built_is_a_sentence(bench: Bench) -> None:
    node = bench.trial(model__where={"name": ["nothing.*"]})
    answer = calibrate("k", node, "cpu", 1, ())
    assert isinstance(answer, str)
    assert "nothing" in answer
    assert count_parameters(node.spec, ()) == 0


@pytest.mark.parametrize(
    ("images", "multiply_adds", "threads", "kind", "timed_images"),
    [
        (64, 1_000_000, 1, "cpu", 64),
        # Three passes of 64 × 1e8 at 5e9 a second are 3.8 s, of 16 images 0.96 s.
        (64, 100_000_000, 1, "cpu", 16),
        (64, 100_000_000, 4, "cpu", 64),
        (64, 100_000_000, 1, "cuda", 64),
        (64, 10_000_000_000, 1, "cpu", 8),
        (10, 10_000_000_000, 1, "cpu", 10),
    ],
)
def test_long_steps_are_timed_with_fewer_images(
    images: int, multiply_adds: int, threads: int, kind: str, timed_images: int
) -> None:
    spec = resolve([{"train.batch_size": images}], {}, 0)
    assert calibration._images_per_step(spec, multiply_adds, threads, kind) == timed_images


def test_fewer_images_are_scaled_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def time(spec: Any, model: Any, source: Any) -> tuple[list[float], list[float]]:
        seen.append(spec.train.batch_size)
        return [0.5, 0.7, 0.6], [0.01]

    monkeypatch.setattr(calibration, "_time", time)
    monkeypatch.setattr(calibration, "_images_per_step", lambda *about: 10)
    found = timed(bench.trial(train__batch_size=40))
    assert seen == [10]
    assert found.speed.step == pytest.approx(4 * 0.6)
    assert found.speed.image == 0.01


def steps(*seconds: float) -> Iterator[float]:
    yield from seconds


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        # The first two warm up.
        ((0.9, 0.2, 0.3, 0.4), [0.3, 0.4]),
        ((0.1,), [0.1]),
        ((0.5, 0.1), [0.1]),
        # Five that agree are enough; of others more are timed.
        (tuple(itertools.repeat(0.01, 50)), [0.01] * 5),
        ((0.01, 0.03) * 25, [0.01, 0.03] * 6),
        (tuple(itertools.repeat(0.25, 50)), [0.25] * 3),
        # Too long to be waited for: what there is must do.
        ((5.0, 4.0, 3.0), [5.0]),
    ],
)
def test_as_many_steps_are_timed_as_there_is_time_for(seconds: tuple[float, ...], kept: list[float]) -> None:
    assert calibration._until_known(steps(*seconds)) == kept
