"""A launcher that dies at any call of MLflow's client repeats nothing: one run per node, each step once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations import vocabulary as names
from ablations.planning.nodes import Node
from ablations.spec.parts import Intervention
from runners.provenance import Commit
from runners.state.nodes import NodeState
from runners.tracking import Tracker
from runners.tracking.sync_notes import add_origin, unsynced
from tests.runners.bench import Bench

CALLS = (
    "create_run",
    "log_batch",
    "log_inputs",
    "set_terminated",
    "update_run",
    "search_runs",
)
SERVES = {"temperature": ["tau_30"]}


class DeathError(Exception):
    """The end of a process."""


class MortalClient:
    """A client that dies at its n-th call: before the store is asked, or after it has done what was asked."""

    def __init__(self, client: Any, left: int, *, after: bool) -> None:
        self._client, self.left, self._after = client, left, after

    def die(self) -> None:
        """Ends the launch."""
        raise DeathError

    def __getattr__(self, name: str) -> Any:
        honest = getattr(self._client, name)
        return self.mortal(honest) if name in CALLS else honest

    def mortal(self, honest: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that counts as a call."""

        def call(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self._after:
                self.die()
            answer = honest(*arguments, **more)
            if self.left == 0:
                self.die()
            return answer

        return call


class Story:
    """A training and an evaluation of it, told as steps each of which a launch may begin again."""

    def __init__(self, bench: Bench) -> None:
        self.trial = bench.trial()
        self.evaluation = bench.evaluation(self.trial, Intervention(aggregation="max"))
        self.states = bench.states

    def state(self, node: Node) -> NodeState:
        """Returns the folder of a node."""
        return self.states[node.fingerprint]

    def steps(self, tracker: Callable[[], Tracker]) -> list[Callable[[], object]]:
        """Returns what happens one after the other; `tracker` returns that of the launch that is alive."""
        trial, evaluation = self.state(self.trial), self.state(self.evaluation)
        for state in (trial, evaluation):
            add_origin(state, tracker().source, SERVES)
        return [
            lambda: tracker().begin(self.trial, trial, SERVES),
            lambda: _train(trial, 1, 2),
            lambda: tracker().sync(trial),
            lambda: _train(trial, 1, 2, 3),
            lambda: tracker().sync(trial),
            # A worker was killed and goes on from its checkpoint: the last line is written again.
            lambda: trial.truncate_events(after_step=2),
            lambda: _train(trial, 1, 2, 3, 4),
            lambda: tracker().sync(trial),
            lambda: _train(trial, 1, 2, 3, 4),
            lambda: _finish(trial, {"test/top1": 55.0}),
            lambda: tracker().finish(trial),
            lambda: _finish(evaluation, {"test/top1": 44.0}),
            lambda: tracker().record(self.evaluation, evaluation, SERVES),
        ]


def _train(state: NodeState, *steps: int) -> None:
    for step in steps:
        if all(event["step"] < step for event in state.events()):
            state.append_event(step, {"train/loss": 1.0 / step, "val/top1": 10.0 * step})


def _finish(state: NodeState, metrics: dict[str, float]) -> None:
    if not state.is_done:
        state.weights_file.write_bytes(b"weights")
        state.finish(metrics, 12.5, versions={"torch": "9"}, device="cpu")


def launch(store: str, folder: Path, left: int = 0, *, after: bool = False) -> Tracker:
    """Returns the tracker of a new launch, which dies at call `left` if that is not 0."""
    tracker = Tracker(store, f"crashes/{folder.name}", folder, commit=Commit("c0ffee", True), preset="smoke")
    tracker.client = client = MortalClient(tracker.client, left, after=after)
    # Files on this machine do not go through the client.
    patched: Any = tracker
    patched.put_file = client.mortal(tracker.put_file)
    return tracker


def _tell(store: str, folder: Path, story: Story, left: int, *, after: bool, same_launch: bool) -> bool:
    """Tells the story, with one death at call `left`; returns whether it came to that."""
    alive = [launch(store, folder, left, after=after)]
    mortal: Any = alive[0].client
    steps = story.steps(lambda: alive[0])
    number = 0
    while number < len(steps):
        try:
            steps[number]()
            number += 1
        except DeathError:
            if not same_launch:
                alive[0] = launch(store, folder)
            # Whoever comes next begins again with the node that was under way, as a tracking worker does.
            node = story.trial if number < 11 else story.evaluation
            alive[0].begin(node, story.state(node), SERVES)
            if not story.state(node).is_done:
                # The worker died with it, and there was no checkpoint yet.
                story.state(node).truncate_events(after_step=0)
                alive[0].sync(story.state(node))
    return bool(mortal.left <= 0)


def assert_whole(store: str, folder: Path, story: Story) -> None:
    """Each node has one finished run with everything in it, once."""
    tracker = launch(store, folder)
    for node in (story.trial, story.evaluation):
        (run,) = tracker.search(f"tags.`{names.TAG_FINGERPRINT}` = '{node.fingerprint}'")
        assert run.info.status == "FINISHED"
        assert run.data.params["model.num_kernels"] == "2"
        assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["fashion_mnist_mini"]
        assert run.data.tags["abl.study.temperature"] == "tau_30"
        assert [m.value for m in tracker.client.get_metric_history(run.info.run_id, "seconds")] == [12.5]
        assert len(tracker.client.get_metric_history(run.info.run_id, "test/top1")) == 1
        artifacts = [file.path for file in tracker.client.list_artifacts(run.info.run_id)]
        description = ["MLmodel"] if node is story.trial else []
        assert artifacts == [*description, "model.safetensors", "record.json"]
    history = tracker.client.get_metric_history(tracker.run_id(story.trial.fingerprint), "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]
    assert run.data.tags[names.TAG_PARENT] == tracker.run_id(story.trial.fingerprint)
    assert unsynced(story.states, store) == {}
    assert set(unsynced(story.states, "sqlite:///another.db")) == {
        story.trial.fingerprint,
        story.evaluation.fingerprint,
    }


_SLOW = pytest.mark.torture


@pytest.mark.parametrize(
    ("after", "same_launch"),
    [(True, False), *(pytest.param(*which, marks=_SLOW) for which in ((False, False), (True, True), (False, True)))],
)
def test_a_death_at_any_call_repeats_nothing_and_leaves_nothing_out(
    store: str, tmp_path: Path, after: bool, same_launch: bool
) -> None:
    for left in itertools.count(1):
        folder = tmp_path / f"{int(after)}{int(same_launch)}-{left}"
        story = Story(Bench(folder / "state"))
        died = _tell(store, folder, story, left, after=after, same_launch=same_launch)
        assert_whole(store, folder, story)
        if not died:
            break
    assert left > 15, "the story has become short"
