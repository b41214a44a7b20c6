"""The launcher beside machines with which it shares the tracking store alone: it heeds what they have claimed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest

import runners.launching.launch as launch_module
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from runners.console.progress import Progress, Summary
from runners.launching.launch import Launch, Settings
from runners.state.failures import FailurePolicy
from runners.state.nodes import NodeState
from runners.sync.follower import Follower
from runners.sync.reservations import Verdict
from tests.runners.launching.test_launch import FakeDispatcher, FakeFollower, Notes, _plan

ELSEWHERE, PENDING, OURS, DONE = Verdict.ELSEWHERE, Verdict.PENDING, Verdict.OURS, Verdict.DONE


class Claiming(FakeFollower):
    """A follower whose verdicts on some nodes change with each look; on the others it is `OURS` at once.

    Args:
        verdicts: Per fingerprint the verdicts one after the other; the last one stays. `DONE` brings the result.
    """

    def __init__(self, verdicts: Mapping[str, Iterable[Verdict]]) -> None:
        super().__init__()
        self.verdicts = {key: list(told) for key, told in verdicts.items()}
        self.claimed: Counter[str] = Counter()
        self.states: dict[str, NodeState] = {}

    def claim(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        super().claim(node, state, serves)
        assert state.node() == node, "it is described before anybody is asked"
        self.claimed[node.fingerprint] += 1
        self.states[node.fingerprint] = state

    def verdict(self, fingerprint: str) -> Verdict:
        left = self.verdicts.get(fingerprint, [OURS])
        verdict = left.pop(0) if len(left) > 1 else left[0]
        state = self.states[fingerprint]
        if verdict is DONE and not state.is_done:
            state.finish({"test/top1": 60.0}, 1.0)
        return verdict

    def stop(self, state: NodeState, status: str, reason: str) -> None:
        self.told.append((status, state.fingerprint))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAUSE_SECONDS", "_CLAIM_SECONDS"):
        monkeypatch.setattr(launch_module, name, 0.0)


def _launch(
    root: Path, plan: Plan, follower: Claiming, dispatcher: FakeDispatcher | None = None
) -> tuple[Summary, FakeDispatcher, Notes]:
    dispatcher, notes = dispatcher or FakeDispatcher(), Notes()
    settings = Settings(root, policy=FailurePolicy(wait_seconds=0.0))
    launch = Launch(plan, dispatcher, cast(Follower, follower), notes, settings)
    return launch.run(), dispatcher, notes


def test_what_another_machine_has_is_left_to_it_and_its_result_taken(tmp_path: Path) -> None:
    plan = _plan()
    theirs = next(iter(plan.evaluations.values())).trial
    follower = Claiming({theirs.fingerprint: [PENDING] * 3 + [ELSEWHERE] * 100 + [DONE]})
    summary, dispatcher, notes = _launch(tmp_path, plan, follower)
    assert theirs.fingerprint not in dispatcher.started
    assert sorted([*dispatcher.started, theirs.fingerprint]) == sorted(node.fingerprint for node in plan.nodes)
    assert (summary.finished, summary.failures, summary.blocked) == (len(plan.nodes), (), 0)
    assert [note for note in notes.notes if "by another launch" in note and theirs.title in note]
    assert set(follower.claimed.values()) == {1}


def test_what_another_machine_gives_up_is_run_here(tmp_path: Path) -> None:
    plan = _plan()
    theirs = next(iter(plan.trials))
    follower = Claiming({theirs: [ELSEWHERE] * 300 + [OURS]})
    summary, dispatcher, _ = _launch(tmp_path, plan, follower)
    assert dispatcher.started.count(theirs) == 1
    assert summary.finished == len(plan.nodes)


def test_no_more_is_claimed_than_there_are_workers_for(tmp_path: Path) -> None:
    plan = _plan()
    follower = Claiming({key: [PENDING] * 30 + [OURS] for key in plan.trials})
    looks: list[int] = []

    class Watching(Notes):
        def update(self, progress: Progress) -> None:
            looks.append(len(follower.claimed) - progress.finished)

    settings = Settings(tmp_path, policy=FailurePolicy(wait_seconds=0.0))
    summary = Launch(plan, FakeDispatcher(), cast(Follower, follower), Watching(), settings).run()
    assert summary.finished == len(plan.nodes)
    assert max(looks) == FakeDispatcher.capacity


def test_all_may_be_elsewhere(tmp_path: Path) -> None:
    plan = _plan()
    follower = Claiming({node.fingerprint: [ELSEWHERE] * 50 + [DONE] for node in plan.nodes})
    summary, dispatcher, _ = _launch(tmp_path, plan, follower)
    assert dispatcher.started == []
    assert summary.finished == len(plan.nodes)


def test_a_node_that_is_tried_again_is_not_claimed_again(tmp_path: Path) -> None:
    plan = _plan()
    victim = next(iter(plan.trials))
    follower = Claiming({})
    summary, dispatcher, _ = _launch(tmp_path, plan, follower, FakeDispatcher(fail={victim: ["killed"]}))
    assert dispatcher.started.count(victim) == 2
    assert follower.claimed[victim] == 1
    assert summary.finished == len(plan.nodes)


def test_an_interruption_gives_up_what_is_waited_for(tmp_path: Path) -> None:
    plan = _plan()
    elsewhere, undecided = list(plan.trials)[:2]
    follower = Claiming({elsewhere: [ELSEWHERE], undecided: [PENDING]})
    summary, _, _ = _launch(tmp_path, plan, follower, FakeDispatcher(interrupt=2))
    assert summary.interrupted
    assert {key for what, key in follower.told if what == "leave"} == {elsewhere, undecided}
