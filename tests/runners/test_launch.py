"""The launcher against a made-up dispatcher: order, failures, interruption, what is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import pytest

from ablations.errors import OutputError
from ablations.planning import EvaluationNode, Node, Plan, Request, make_plan
from ablations.presets import get_preset
from ablations.registry import get_study
from runners.dispatch import Completion
from runners.follower import Follower
from runners.launch import Launch, Progress, Settings, Summary
from runners.state import NodeState, StateStore
from runners.task import Task


class FakeDispatcher:
    """Ends tasks in the order they came; `fail`, `crash` and `interrupt` name fingerprints that end otherwise."""

    capacity = 3

    def __init__(self, fail: set[str] | None = None, crash: set[str] | None = None, interrupt: int = -1) -> None:
        self.fail, self.crash, self.interrupt = fail or set(), crash or set(), interrupt
        self.queue: deque[Task] = deque()
        self.started: list[str] = []
        self.most = 0
        self.cancelled = False

    def submit(self, task: Task) -> None:
        self.started.append(task.fingerprint)
        self.queue.append(task)
        self.most = max(self.most, len(self.queue))

    def wait(self, seconds: float) -> list[Completion]:
        if len(self.started) - len(self.queue) == self.interrupt:
            raise KeyboardInterrupt
        if not self.queue:
            return []
        task = self.queue.popleft()
        state = StateStore(task.state_root)[task.fingerprint]
        if task.fingerprint in self.crash:
            return [Completion(task, "the worker process 7 died (killed by SIGKILL)")]
        if task.fingerprint in self.fail:
            state.fail("TrainingError", "the loss is nan", "Traceback")
        else:
            state.finish({"test/top1": 50.0}, 1.0)
        return [Completion(task)]

    def cancel(self) -> None:
        self.cancelled = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        return None


class FakeFollower:
    """Notes down what it is told."""

    trouble: str | None = None

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def catch_up(self, plan: Plan, states: StateStore) -> None:
        self.told.append(("catch up", str(len(plan.done))))

    def begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        assert serves
        self.told.append(("begin", node.fingerprint))

    def finish(self, state: NodeState) -> None:
        self.told.append(("finish", state.fingerprint))

    def stop(self, state: NodeState, status: str, reason: str) -> None:
        self.told.append((status, state.fingerprint))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        return None


class Notes:
    """A display that remembers."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.notes: list[str] = []

    def update(self, progress: Progress) -> None:
        self.shares.append(progress.share)

    def note(self, message: str) -> None:
        self.notes.append(message)


def _plan(done: frozenset[str] = frozenset()) -> Plan:
    request = Request(get_preset("smoke"))
    return make_plan([get_study(name, request.base()) for name in ("aggregation", "temperature")], request, done)


def _launch(root: Path, dispatcher: FakeDispatcher, plan: Plan) -> tuple[Summary, FakeFollower, Notes]:
    follower, notes = FakeFollower(), Notes()
    launch = Launch(plan, dispatcher, cast(Follower, follower), notes, Settings(root))
    return launch.run(), follower, notes


def test_everything_runs_once_each_training_before_its_evaluations(tmp_path: Path) -> None:
    plan, dispatcher = _plan(), FakeDispatcher()
    summary, follower, notes = _launch(tmp_path, dispatcher, plan)
    assert sorted(dispatcher.started) == sorted(node.fingerprint for node in plan.nodes)
    for node in plan.evaluations.values():
        assert dispatcher.started.index(node.trial.fingerprint) < dispatcher.started.index(node.fingerprint)
    assert (summary.finished, summary.failures, summary.blocked) == (len(plan.nodes), (), 0)
    assert dispatcher.most <= dispatcher.capacity
    assert notes.shares == sorted(notes.shares)
    assert notes.shares[-1] == pytest.approx(1.0)
    assert [what for what, _ in follower.told].count("finish") == len(plan.nodes)


def test_what_is_done_is_not_started(tmp_path: Path) -> None:
    whole = _plan()
    done = frozenset(list(whole.trials)[:5])
    dispatcher = FakeDispatcher()
    _launch(tmp_path, dispatcher, _plan(done))
    assert not done & set(dispatcher.started)
    assert len(dispatcher.started) == len(whole.nodes) - 5


def test_a_failed_training_blocks_its_evaluations_and_nothing_else(tmp_path: Path) -> None:
    plan = _plan()
    parent = next(iter(plan.evaluations.values())).trial.fingerprint
    dispatcher = FakeDispatcher(fail={parent})
    summary, follower, notes = _launch(tmp_path, dispatcher, plan)
    blocked = plan.evaluations_of(parent)
    assert summary.blocked == len(blocked) > 0
    assert summary.finished == len(plan.nodes) - 1 - len(blocked)
    assert [failure.reason for failure in summary.failures] == ["TrainingError: the loss is nan"]
    assert ("FAILED", parent) in follower.told
    assert "Traceback" in summary.failures[0].log_file.read_text()
    assert any(note.startswith("failed") for note in notes.notes)


def test_a_dead_worker_is_a_failure_with_its_cause(tmp_path: Path) -> None:
    plan = _plan()
    victim = list(plan.trials)[-1]
    summary, _, _ = _launch(tmp_path, FakeDispatcher(crash={victim}), plan)
    assert ["SIGKILL" in failure.reason for failure in summary.failures] == [True]


def test_an_interruption_keeps_what_is_finished_and_marks_the_rest(tmp_path: Path) -> None:
    plan, dispatcher = _plan(), FakeDispatcher(interrupt=4)
    summary, follower, _ = _launch(tmp_path, dispatcher, plan)
    assert summary.interrupted
    assert dispatcher.cancelled
    assert summary.finished == 4
    killed = [key for what, key in follower.told if what == "KILLED"]
    assert len(killed) == len(dispatcher.queue) > 0
    assert StateStore(tmp_path).done(plan.trials) == set(dispatcher.started[:4])


def test_a_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dispatcher = FakeDispatcher()
    with pytest.raises(OutputError):
        _launch(tmp_path / "file" / "state", dispatcher, _plan())
    assert dispatcher.started == []


def test_nodes_are_described_before_they_are_submitted(tmp_path: Path) -> None:
    plan = _plan()
    _launch(tmp_path, FakeDispatcher(), plan)
    for node in plan.nodes:
        found: Any = StateStore(tmp_path)[node.fingerprint].node()
        assert found == node
        assert isinstance(found, EvaluationNode) == isinstance(node, EvaluationNode)
