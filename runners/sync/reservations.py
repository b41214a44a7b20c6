"""This module keeps two machines that share a tracking store and no folder from training the same node at once.

They reserve the node in the store. A reservation is a run that is RUNNING. To reserve a node is to look for
reservations of others, to open a run, and to look again: of two that did so at once each sees the other, whatever their
clocks say, because each looked after it had opened its own. Then one waits for the other to withdraw. A reservation of
another machine is alive while its heartbeat, a tag, changes: that is watched on this machine's monotonic clock, never
compared with a time that another machine has written.
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
"""An owner without a heartbeat for so long is taken for dead: longer than any back-off of a tracking worker."""
_CONTEST_SECONDS = 5.0


class Reservation(StrEnum):
    """The state of a reservation.

    `PENDING`: not decided yet. `OURS`: this launch has the node. `ELSEWHERE`: another place runs it. `DONE`: a finished
    run is in the store. `UNKNOWN`: the store is away, and nobody waits for it.
    """

    PENDING = "pending"
    OURS = "ours"
    ELSEWHERE = "elsewhere"
    DONE = "done"
    UNKNOWN = "unknown"

    @property
    def is_grant(self) -> bool:
        """True if the node may be run here."""
        return self in (Reservation.OURS, Reservation.UNKNOWN)


class HeartbeatWatch:
    """A watch over other owners, who are alive while their heartbeats change on this machine's clock.

    Args:
        silence: Seconds without a change after which an owner is taken for dead.
        clock: Seconds that only ever grow.
    """

    def __init__(self, silence: float = SILENCE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence, self._clock = silence, clock
        self._seen: dict[str, tuple[str, float]] = {}

    def is_alive(self, run: KnownRun) -> bool:
        """Return True if the owner of a run may be at work; at the first sight of a run that is assumed."""
        beat = run.tags.get(names.TAG_HEARTBEAT, "")
        before, since = self._seen.get(run.run_id, ("", 0.0))
        if run.run_id not in self._seen or beat != before:
            self._seen[run.run_id] = (beat, self._clock())
            return True
        return self._clock() - since < self._silence

    def start_anew(self) -> None:
        """Forget all heartbeats: while the store is away none can be seen, so their age says nothing."""
        self._seen.clear()


class Reservations:
    """Reserves nodes for one place in one store.

    Args:
        watch: Knows which owners are alive.
        clock: Seconds that only ever grow.
    """

    def __init__(
        self, tracker: Tracker, watch: HeartbeatWatch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tracker, self._clock = tracker, clock
        self.watch = watch or HeartbeatWatch(clock=clock)
        # The time at which this place made each reservation that is not decided yet.
        self._contests: dict[str, float] = {}

    def reserve(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> Reservation:
        """Reserve a node, or go on with a reservation that was `PENDING`. The caller holds the folder's lock.

        This never waits. A reservation that is `OURS` is kept by changing its heartbeat and ends with the run.
        """
        if node.fingerprint not in self._contests:
            # The first look opens no run, which would have to be deleted again if there are rivals.
            rivals, _ = self._rivals(state)
            if self._tracker.finished(state) is not None:
                return Reservation.DONE
            if rivals:
                return Reservation.ELSEWHERE
            self._enter(node, state, serves)
        # The second look, after this reservation can be seen: the first one may have missed one made at once.
        rivals, dead = self._rivals(state)
        if self._tracker.finished(state) is not None:
            self.withdraw(state)
            return Reservation.DONE
        reservation = self._decide(state, rivals)
        if reservation is Reservation.OURS:
            self._end_dead(dead, state)
        return reservation

    def _enter(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Make this reservation visible before the others are looked at again."""
        # The run of an earlier attempt is reserved again, so that a node has one run per folder.
        run = self._tracker.unfinished(state)
        if run is None:
            self._tracker.open(node, state, serves, heartbeat())
        else:
            self._tracker.tag(run, heartbeat())
            if run.status != RUNNING:
                self._tracker.set_status(run, RUNNING)
        self._contests[node.fingerprint] = self._clock()

    def _rivals(self, state: NodeState) -> tuple[list[KnownRun], list[KnownRun]]:
        """Return the reservations of other places: those of the living and those of the dead."""
        own_folder = self._tracker.folder_id(state)
        living: list[KnownRun] = []
        dead: list[KnownRun] = []
        for run in self._tracker.look_up(state.fingerprint):
            if run.status == RUNNING and run.tags.get(names.TAG_OWNER, own_folder) != own_folder:
                group = living if self.watch.is_alive(run) else dead
                group.append(run)
        return living, dead

    def _decide(self, state: NodeState, rivals: list[KnownRun]) -> Reservation:
        own_run = self._tracker.unfinished(state)
        if own_run is None:
            # Somebody has deleted it in the user interface.
            self._contests.pop(state.fingerprint)
            return Reservation.PENDING
        if not rivals:
            self._contests.pop(state.fingerprint)
            return Reservation.OURS
        # Both sides compute the same order of runs, so exactly one of them is first and waits for the other.
        is_first = all(own_run.order < rival.order for rival in rivals)
        if is_first and self._clock() - self._contests[state.fingerprint] < _CONTEST_SECONDS:
            return Reservation.PENDING
        self.withdraw(state)
        return Reservation.ELSEWHERE

    def withdraw(self, state: NodeState) -> None:
        """Give up a reservation made a moment ago; measurements of an earlier attempt in its run stay."""
        own_run = self._tracker.unfinished(state)
        if self._contests.pop(state.fingerprint, None) is None or own_run is None:
            return
        # Params are written when a node begins: a run that has them may hold measurements.
        if own_run.params:
            self._tracker.set_status(own_run, KILLED)
        else:
            self._tracker.drop(own_run)

    def _end_dead(self, dead: list[KnownRun], state: NodeState) -> None:
        """End the runs of dead owners, so that none is left RUNNING.

        Called only once the node is reserved here: an owner that wakes up meanwhile sees that, and gives way.
        """
        for run in dead:
            heir = f"place {self._tracker.folder_id(state)} on {socket.gethostname()}"
            self._tracker.tag(run, note_tag(f"not heard of any more; taken over by {heir}"))
            self._tracker.set_status(run, KILLED)


def heartbeat() -> dict[str, str]:
    """Return the tag that shows that an owner is alive, with another value each time."""
    return {names.TAG_HEARTBEAT: uuid.uuid4().hex[:12]}
