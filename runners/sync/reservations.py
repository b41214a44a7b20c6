"""Two machines that share a tracking store and no folder never train the same node at once: they claim it there.

A claim is a run that is RUNNING. To claim a node is to look for claims of others, to open a run, and to look again: of
two that did so at once each sees the other, whatever their clocks say, because each looked after it had opened its
own. Then one waits for the other to withdraw. Whether a claim of another is alive is judged by its heartbeat, a word
that changes: watched on the own monotonic clock, never compared with a time that somebody else has written.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Mapping
from enum import StrEnum

from ablations import vocabulary as names
from ablations.planning.nodes import Node
from runners.state.nodes import NodeState
from runners.tracking.experiment import KILLED, RUNNING, KnownRun
from runners.tracking.node_tags import note_tag
from runners.tracking.tracker import Tracker

HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 90.0
"""An owner that was not heard of for so long is taken for dead: longer than any back-off of a follower."""
_CONTEST_SECONDS = 5.0


class Verdict(StrEnum):
    """What has become of a claim.

    `PENDING`: nobody knows yet. `OURS`: this launch has it. `ELSEWHERE`: another place is at it. `DONE`: a finished run
    is in the store. `UNKNOWN`: the store is away, and nobody waits for it.
    """

    PENDING = "pending"
    OURS = "ours"
    ELSEWHERE = "elsewhere"
    DONE = "done"
    UNKNOWN = "unknown"

    @property
    def is_grant(self) -> bool:
        """Whether the node may be run here."""
        return self in (Verdict.OURS, Verdict.UNKNOWN)


class Watch:
    """Whether others are alive, judged by whether their heartbeats change while the own clock runs.

    Args:
        silence: Seconds without a change after which an owner is taken for dead.
        clock: Seconds that only ever grow.
    """

    def __init__(self, silence: float = SILENCE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence, self._clock = silence, clock
        self._seen: dict[str, tuple[str, float]] = {}

    def is_alive(self, run: KnownRun) -> bool:
        """Whether the owner of a run may be at work; of one that is seen for the first time that is assumed."""
        beat = run.tags.get(names.TAG_HEARTBEAT, "")
        before, since = self._seen.get(run.run_id, ("", 0.0))
        if run.run_id not in self._seen or beat != before:
            self._seen[run.run_id] = (beat, self._clock())
            return True
        return self._clock() - since < self._silence

    def start_anew(self) -> None:
        """Forget what was seen: while the store is away nobody's heart can be heard."""
        self._seen.clear()


class Claims:
    """Claims nodes for one place in one store.

    Args:
        tracker: The store.
        watch: Who is alive.
        clock: Seconds that only ever grow.
    """

    def __init__(
        self, tracker: Tracker, watch: Watch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tracker, self._clock = tracker, clock
        self.watch = watch or Watch(clock=clock)
        self._contests: dict[str, float] = {}

    def claim(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> Verdict:
        """Claim a node, or goes on with a claim that was `PENDING`; never waits. The caller holds the folder's lock.

        A claim that is `OURS` is kept by changing its heartbeat and ends with the run.
        """
        if node.fingerprint not in self._contests:
            others, _ = self._others(state)
            if self._tracker.finished(state) is not None:
                return Verdict.DONE
            if others:
                return Verdict.ELSEWHERE
            self._enter(node, state, serves)
        others, dead = self._others(state)
        if self._tracker.finished(state) is not None:
            self.withdraw(state)
            return Verdict.DONE
        verdict = self._judge(state, others)
        if verdict == Verdict.OURS:
            self._bury(dead, state)
        return verdict

    def _enter(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Make the own claim visible before the others are looked at again."""
        run = self._tracker.own(state)
        if run is None:
            self._tracker.open(node, state, serves, heartbeat())
        else:
            self._tracker.tag(run, heartbeat())
            if run.status != RUNNING:
                self._tracker.set_status(run, RUNNING)
        self._contests[node.fingerprint] = self._clock()

    def _others(self, state: NodeState) -> tuple[list[KnownRun], list[KnownRun]]:
        """Return the claims of other places: those of the living and those of the dead."""
        place = self._tracker.place(state)
        found = self._tracker.look_up(state.fingerprint)
        claims = [run for run in found if run.status == RUNNING and run.tags.get(names.TAG_OWNER, place) != place]
        living = [run for run in claims if self.watch.is_alive(run)]
        return living, [run for run in claims if run not in living]

    def _judge(self, state: NodeState, others: list[KnownRun]) -> Verdict:
        own = self._tracker.own(state)
        if own is None:
            # Somebody has deleted it in the user interface.
            self._contests.pop(state.fingerprint)
            return Verdict.PENDING
        if not others:
            self._contests.pop(state.fingerprint)
            return Verdict.OURS
        is_first = all(own.order < other.order for other in others)
        if is_first and self._clock() - self._contests[state.fingerprint] < _CONTEST_SECONDS:
            return Verdict.PENDING
        self.withdraw(state)
        return Verdict.ELSEWHERE

    def withdraw(self, state: NodeState) -> None:
        """Give up a claim that was entered a moment ago; what an earlier attempt has measured in it stays."""
        own = self._tracker.own(state)
        if self._contests.pop(state.fingerprint, None) is None or own is None:
            return
        if own.params:
            self._tracker.set_status(own, KILLED)
        else:
            self._tracker.drop(own)

    def _bury(self, dead: list[KnownRun], state: NodeState) -> None:
        """End the runs of those that were not heard of any more, so that none is left RUNNING.

        Only now: one who wakes up while it is being judged sees the new claim, and gives way.
        """
        for run in dead:
            heir = f"place {self._tracker.place(state)} on {socket.gethostname()}"
            self._tracker.tag(run, note_tag(f"not heard of any more; taken over by {heir}"))
            self._tracker.set_status(run, KILLED)


def heartbeat() -> dict[str, str]:
    """Return the tag that shows that an owner is alive: another value each time."""
    return {names.TAG_HEARTBEAT: uuid.uuid4().hex[:12]}
