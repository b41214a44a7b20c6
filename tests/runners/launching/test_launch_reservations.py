"""The launcher beside machines with which it shares the tracking store alone: it heeds what they have reserved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

import runners.launching.launch as launch_module
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from runners.console.progress import Progress, Summary
from runners.launching.launch import Launch
from runners.launching.settings import LaunchSettings
from runners.state.failures import FailurePolicy
from runners.state.nodes import NodeState, StateStore
from runners.sync.reservations import Reservation
from runners.sync.tracking_worker import TrackingWorker
from tests.runners.launching.test_launch import FakeDispatcher, FakeTrackingWorker, Notes, _plan

ELSEWHERE, PENDING, OURS, DONE = Reservation.ELSEWHERE, Reservation.PENDING, Reservation.OURS, Reservation.DONE


class ReservingWorker(FakeTrackingWorker):
    """A tracking worker whose reservations on some nodes change with each look; on the others it is `OURS` at once.

    Args:
        reservations: Per fingerprint the reservations one after the other; the last one stays. `DONE` brings the
            result.
    """

    def __init__(self, reservations: Mapping[str, Iterable[Reservation]]) -> None:
        super().__init__()
        self.reservations = {key: list(told) for key, told in reservations.items()}
        self.reserved: Counter[str] = Counter()
        self.states: dict[str, NodeState] = {}

    def reserve(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        super().reserve(node, state, serves)
        assert state.node() == node, "it is described before anybody is asked"
        self.reserved[node.fingerprint] += 1
        self.states[node.fingerprint] = state

    def reservation(self, fingerprint: str) -> Reservation:
        left = self.reservations.get(fingerprint, [OURS])
        reservation = left.pop(0) if len(left) > 1 else left[0]
        state = self.states[fingerprint]
        if reservation is DONE and not state.is_done:
            state.finish({"test/top1": 60.0}, 1.0)
        return reservation

    def stop(self, state: NodeState, status: str, reason: str) -> None:
        self.told.append((status, state.fingerprint))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAUSE_SECONDS", "_RESERVATION_SECONDS"):
        monkeypatch.setattr(launch_module, name, 0.0)


def _launch(
    root: Path, plan: Plan, tracking: ReservingWorker, dispatcher: FakeDispatcher | None = None
) -> tuple[Summary, FakeDispatcher, Notes]:
    dispatcher, notes = dispatcher or FakeDispatcher(), Notes()
    settings, worker = LaunchSettings(policy=FailurePolicy(wait_seconds=0.0)), cast(TrackingWorker, tracking)
    launch = Launch(plan, StateStore(root), dispatcher, worker, notes, settings, name=uuid4().hex)
    return launch.run(), dispatcher, notes


def test_what_another_machine_has_is_left_to_it_and_its_result_taken(tmp_path: Path) -> None:
    plan = _plan()
    theirs = next(iter(plan.evaluations.values())).trial
    tracking = ReservingWorker({theirs.fingerprint: [PENDING] * 3 + [ELSEWHERE] * 100 + [DONE]})
    summary, dispatcher, notes = _launch(tmp_path, plan, tracking)
    assert theirs.fingerprint not in dispatcher.started
    assert sorted([*dispatcher.started, theirs.fingerprint]) == sorted(node.fingerprint for node in plan.nodes)
    assert (summary.finished, summary.failures, summary.blocked) == (len(plan.nodes), (), 0)
    assert [note for note in notes.notes if "by another launch" in note and theirs.title in note]
    assert set(tracking.reserved.values()) == {1}


def test_what_another_machine_gives_up_is_run_here(tmp_path: Path) -> None:
    plan = _plan()
    theirs = next(iter(plan.trials))
    tracking = ReservingWorker({theirs: [ELSEWHERE] * 300 + [OURS]})
    summary, dispatcher, _ = _launch(tmp_path, plan, tracking)
    assert dispatcher.started.count(theirs) == 1
    assert summary.finished == len(plan.nodes)


def test_no_more_is_reserved_than_there_are_workers_for(tmp_path: Path) -> None:
    plan = _plan()
    tracking = ReservingWorker({key: [PENDING] * 30 + [OURS] for key in plan.trials})
    looks: list[int] = []

    class Watching(Notes):
        def update(self, progress: Progress) -> None:
            looks.append(len(tracking.reserved) - progress.finished)

    settings, worker = LaunchSettings(policy=FailurePolicy(wait_seconds=0.0)), cast(TrackingWorker, tracking)
    states = StateStore(tmp_path)
    summary = Launch(plan, states, FakeDispatcher(), worker, Watching(), settings, name=uuid4().hex).run()
    assert summary.finished == len(plan.nodes)
    assert max(looks) == FakeDispatcher.capacity


def test_all_may_be_elsewhere(tmp_path: Path) -> None:
    plan = _plan()
    tracking = ReservingWorker({node.fingerprint: [ELSEWHERE] * 50 + [DONE] for node in plan.nodes})
    summary, dispatcher, _ = _launch(tmp_path, plan, tracking)
    assert dispatcher.started == []
    assert summary.finished == len(plan.nodes)


def test_a_node_that_is_tried_again_is_not_reserved_again(tmp_path: Path) -> None:
    plan = _plan()
    victim = next(iter(plan.trials))
    tracking = ReservingWorker({})
    summary, dispatcher, _ = _launch(tmp_path, plan, tracking, FakeDispatcher(fail={victim: ["killed"]}))
    assert dispatcher.started.count(victim) == 2
    assert tracking.reserved[victim] == 1
    assert summary.finished == len(plan.nodes)


def test_an_interruption_gives_up_what_is_waited_for(tmp_path: Path) -> None:
    plan = _plan()
    elsewhere, undecided = list(plan.trials)[:2]
    tracking = ReservingWorker({elsewhere: [ELSEWHERE], undecided: [PENDING]})
    summary, _, _ = _launch(tmp_path, plan, tracking, FakeDispatcher(interrupt=2))
    assert summary.interrupted
    assert {key for what, key in tracking.told if what == "leave"} == {elsewhere, undecided}
