"""This module brings one node at a time to its goal in the tracking store: reserved, followed, finished or stopped.

`runners.sync.tracking_worker` calls `RunWriter.advance` from its thread and passes the time in. Each step may be
repeated from the start after a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from ablations.errors import TrackingError
from ablations.planning.nodes import Node
from runners.state.nodes import NodeState
from runners.sync.fetch import fetch
from runners.sync.reservations import Reservation, Reservations, heartbeat
from runners.tracking.store import is_shared
from runners.tracking.sync_notes import NodeLock
from runners.tracking.tracker import Tracker

SYNC_SECONDS = 2.0
FOLLOW_SECONDS = 10.0
"""Seconds between two looks at a node that runs: a request costs the same for one epoch as for several."""
SHORT_SECONDS = 3.0
"""Seconds before the run of an evaluation is opened: most are over by then, and take half as many requests."""
# Between two looks at a reservation that is not decided, or at weights that another launch fetches: a worker waits.
_CONTEST_SECONDS = 0.3
# Between two looks at a node that another machine runs.
_ELSEWHERE_SECONDS = 5.0


class Goal(Enum):
    """What a node shall be in the store. The launch sets it; only `RESERVED` turns into `FOLLOWED` by itself."""

    RESERVED = auto()
    """This launch may run the node: no other machine does."""
    FOLLOWED = auto()
    """Its run is open and gets new lines of metrics."""
    FINISHED = auto()
    """Its run has everything and is FINISHED."""
    STOPPED = auto()
    """Its run is FAILED or KILLED. A later attempt opens it again."""


class RunState(Enum):
    """What this process knows of a node's run."""

    UNKNOWN = auto()
    """Nothing yet, or not how much of a failed step has reached the store. The store is asked first."""
    LOOKED_UP = auto()
    """The node was reserved, and with that its runs were read, just now."""
    OPEN = auto()
    """The run can be written."""


@dataclass
class TrackedNode:
    """A node and its goal in the store.

    Attributes:
        serves: The studies that it serves, each with the keys of its variants.
        status: `FAILED` or `KILLED`, for a run that is to be stopped.
        reason: The reason for that, for a person.
        due: The time of the next step.
        delay: The pause after the last failure.
        synced_size: The size of the events file that was brought over.
        first_look: The time of the first look at a short node.
    """

    node: Node
    state: NodeState
    serves: Mapping[str, list[str]]
    goal: Goal
    status: str = ""
    reason: str = ""
    reservation: Reservation = Reservation.PENDING
    run_state: RunState = RunState.UNKNOWN
    run_id: str = ""
    due: float = 0.0
    delay: float = 0.0
    lock: NodeLock = field(init=False)
    synced_size: int = -1
    first_look: float | None = None

    def __post_init__(self) -> None:
        self.lock = NodeLock(self.state)


class RunWriter:
    """Writes the runs of tracked nodes in one store."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.reservations = Reservations(tracker)
        self.is_shared = is_shared(tracker.uri)

    def advance(self, tracked: TrackedNode, clock_time: float) -> float | None:
        """Bring a node as near to its goal as is possible now; return the seconds until the next step.

        `None` says that the goal is reached and nothing is left to do.

        Args:
            clock_time: Seconds on a clock that only ever grows.
        """
        if not tracked.lock.acquire():
            # Another launch in the same folder of states follows the node.
            if tracked.goal is Goal.RESERVED:
                tracked.reservation = Reservation.ELSEWHERE
            return SYNC_SECONDS
        if tracked.goal is Goal.RESERVED:
            return self._reserve(tracked)
        if tracked.run_state is RunState.UNKNOWN:
            # The node was done before its run was opened, so the run is written in one go.
            if tracked.goal is Goal.FINISHED and tracked.state.is_done:
                self.tracker.record(tracked.node, tracked.state, tracked.serves)
                self.release(tracked)
                return None
            if tracked.goal is Goal.FOLLOWED and _may_end_soon(tracked, clock_time):
                return SHORT_SECONDS
        if tracked.run_state is not RunState.OPEN:
            self._open_run(tracked)
        if tracked.goal is Goal.FOLLOWED:
            self._follow(tracked)
            return FOLLOW_SECONDS
        self._end_run(tracked)
        self.release(tracked)
        return None

    def _open_run(self, tracked: TrackedNode) -> None:
        begin = self.tracker.go_on if tracked.run_state is RunState.LOOKED_UP else self.tracker.begin
        # What was looked up is used once: if this fails, it must be looked up again.
        tracked.run_state = RunState.UNKNOWN
        tracked.run_id = begin(tracked.node, tracked.state, tracked.serves)
        tracked.run_state = RunState.OPEN

    def _end_run(self, tracked: TrackedNode) -> None:
        if tracked.goal is Goal.STOPPED:
            self.tracker.stop(tracked.state, tracked.status, tracked.reason)
            return
        if self.is_shared:
            # Another machine may have been faster, if the store was away when this one began.
            self.tracker.look_up(tracked.node.fingerprint)
        if self.is_shared or tracked.node.optimisation is not None:
            # The proposed values may not have been known when the run was opened.
            self.tracker.go_on(tracked.node, tracked.state, tracked.serves)
        self.tracker.finish(tracked.state)

    def _reserve(self, tracked: TrackedNode) -> float | None:
        reservation = self.reservations.reserve(tracked.node, tracked.state, tracked.serves)
        if reservation is Reservation.DONE:
            return self._take_over(tracked)
        if reservation is Reservation.OURS:
            # Not granted before the weights are there: the worker reads them as soon as it may start.
            if not self._fetch_weights(tracked.node, tracked.state):
                return _CONTEST_SECONDS
            # A worker waits for the reservation, so the params and tags of the run are written in a later step.
            tracked.goal, tracked.run_state = Goal.FOLLOWED, RunState.LOOKED_UP
        tracked.reservation = reservation
        if reservation is Reservation.ELSEWHERE:
            tracked.lock.release()
            return _ELSEWHERE_SECONDS
        return _CONTEST_SECONDS if reservation is Reservation.PENDING else 0.0

    def _take_over(self, tracked: TrackedNode) -> float | None:
        try:
            fetch(self.tracker, tracked.node, tracked.state, tracked.serves)
        except TrackingError as error:
            # The node is measured here instead, without a reservation.
            tracked.state.note(f"the result in the tracking store is of no use here: {error}")
            tracked.goal, tracked.reservation = Goal.FOLLOWED, Reservation.UNKNOWN
            return SYNC_SECONDS
        tracked.reservation = Reservation.DONE
        self.release(tracked)
        return None

    def _fetch_weights(self, node: Node, state: NodeState) -> bool:
        """Fetch the weights for an evaluation whose trial was trained elsewhere; return False to try again later.

        If the weights cannot be fetched, the log of the evaluation says so, and the evaluation will fail.
        """
        trial = _without_weights(node, state)
        if trial is None:
            return True
        lock = NodeLock(trial)
        if not lock.acquire():
            return False
        try:
            self.tracker.look_up(trial.fingerprint)
            fetch(self.tracker, node.training, trial, {}, weights=True)
        except TrackingError as error:
            state.note(f"the weights of the training cannot be had: {error}")
        finally:
            lock.release()
        return True

    def _follow(self, tracked: TrackedNode) -> None:
        events = tracked.state.events_file
        # The size of the file tells new lines without reading it.
        size = events.stat().st_size if events.exists() else 0
        if size != tracked.synced_size:
            self.tracker.sync(tracked.state)
            tracked.synced_size = size

    def send_heartbeat(self, tracked: TrackedNode) -> None:
        """Show other machines that this one runs a node. To be called every few seconds, also by another thread."""
        if self.is_shared and tracked.run_state is RunState.OPEN and tracked.goal is not Goal.RESERVED:
            for key, value in heartbeat().items():
                self.tracker.client.set_tag(tracked.run_id, key, value)

    def withdraw(self, tracked: TrackedNode) -> None:
        """Withdraw a reservation that is not decided yet."""
        if tracked.goal is Goal.RESERVED and tracked.lock.is_held:
            self.reservations.withdraw(tracked.state)

    def release(self, tracked: TrackedNode) -> None:
        """Release the lock of a node, whether its goal is reached or not."""
        tracked.lock.release()


def _may_end_soon(tracked: TrackedNode, clock_time: float) -> bool:
    """Return True if a node is so short and so new that its run is best written at once, when it is done."""
    if tracked.first_look is None:
        tracked.first_look = clock_time
    return not tracked.node.is_training and clock_time - tracked.first_look < SHORT_SECONDS


def _without_weights(node: Node, state: NodeState) -> NodeState | None:
    """Return the folder of an evaluation's trial if the trial's weights are not there, else `None`."""
    if node.depends_on is None:
        return None
    trial = NodeState(state.folder.parent / node.depends_on)
    return None if trial.weights_file.exists() else trial


def can_start(node: Node, state: NodeState) -> bool:
    """Return True if a node needs nothing from the store: all but evaluations whose trial was trained elsewhere."""
    return _without_weights(node, state) is None
