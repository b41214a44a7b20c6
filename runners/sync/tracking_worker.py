"""This module follows running nodes and brings their metrics to MLflow from a thread of its own.

A launch never waits for the tracking store and never dies of it. The thread knows the goal of each node in the store,
and tries until it is reached; a failed step is repeated after a pause that grows. The rest, when the launch ends, stays
in the state folders, and `sync` or the next launch brings it over.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

from ablations.errors import OutputError
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.stores.addresses import shown
from runners.state.attempts import Watch
from runners.state.nodes import NodeState, StateStore
from runners.sync.backfill import end_orphans
from runners.sync.reservations import HEARTBEAT_SECONDS, Reservation
from runners.sync.run_writer import SYNC_SECONDS, Goal, RunState, RunWriter, TrackedNode, can_start
from runners.tracking.store import answers, reason, without_retries
from runners.tracking.sync_notes import Source, add_origin
from runners.tracking.tracker import Tracker

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_AWAY_SECONDS, _CALL_SECONDS = 20.0, 120.0
"""Seconds that the end of a launch waits for a store that is away, and for one that answers to take one file or run."""
_HURRIED_SECONDS = 5.0
"""The same where a person waits for the end."""
_log = logging.getLogger(__name__)


class TrackingWorker:
    """A thread that brings nodes to their goals in a store. Used as a context manager; leaving it brings over the rest.

    Args:
        source: The origin that all nodes of the launch have in common.
        tracker: The store, or `None` to track nothing now: the origins for a later `sync` are written all the same.
        tell: Receives a message when the store goes away and when it comes back.

    Attributes:
        trouble: The reason why the store lacks something, or `None`.
    """

    def __init__(
        self, source: Source, tracker: Tracker | None, tell: Callable[[str], None] = lambda message: None
    ) -> None:
        self._source, self._tell = source, tell
        self._writer = RunWriter(tracker) if tracker is not None else None
        # Tracked nodes belong to the thread. The launch changes them by orders alone, so they need no lock.
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue()
        self._nodes: dict[str, TrackedNode] = {}
        # Calls to the store that belong to no node; done when no node is due.
        self._chores: deque[Callable[[], object]] = deque()
        # Nodes whose runs must be complete before the launch ends.
        self._incomplete: set[str] = set()
        self._reservations: dict[str, Reservation] = {}
        self._closing, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._heartbeat_thread = threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True)
        self._pause = 0.0
        self._store_due = 0.0
        self._last_success = time.monotonic()
        self._is_abandoned = False
        self._is_hurried = False
        # Origins that could not be written, which are tried again at the end.
        self._unwritten_origins: dict[str, tuple[NodeState, Mapping[str, list[str]]]] = {}
        self.trouble: str | None = None

    def hurry(self) -> None:
        """Limit the wait for the store at the end to a few seconds; `sync` brings the rest over."""
        self._is_hurried = True

    def __enter__(self) -> Self:
        if self._writer is not None:
            self._thread.start()
            self._heartbeat_thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._is_abandoned:
            return
        for state, serves in list(self._unwritten_origins.values()):
            self._write_origin(state, serves)
        if self._writer is None:
            if not self._unwritten_origins:
                self.trouble = None
            return
        # Patience at the end counts from now, not from the last success of a long launch.
        self._last_success = time.monotonic()
        self._closing.set()
        self._orders.put(self._make_all_due)
        while self._thread.is_alive() and not self._is_patience_over():
            self._thread.join(0.2)
        count = len(self._incomplete)
        if not count:
            self.trouble = None
            return
        subject = "1 run is" if count == 1 else f"{count} runs are"
        self.trouble = f"{subject} not all there ({self.trouble or 'it did not answer in time'})"

    def abandon(self) -> None:
        """Leave everything as it is, at once: there is nothing left to bring over."""
        self._is_abandoned = True
        self._closing.set()

    @property
    def is_away(self) -> bool:
        """True if the store did not answer the last request."""
        return self._pause > 0

    # The launch calls the methods from here to `stop`. They write origins and give orders; they ask the store nothing.

    def catch_up(self, plan: Plan, states: StateStore) -> None:
        """Bring over results of earlier launches that the store lacks, and tag the runs of results used again."""
        for node in plan.nodes:
            if node.fingerprint in plan.done:
                serves = plan.studies_of(node.fingerprint)
                tracked = TrackedNode(node, states[node.fingerprint], serves, Goal.FINISHED)
                self._order(partial(self._complete, tracked))

    def end_orphans(self, states: StateStore, watch: Watch) -> None:
        """End the runs that a killed launch has left running, see `runners.sync.backfill`."""
        if self._writer is not None:
            self._order(partial(self._chores.append, partial(end_orphans, self._writer.tracker, states, watch)))

    def reserve(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Reserve a node, where machines without a common folder share the store, and follow it.

        `reservation` returns the answer; where the store is not shared, or is away, it is there at once.
        """
        needs_store = self._writer is not None and (
            not can_start(node, state) or (self._writer.is_shared and not self.is_away)
        )
        self._reservations[node.fingerprint] = Reservation.PENDING if needs_store else Reservation.UNKNOWN
        self._write_origin(state, serves)
        if needs_store:
            self._order(partial(self._track, TrackedNode(node, state, serves, Goal.RESERVED)))

    def reservation(self, fingerprint: str) -> Reservation:
        """Return the reservation of a node, as far as it is decided."""
        return self._reservations[fingerprint]

    def begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Open the run of a node and follow it from now on, without asking if another machine runs it."""
        self._write_origin(state, serves)
        reservation = self._reservations.get(node.fingerprint, Reservation.UNKNOWN)
        tracked = TrackedNode(node, state, serves, Goal.FOLLOWED, reservation=reservation)
        self._order(partial(self._begin, tracked))

    def leave(self, state: NodeState) -> None:
        """Leave a node to others, with its run as it is."""
        self._order(partial(self._drop, state))

    def finish(self, state: NodeState) -> None:
        """End the run of a measured node."""
        self._order_completion(state, Goal.FINISHED)

    def stop(self, state: NodeState, status: str, reason: str) -> None:
        """End the run of a node that failed or was cancelled."""
        self._order_completion(state, Goal.STOPPED, status, reason)

    def _order(self, order: Callable[[], None]) -> None:
        if self._writer is not None:
            self._orders.put(order)

    def _order_completion(self, state: NodeState, goal: Goal, status: str = "", reason: str = "") -> None:
        """Order a goal that must be reached before the launch ends."""
        if self._writer is not None:
            self._incomplete.add(state.fingerprint)
            self._order(partial(self._set_goal, state, goal, status, reason))

    def _write_origin(self, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        # In the caller's thread, before the node is started: a later `sync` needs it even if this launch is killed.
        try:
            add_origin(state, self._source, serves, anew=state.is_anew)
        except (OutputError, OSError) as error:
            self.trouble = str(error)
            self._unwritten_origins[state.fingerprint] = (state, serves)
        else:
            self._unwritten_origins.pop(state.fingerprint, None)

    # All below is called by the thread alone, but for the heartbeats.

    def _complete(self, tracked: TrackedNode) -> None:
        assert self._writer is not None
        self._write_origin(tracked.state, tracked.serves)
        if not self._writer.tracker.is_complete(tracked.state, tracked.serves):
            self._incomplete.add(tracked.state.fingerprint)
            self._track(tracked)

    def _begin(self, tracked: TrackedNode) -> None:
        before = self._nodes.get(tracked.state.fingerprint)
        if before is None or before.goal is not Goal.FOLLOWED:
            self._track(tracked)

    def _track(self, tracked: TrackedNode) -> None:
        before = self._nodes.get(tracked.state.fingerprint)
        if before is not None:
            # A second lock on the folder could not be had.
            tracked.lock = before.lock
        self._nodes[tracked.state.fingerprint] = tracked

    def _drop(self, state: NodeState) -> None:
        tracked = self._nodes.pop(state.fingerprint, None)
        self._incomplete.discard(state.fingerprint)
        if tracked is not None and self._writer is not None:
            try:
                self._writer.withdraw(tracked)
            finally:
                self._writer.release(tracked)

    def _set_goal(self, state: NodeState, goal: Goal, status: str, reason: str) -> None:
        tracked = self._nodes.get(state.fingerprint)
        if tracked is None:
            # It has reached its goal already, as a result that was taken over from the store.
            self._incomplete.discard(state.fingerprint)
        else:
            tracked.goal, tracked.status, tracked.reason, tracked.due = goal, status, reason, 0.0

    def _make_all_due(self) -> None:
        self._store_due = 0.0
        for tracked in self._nodes.values():
            tracked.due = 0.0

    def _is_patience_over(self) -> bool:
        patience = _CALL_SECONDS
        if self._is_hurried:
            patience = _HURRIED_SECONDS
        elif self.is_away:
            patience = _AWAY_SECONDS
        return self._is_abandoned or time.monotonic() - self._last_success > patience

    def _work(self) -> None:
        assert self._writer is not None
        # MLflow prints a traceback for each request that its store refuses; `trouble` says it in a sentence.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        with without_retries():
            # One step between two looks at the orders, so that a long backlog does not delay a reservation.
            while not (self._closing.is_set() and (self._is_all_done() or self._is_patience_over())):
                self._take_orders()
                self._step(self._writer)
        for tracked in self._nodes.values():
            self._writer.release(tracked)
        self._closed.set()

    def _send_heartbeats(self) -> None:
        """Send heartbeats from a second thread, so that they go on while a large file is on its way to the store."""
        assert self._writer is not None
        while not self._closed.wait(HEARTBEAT_SECONDS):
            for tracked in list(self._nodes.values()):
                try:
                    self._writer.send_heartbeat(tracked)
                except Exception:
                    # The store is probably away, so the heartbeats of the other nodes would fail as well.
                    _log.debug("heartbeat failed", exc_info=True)
                    break

    def _is_all_done(self) -> bool:
        return self._orders.empty() and not self._incomplete and not self._chores

    def _take_orders(self) -> None:
        """Carry out all orders there are; wait for one while there is nothing else to do."""
        wait = self._seconds_to_next()
        try:
            while True:
                order = self._orders.get(block=wait > 0, timeout=wait)
                wait = 0.0
                self._try(order)
        except queue.Empty:
            return

    def _try(self, action: Callable[[], object]) -> bool:
        """Call `action`; return True if it succeeded. The thread outlives every error."""
        try:
            action()
        except Exception as error:
            self._note_error(error)
            return False
        return True

    def _note_error(self, error: Exception) -> None:
        _log.debug("tracking failed", exc_info=error)
        self.trouble = reason(error)

    def _step(self, writer: RunWriter) -> None:
        """Advance one node or do one chore, if one is due and the store answers."""
        tracked = self._next_due()
        chore = None
        if self._chores and self._store_due <= time.monotonic():
            chore = self._chores[0]
        if (tracked is None and chore is None) or not self._is_there(writer):
            return
        if tracked is not None:
            self._advance(writer, tracked)
        # A chore that fails although the store answers is dropped: it would fail again.
        elif chore is not None and (self._try(chore) or self._answers_after_error(writer)):
            self._chores.popleft()
            self._last_success = time.monotonic()

    def _seconds_to_next(self) -> float:
        due = min((tracked.due for tracked in self._nodes.values()), default=math.inf)
        if self._chores:
            due = 0.0
        return max(0.0, min(max(due, self._store_due) - time.monotonic(), SYNC_SECONDS))

    def _next_due(self) -> TrackedNode | None:
        """Return a node that is due: first one to reserve, for which a worker waits, then the earliest."""
        clock_time = time.monotonic()
        if self._store_due > clock_time:
            return None
        # In the order in which they came: a training stands before its evaluations.
        due = [tracked for tracked in self._nodes.values() if tracked.due <= clock_time]
        return min(due, key=lambda tracked: tracked.goal is not Goal.RESERVED, default=None)

    def _is_there(self, writer: RunWriter) -> bool:
        """Return True if the store can be used; if it was away, ask it, and tell the user when it is back."""
        if not self.is_away:
            return True
        if not answers(writer.tracker.client):
            self._go_away()
            return False
        self._pause = 0.0
        writer.reservations.watch.start_anew()
        self._tell(f"the tracking store {shown(writer.tracker.uri)} is back")
        return True

    def _advance(self, writer: RunWriter, tracked: TrackedNode) -> None:
        """Advance a node, and set the time of its next step; forget it when its goal is reached."""
        try:
            seconds = writer.advance(tracked, time.monotonic())
        except Exception as error:
            self._note_error(error)
            # The node starts over, as nobody knows how much of the failed step has reached the store.
            tracked.run_state, tracked.synced_size = RunState.UNKNOWN, -1
            tracked.delay = self._longer_pause(tracked.delay)
            tracked.due = time.monotonic() + tracked.delay
            self._answers_after_error(writer)
            return
        tracked.delay = 0.0
        if tracked.reservation is not Reservation.PENDING:
            self._reservations[tracked.state.fingerprint] = tracked.reservation
        if seconds is None:
            del self._nodes[tracked.state.fingerprint]
            self._incomplete.discard(tracked.state.fingerprint)
            self._last_success = time.monotonic()
        else:
            tracked.due = time.monotonic() + seconds

    def _longer_pause(self, pause: float) -> float:
        if self._closing.is_set():
            # Nobody waits long for the end of a launch.
            return _FIRST_PAUSE
        return min(_LONGEST_PAUSE, 2 * pause or _FIRST_PAUSE)

    def _answers_after_error(self, writer: RunWriter) -> bool:
        """Return True if the store answers after an error; if not, leave it alone for a while."""
        if answers(writer.tracker.client):
            return True
        if not self.is_away:
            self._tell(f"the tracking store {shown(writer.tracker.uri)} is away: {self.trouble}. The work goes on.")
            writer.reservations.watch.start_anew()
        self._go_away()
        return False

    def _go_away(self) -> None:
        """Set the pause before the next request, longer each time; grant reservations that only wait for the store."""
        self._pause = self._longer_pause(self._pause)
        self._store_due = time.monotonic() + self._pause
        for fingerprint, tracked in self._nodes.items():
            is_undecided = tracked.goal is Goal.RESERVED and tracked.reservation is Reservation.PENDING
            if is_undecided and can_start(tracked.node, tracked.state):
                tracked.goal, tracked.reservation = Goal.FOLLOWED, Reservation.UNKNOWN
                self._reservations[fingerprint] = tracked.reservation
