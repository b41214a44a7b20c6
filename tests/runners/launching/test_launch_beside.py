"""The launcher beside other launches: what they run is waited for, used, and taken over when they have left it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import runners.launching.launch as launch_module
from ablations.planning.nodes import Node
from runners.dispatch import Completion
from runners.state.attempts import Lease
from runners.state.files import write_json
from runners.state.nodes import NodeState, StateStore
from runners.workers.task import Task
from tests.runners.launching.test_launch import FakeDispatcher, Notes, _launch, _plan


class Elsewhere:
    """Another launch that holds a lease on a node, and ends it when this launch has looked at it a few times."""

    def __init__(self, root: Path, node: Node, end: Callable[[NodeState, Lease], None]) -> None:
        self.state, self.end = StateStore(root)[node.fingerprint], end
        lease = Lease.take(self.state.folder, "another launch")
        assert lease is not None
        self.lease, self.looks = lease, 0

    def look(self) -> None:
        self.looks += 1
        if self.looks == 20:
            self.end(self.state, self.lease)


def _finish(state: NodeState, lease: Lease) -> None:
    state.finish({"test/top1": 60.0}, 1.0)
    lease.end("finished")


def _die(state: NodeState, lease: Lease) -> None:
    last = state.lease()
    assert last is not None
    write_json(
        state.folder / "attempts" / "000001.json", asdict(replace(last, process=replace(last.process, pid=2**22 + 1)))
    )


def _fail(cause: str) -> Callable[[NodeState, Lease], None]:
    return lambda state, lease: lease.end("failed", {"kind": "E", "message": "elsewhere", "cause": cause})


@pytest.mark.parametrize(
    ("end", "own_attempts", "failures", "said"),
    [
        (_finish, 0, [], "by another launch"),
        (_die, 1, [], "taken over"),
        (lambda state, lease: lease.end("interrupted"), 1, [], "taken over"),
        (_fail("killed"), 1, [], "retrying"),
        (_fail("training"), 0, ["E: elsewhere"], "failed"),
    ],
)
def test_what_another_launch_runs_is_waited_for_and_taken_over_when_it_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[NodeState, Lease], None],
    own_attempts: int,
    failures: list[str],
    said: str,
) -> None:
    plan = _plan()
    theirs = next(iter(plan.evaluations.values())).network
    other = Elsewhere(tmp_path, theirs, end)
    monkeypatch.setattr(launch_module, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(Notes, "update", lambda self, progress: (self.shares.append(progress.share), other.look()))
    dispatcher = FakeDispatcher()
    summary, tracking, notes = _launch(tmp_path, dispatcher, plan)
    assert dispatcher.started.count(theirs.fingerprint) == own_attempts
    assert [failure.reason for failure in summary.failures] == failures
    assert summary.finished + summary.blocked + len(failures) == len(plan.nodes)
    told = [what for what, key in tracking.told if key == theirs.fingerprint and what != "leave"]
    assert told == (["begin", "FAILED"] if failures else ["begin", "finish"]), "it is tracked, whoever has run it"
    assert sum(said in note for note in notes.notes) == 1


def test_a_worker_that_came_too_late_for_a_lease_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan()
    theirs = next(iter(plan.trials.values()))
    others: list[Elsewhere] = []

    class Late(FakeDispatcher):
        """Another launch takes the lease between the launcher's look and the worker's."""

        def submit(self, task: Task) -> None:
            if task.fingerprint == theirs.fingerprint:
                others.append(Elsewhere(tmp_path, theirs, _finish))
            else:
                super().submit(task)

        def wait(self, seconds: float) -> list[Completion]:
            if others and not self.cancelled:
                self.cancelled = True
                return [Completion(Task(tmp_path, theirs.fingerprint))]
            return super().wait(seconds)

    monkeypatch.setattr(launch_module, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(Notes, "update", lambda self, progress: [other.look() for other in others])
    summary, _, _ = _launch(tmp_path, Late(), plan)
    assert (summary.finished, summary.failures) == (len(plan.nodes), ())
    assert [attempt.launch for attempt in StateStore(tmp_path)[theirs.fingerprint].attempts()] == ["another launch"]


def test_a_launch_does_not_wait_for_its_own_worker_where_another_launch_has_taken_over(tmp_path: Path) -> None:
    plan = _plan()
    suspended = next(iter(plan.trials.values()))

    class Suspended(FakeDispatcher):
        """One of its workers stands still, and never wakes up."""

        def wait(self, seconds: float) -> list[Completion]:
            if self.queue and self.queue[0][0].fingerprint == suspended.fingerprint:
                task, lease = self.queue.popleft()
                state = StateStore(task.state_root)[task.fingerprint]
                last = state.lease()
                assert last is not None
                theirs = Lease.take(state.folder, "another launch", watched=last.token)
                assert theirs is not None
                _finish(state, theirs)
                self.asleep = (task, lease)
            return super().wait(seconds)

    dispatcher = Suspended()
    summary, tracking, notes = _launch(tmp_path, dispatcher, plan)
    assert (summary.finished, summary.failures) == (len(plan.nodes), ())
    assert ("finish", suspended.fingerprint) in tracking.told
    assert sum("by another launch" in note for note in notes.notes) == 1
