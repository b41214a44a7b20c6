"""The launcher against a made-up dispatcher: order, failures, interruption, what is told."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast
from uuid import uuid4

import pytest

from ablations.errors import OutputError
from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from runners.console.progress import Progress, Summary
from runners.dispatch import Completion
from runners.launching.launch import Launch
from runners.launching.settings import LaunchSettings
from runners.state.attempts import Lease, Watch
from runners.state.failures import FailurePolicy
from runners.state.nodes import NodeState, StateStore
from runners.sync.reservations import Reservation
from runners.sync.tracking_worker import TrackingWorker
from runners.workers.memory import choose_micro_batch
from runners.workers.task import Task


class FakeDispatcher:
    """Ends tasks in the order they came.

    `fail` says with which causes the attempts at a fingerprint fail, one after the other, and `crash` names those under
    which the worker dies each time; after so many ends as `interrupt` says, the user presses Ctrl-C.
    """

    capacity = 3

    def __init__(
        self, fail: dict[str, list[str]] | None = None, crash: set[str] | None = None, interrupt: int = -1
    ) -> None:
        self.fail, self.crash, self.interrupt = fail or {}, crash or set(), interrupt
        self.queue: deque[tuple[Task, Lease]] = deque()
        self.started: list[str] = []
        self.most = 0
        self.cancelled = False

    def submit(self, task: Task) -> None:
        state = StateStore(task.state_root)[task.fingerprint]
        lease = Lease.take(state.folder, task.launch, watched=task.watched)
        assert lease is not None
        state.forget_failure()
        self.started.append(task.fingerprint)
        self.queue.append((task, lease))
        self.most = max(self.most, len(self.queue))

    def wait(self, seconds: float) -> list[Completion]:
        if len(self.started) - len(self.queue) == self.interrupt:
            raise KeyboardInterrupt
        if not self.queue:
            return []
        task, lease = self.queue.popleft()
        state = StateStore(task.state_root)[task.fingerprint]
        if task.fingerprint in self.crash:
            return [Completion(task, "the worker process 7 died (killed by SIGKILL)")]
        causes = self.fail.get(task.fingerprint, [])
        if causes:
            failure = {"kind": "SomeError", "message": "it did not work", "cause": causes.pop(0)}
            state.fail(failure["kind"], failure["message"], "Traceback", failure["cause"])
            lease.end("failed", failure)
        else:
            state.finish({"test/top1": 50.0}, 1.0)
            lease.end("finished")
        return [Completion(task)]

    def cancel(self) -> None:
        self.cancelled = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        return None


class FakeTrackingWorker:
    """Notes down what it is told."""

    trouble: str | None = None

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def catch_up(self, plan: Plan, states: StateStore) -> None:
        self.told.append(("catch up", str(len(plan.done))))

    def hurry(self) -> None:
        self.told.append(("hurry", ""))

    def end_orphans(self, states: StateStore, watch: Watch) -> None:
        self.told.append(("end orphans", ""))

    def reserve(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        assert serves

    def reservation(self, fingerprint: str) -> Reservation:
        return Reservation.UNKNOWN

    def leave(self, state: NodeState) -> None:
        self.told.append(("leave", state.fingerprint))

    def begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        assert serves
        self.told.append(("begin", node.fingerprint))

    def finish(self, state: NodeState) -> None:
        assert ("begin", state.fingerprint) in self.told
        self.told.append(("finish", state.fingerprint))

    def stop(self, state: NodeState, status: str, reason: str) -> None:
        assert ("begin", state.fingerprint) in self.told
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


def _launch(
    root: Path, dispatcher: FakeDispatcher, plan: Plan, **settings: Any
) -> tuple[Summary, FakeTrackingWorker, Notes]:
    tracking, notes = FakeTrackingWorker(), Notes()
    launch_settings = LaunchSettings(**{"policy": FailurePolicy(wait_seconds=0.0), **settings})
    worker = cast(TrackingWorker, tracking)
    launch = Launch(plan, StateStore(root), dispatcher, worker, notes, launch_settings, name=uuid4().hex)
    return launch.run(), tracking, notes


def test_everything_runs_once_each_training_before_its_evaluations(tmp_path: Path) -> None:
    plan, dispatcher = _plan(), FakeDispatcher()
    summary, tracking, notes = _launch(tmp_path, dispatcher, plan)
    assert sorted(dispatcher.started) == sorted(node.fingerprint for node in plan.nodes)
    for node in plan.evaluations.values():
        assert dispatcher.started.index(node.trial.fingerprint) < dispatcher.started.index(node.fingerprint)
    assert (summary.finished, summary.failures, summary.blocked) == (len(plan.nodes), (), 0)
    assert dispatcher.most <= dispatcher.capacity
    assert notes.shares == sorted(notes.shares)
    assert notes.shares[-1] == pytest.approx(1.0)
    assert [what for what, _ in tracking.told].count("finish") == len(plan.nodes)


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
    dispatcher = FakeDispatcher(fail={parent: ["training"]})
    summary, tracking, notes = _launch(tmp_path, dispatcher, plan)
    blocked = [node for node in plan.evaluations.values() if node.depends_on == parent]
    assert summary.blocked == len(blocked) > 0
    assert summary.finished == len(plan.nodes) - 1 - len(blocked)
    assert [(failure.reason, failure.attempts) for failure in summary.failures] == [("SomeError: it did not work", 1)]
    assert ("FAILED", parent) in tracking.told
    assert "Traceback" in summary.failures[0].log_file.read_text()
    assert any(note.startswith("failed") for note in notes.notes)


def test_a_dead_worker_is_a_failure_with_its_cause(tmp_path: Path) -> None:
    plan = _plan()
    victim = list(plan.trials)[-1]
    dispatcher = FakeDispatcher(crash={victim})
    summary, _, _ = _launch(tmp_path, dispatcher, plan)
    assert [("SIGKILL" in failure.reason, failure.attempts) for failure in summary.failures] == [(True, 3)]
    assert dispatcher.started.count(victim) == 3
    attempts = StateStore(tmp_path)[victim].attempts()
    assert [(attempt.outcome, (attempt.failure or {})["cause"]) for attempt in attempts] == [("killed", "killed")] * 3


def test_an_interruption_keeps_what_is_finished_and_marks_the_rest(tmp_path: Path) -> None:
    plan, dispatcher = _plan(), FakeDispatcher(interrupt=4)
    summary, tracking, _ = _launch(tmp_path, dispatcher, plan)
    assert summary.interrupted
    assert dispatcher.cancelled
    assert summary.finished == 4
    killed = {key for what, key in tracking.told if what == "KILLED"}
    assert killed == {task.fingerprint for task, _ in dispatcher.queue}
    assert killed
    assert {StateStore(tmp_path)[key].attempts()[-1].outcome for key in killed} == {"interrupted"}
    assert StateStore(tmp_path).done(plan.trials) == set(dispatcher.started[:4])


def test_a_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dispatcher = FakeDispatcher()
    with pytest.raises(OutputError):
        _launch(tmp_path / "file" / "state", dispatcher, _plan())
    assert dispatcher.started == []


def test_a_training_asks_for_its_devices_and_an_evaluation_for_one(tmp_path: Path) -> None:
    request = Request(get_preset("smoke"), {"train.devices": 2})
    plan = make_plan([get_study("aggregation", request.base())], request)
    asked: dict[str, int] = {}

    class Noting(FakeDispatcher):
        def submit(self, task: Task) -> None:
            asked[task.fingerprint] = task.devices
            super().submit(task)

    _launch(tmp_path, Noting(), plan)
    assert asked == dict.fromkeys(plan.trials, 2) | dict.fromkeys(plan.evaluations, 1)


def test_nodes_are_described_before_they_are_submitted(tmp_path: Path) -> None:
    plan = _plan()
    _launch(tmp_path, FakeDispatcher(), plan)
    for node in plan.nodes:
        found: Any = StateStore(tmp_path)[node.fingerprint].node()
        assert found == node
        assert isinstance(found, EvaluationNode) == isinstance(node, EvaluationNode)


@pytest.mark.parametrize(
    ("causes", "outcome", "attempts"),
    [
        (["killed", "input_output"], "finished", 3),
        (["killed", "killed", "killed"], "failed", 3),
        (["memory", "training"], "failed", 2),
        (["error"], "failed", 1),
    ],
)
def test_what_may_pass_is_tried_again_as_often_as_the_policy_says(
    tmp_path: Path, causes: list[str], outcome: str, attempts: int
) -> None:
    plan = _plan()
    victim = next(iter(plan.evaluations.values())).trial.fingerprint
    dispatcher = FakeDispatcher(fail={victim: list(causes)})
    summary, tracking, notes = _launch(tmp_path, dispatcher, plan)
    assert dispatcher.started.count(victim) == attempts
    assert [attempt.outcome for attempt in StateStore(tmp_path)[victim].attempts()][-1] == outcome
    assert [failure.attempts for failure in summary.failures] == ([] if outcome == "finished" else [attempts])
    assert (summary.blocked == 0) is (outcome == "finished")
    assert ("FAILED" in [what for what, key in tracking.told if key == victim]) is (outcome == "failed")
    assert sum(note.startswith("retrying") for note in notes.notes) == attempts - 1
    assert notes.shares[-1] == pytest.approx(1.0)


def test_the_others_go_on_while_a_node_waits_for_its_next_attempt(tmp_path: Path) -> None:
    plan = _plan()
    victim = next(iter(plan.trials))
    dispatcher = FakeDispatcher(fail={victim: ["killed"]})
    started = time.monotonic()
    summary, _, _ = _launch(tmp_path, dispatcher, plan, policy=FailurePolicy(wait_seconds=1.0))
    assert time.monotonic() - started >= 1.0
    assert summary.failures == ()
    rests_on_it = 1 + [node.depends_on for node in plan.nodes].count(victim)
    assert dispatcher.started.index(victim, 1) == len(dispatcher.started) - rests_on_it


@pytest.mark.parametrize(("cause", "tried"), [("training", False), ("spec", False), ("error", True), ("killed", True)])
@pytest.mark.parametrize("again", [False, True])
def test_a_later_launch_tries_what_may_have_been_mended_and_a_retry_everything(
    tmp_path: Path, cause: str, tried: bool, again: bool
) -> None:
    plan = _plan()
    victim = next(iter(plan.evaluations.values())).trial.fingerprint
    _launch(tmp_path, FakeDispatcher(fail={victim: [cause] * 3}), plan)
    dispatcher = FakeDispatcher()
    missing = _plan(StateStore(tmp_path).done(node.fingerprint for node in plan.nodes))
    summary, tracking, _ = _launch(tmp_path, dispatcher, missing, again=again)
    assert (victim in dispatcher.started) is (tried or again)
    if tried or again:
        assert summary.finished == len(missing.missing)
        return
    assert dispatcher.started == []
    assert [(failure.reason, failure.attempts) for failure in summary.failures] == [("SomeError: it did not work", 0)]
    assert summary.blocked == [node.depends_on for node in plan.nodes].count(victim)
    assert [what for what, _ in tracking.told if what != "catch up"] == ["end orphans", "end orphans"]


def test_the_first_final_failure_ends_a_launch_that_is_asked_to(tmp_path: Path) -> None:
    plan = _plan()
    victim = list(plan.trials)[1]
    dispatcher = FakeDispatcher(fail={victim: ["training"]})
    summary, tracking, _ = _launch(tmp_path, dispatcher, plan, fail_fast=True)
    assert (summary.finished, len(summary.failures), summary.interrupted) == (1, 1, False)
    assert summary.finished + 1 + summary.blocked + summary.stopped == len(plan.nodes)
    assert dispatcher.cancelled
    killed = {key for what, key in tracking.told if what == "KILLED"}
    assert killed == {task.fingerprint for task, _ in dispatcher.queue}


def test_lack_of_memory_is_tried_again_with_fewer_images_at_once_as_long_as_that_helps(tmp_path: Path) -> None:
    request = Request(get_preset("smoke"), {"train.on_out_of_memory": "halve_micro_batch", "train.batch_size": 64})
    plan = make_plan([get_study("temperature", request.base())], request)
    victim = next(iter(plan.trials))
    tried: list[int] = []

    class Halving(FakeDispatcher):
        def submit(self, task: Task) -> None:
            super().submit(task)
            if task.fingerprint == victim:
                state = StateStore(task.state_root)[task.fingerprint]
                tried.append(choose_micro_batch(plan.trials[victim].spec.train, state.attempts()))
                self.queue[-1][1].note(micro_batch=tried[-1])

    summary, _, _ = _launch(tmp_path, Halving(fail={victim: ["memory"] * 3}), plan, policy=FailurePolicy(retries=0))
    assert tried == [64, 32, 16, 8]
    assert summary.failures == ()
    summary, _, _ = _launch(tmp_path / "never", Halving(fail={victim: ["memory"] * 9}), plan, policy=FailurePolicy(0))
    assert tried[4:] == [64, 32, 16, 8]
    assert [failure.attempts for failure in summary.failures] == [1]
