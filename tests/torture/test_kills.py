"""SIGKILL at random steps and in the middle of every kind of write: the resumed training ends with the same bits."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runners.provenance import Commit
from runners.state.nodes import NodeState
from runners.tracking import Tracker, prepare_store
from runners.workers.task import Task
from tests.runners.bench import Bench
from tests.torture.victims import PLACES, Death, call, run_to_death, start

STEPS, EPOCHS, KILLS = 4, 8, 20
CHANGES = {
    "train__epochs": EPOCHS,
    "data__validation_images": 10,
    "data__test_images": 10,
    "model__depth": 0.25,
    # Whatever can draw at random does.
    "model__dropout": 0.1,
    "model__aggregation": "shuffle_per_image",
    "data__mixup": 0.2,
    "data__cutmix": 0.2,
    "data__rand_augment": 1,
}
EVERY_STEP, EPOCHS_ONLY = 0.0, 1e9


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> NodeState:
    """The training that is never interrupted and writes no checkpoint."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    node = bench.trial(**CHANGES)
    assert call(run_to_death, Task(bench.root, node.fingerprint, device="cpu"), Death(), 1e9) == 0
    return bench.states[node.fingerprint]


def _assert_same(state: NodeState, whole: NodeState) -> None:
    one, two = load_file(whole.weights_file), load_file(state.weights_file)
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    assert _metrics(state) == _metrics(whole)
    assert not [path.name for path in state.folder.iterdir() if "checkpoint" in path.name or ".tmp" in path.name]


def _metrics(state: NodeState) -> list[tuple[int, dict[str, float]]]:
    result = state.result()
    assert result is not None, state.failure()
    told = [(event["step"], event["metrics"]) for event in state.events()]
    plain = []
    for step, metrics in told:
        # Speed and load are the machine's, not the training's.
        plain.append((step, {k: v for k, v in metrics.items() if "per_second" not in k and "system/" not in k}))
    return [*plain, (-1, result["metrics"])]


def _deaths(seconds: float, at_random: bool) -> list[Death]:
    """Deaths, each so early that the training comes no further than to its next checkpoint or two.

    They are twenty at random, or one at each place.
    """
    chance = random.Random(7)
    if seconds == EPOCHS_ONLY:
        return [Death("a step", chance.randint(0, STEPS)) for _ in range(KILLS)]
    every_step = ("a step", "half a file", "a flush", "a renaming", "a removal")
    places = [place for place in PLACES if place not in ("the test split", "the result")]
    chosen = [chance.choice(places) for _ in range(KILLS)] if at_random else places
    return [Death(place, chance.randint(0, 2) if place in every_step else 0) for place in chosen]


@pytest.mark.parametrize(
    ("seconds", "at_random"),
    [
        (EVERY_STEP, False),
        pytest.param(EVERY_STEP, True, marks=pytest.mark.torture),
        pytest.param(EPOCHS_ONLY, True, marks=pytest.mark.torture),
    ],
)
def test_kills_of_one_training_change_no_bit(whole: NodeState, bench: Bench, seconds: float, at_random: bool) -> None:
    node = bench.trial(**CHANGES)
    task = Task(bench.root, node.fingerprint, device="cpu", checkpoint_seconds=seconds)
    deaths = _deaths(seconds, at_random)
    codes = [call(run_to_death, task, death) for death in deaths]
    assert codes == [-signal.SIGKILL] * len(deaths)
    assert call(run_to_death, task, Death()) == 0
    _assert_same(bench.states[node.fingerprint], whole)


@pytest.mark.torture
@pytest.mark.parametrize("place", ["a validation", "the test split", "the result"])
def test_a_kill_after_the_last_step_repeats_no_step(whole: NodeState, bench: Bench, place: str) -> None:
    node = bench.trial(**CHANGES)
    task = Task(bench.root, node.fingerprint, device="cpu", checkpoint_seconds=EVERY_STEP)
    death = Death(place, EPOCHS - 1 if place == "a validation" else 0)
    assert call(run_to_death, task, death) == -signal.SIGKILL
    assert call(run_to_death, task, Death("a step")) == 0, "there was no step left at which to die"
    _assert_same(bench.states[node.fingerprint], whole)


@pytest.mark.torture
@pytest.mark.parametrize("seconds", [EVERY_STEP, EPOCHS_ONLY, 0.2])
def test_twenty_trainings_each_killed_from_outside_at_a_random_moment(
    whole: NodeState, tmp_path: Path, seconds: float
) -> None:
    chance, killed = random.Random(11), 0
    whole_seconds = (whole.result() or {})["seconds"]
    for attempt in range(KILLS):
        bench = Bench(tmp_path / str(attempt))
        node = bench.trial(**CHANGES)
        task = Task(bench.root, node.fingerprint, device="cpu", checkpoint_seconds=seconds)
        victim = start(run_to_death, task, Death())
        victim.join(chance.uniform(0, whole_seconds))
        killed += victim.is_alive()
        victim.kill()
        victim.join()
        assert call(run_to_death, task, Death()) == 0
        _assert_same(bench.states[node.fingerprint], whole)
    assert killed >= KILLS // 2


def _tracker(uri: str, folder: Path) -> Tracker:
    return Tracker(uri, "torture", folder, commit=Commit("c0ffee", False), preset="smoke")


@pytest.mark.parametrize("launcher_dies", [pytest.param(False, marks=pytest.mark.torture), True])
def test_each_epoch_is_tracked_once_however_often_it_was_killed(
    whole: NodeState, bench: Bench, tmp_path: Path, launcher_dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    prepare_store(uri)
    node = bench.trial(**CHANGES)
    state, tracker = bench.states[node.fingerprint], _tracker(uri, tmp_path)
    task = Task(bench.root, node.fingerprint, device="cpu", checkpoint_seconds=EPOCHS_ONLY)
    deaths = [Death("a line of metrics", 1), Death("a step", 6), Death("a renaming", 9), Death("a validation", 2)]
    for number, death in enumerate([*deaths, Death()]):
        tracker.begin(node, state, {})
        code = call(run_to_death, task, death)
        assert code == (-signal.SIGKILL if death.place else 0)
        tracker.sync(state)
        if launcher_dies:
            # Between writing to the store and noting it down; the next launcher is another process.
            (state.folder / "tracking.json").unlink()
            monkeypatch.setattr(os, "getpid", lambda number=number: 100_000 + number)
            tracker = _tracker(uri, tmp_path)
    tracker.finish(state)
    run_id = tracker.run_id(node.fingerprint)
    assert run_id is not None
    expected = {step: metrics for step, metrics in _metrics(whole) if step > 0}
    for name in ("train/loss", "val/top1", "val/loss"):
        history = sorted((m.step, m.value) for m in tracker.client.get_metric_history(run_id, name))
        assert history == [(step, metrics[name]) for step, metrics in expected.items()], name
    assert tracker.client.get_run(run_id).info.status == "FINISHED"
