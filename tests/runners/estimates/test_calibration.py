"""Timing a few steps: what is found of a tiny network, of one whose steps are long, and of one that cannot be built."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ablations.planning.nodes import CostNode, EvaluationNode, NetworkNode, TrialNode
from ablations.spec.fingerprint import network_fingerprint
from ablations.spec.inspected import CheckpointFile, resolve_network
from ablations.spec.parts import Intervention
from ablations.spec.trial import resolve
from runners.estimates import timing
from runners.estimates.calibration import calibrate, count_parameters
from runners.estimates.estimate import Speed, seconds_of, speed_key
from runners.estimates.timing import images_per_step, timed_steps
from tests.runners.bench import TINY, Bench


def timed(node: TrialNode | NetworkNode | CostNode) -> Speed:
    answer = calibrate(node, "cpu", 1, ())
    assert not isinstance(answer, str), answer
    device, speed = answer
    assert device == "cpu"
    return speed


def test_a_tiny_network_is_timed_and_nothing_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.root.parent)
    before = sorted(Path().rglob("*"))
    node = TrialNode("f" * 64, resolve([TINY], {}, 0))
    speed = timed(node)
    assert 0 < speed.step_seconds < 5
    assert speed.setup_seconds > 0
    assert 0 < speed.spread < 5
    assert speed.memory_bytes > 50e6
    assert speed.gpu_memory_bytes == 0
    # Weights are 4 bytes a parameter, and the statistics of the normalisation beside.
    assert 4 * count_parameters(node.spec, ()) < speed.weights_bytes < 6 * count_parameters(node.spec, ())
    assert sorted(Path().rglob("*")) == before


def test_a_network_that_is_counted_is_timed_once(bench: Bench) -> None:
    speed = timed(CostNode("c" * 64, bench.trial().spec))
    assert speed.setup_seconds > 0
    assert speed.step_seconds == 0


def test_a_network_that_was_trained_elsewhere_is_timed_without_a_training() -> None:
    spec = resolve_network([TINY], {})
    file = CheckpointFile(path="/nowhere/theirs.pth", sha256="0" * 64)
    node = NetworkNode(network_fingerprint(spec, file), spec, file)
    speed = timed(node)
    assert speed.step_seconds == 0
    seconds = seconds_of(node, speed)
    assert seconds is not None
    # Of its 30 images, with the time to build it.
    assert speed.setup_seconds < seconds < 60
    evaluation = EvaluationNode("e" * 64, node, Intervention(aggregation="average"))
    assert speed_key(evaluation) == speed_key(node)
    assert seconds_of(evaluation, speed) == seconds


def test_what_cannot_be_built_is_a_sentence(bench: Bench) -> None:
    node = bench.trial(model__where={"name": ["nothing.*"]})
    answer = calibrate(node, "cpu", 1, ())
    assert isinstance(answer, str)
    assert "nothing" in answer
    assert count_parameters(node.spec, ()) == 0


@pytest.mark.parametrize(
    ("images", "multiply_adds", "threads", "timed_images"),
    [
        (64, 1_000_000, 1, 64),
        # Three passes of 64 × 1e8 at 5e9 a second are 3.8 s, of 16 images 0.96 s.
        (64, 100_000_000, 1, 16),
        (64, 100_000_000, 4, 64),
        (64, 10_000_000_000, 1, 8),
        (10, 10_000_000_000, 1, 10),
    ],
)
def test_long_steps_are_timed_with_fewer_images(
    images: int, multiply_adds: int, threads: int, timed_images: int
) -> None:
    assert images_per_step(images, multiply_adds, threads) == timed_images


def test_fewer_images_are_scaled_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "timed_steps", lambda steps: [0.5, 0.7, 0.6])
    monkeypatch.setattr(timing, "images_per_step", lambda *about: 10)
    assert timed(bench.trial(train__batch_size=40)).step_seconds == pytest.approx(4 * 0.6)


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        # The first two warm up.
        ((0.9, 0.2, 0.3, 0.4), [0.3, 0.4]),
        ((0.1,), [0.1]),
        ((0.5, 0.1), [0.1]),
        ((0.01, 0.03) * 25, [0.01, 0.03] * 6),
        (tuple(itertools.repeat(0.25, 50)), [0.25] * 3),
        # Too long to be waited for: what there is must do.
        ((5.0, 4.0, 3.0), [5.0]),
    ],
)
def test_as_many_steps_are_timed_as_there_is_time_for(seconds: tuple[float, ...], kept: list[float]) -> None:
    assert timed_steps(iter(seconds)) == kept
