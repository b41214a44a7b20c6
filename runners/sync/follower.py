"""This module follows running nodes and brings their metrics to MLflow from a thread of its own.

A launch never waits for the tracking store and never dies of it. The thread knows the state that each node should have
in the store, and tries until it has; a failed step is repeated after a pause that grows. The rest, when the launch
ends, stays in the state folders, and `sync` or the next launch brings it over.
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

from ablations.addresses import shown
from ablations.errors import OutputError
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from runners.state import attempts
from runners.state.nodes import NodeState, StateStore
from runners.sync.backfill import end_orphans
from runners.sync.jobs import SYNC_SECONDS, Desk, Job, Wish, can_start
from runners.sync.reservations import HEARTBEAT_SECONDS, Verdict
from runners.tracking.store import answers, is_shared, reason, without_retries
from runners.tracking.sync_notes import Source, add_origin

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_AWAY_SECONDS, _CALL_SECONDS = 20.0, 120.0
"""Seconds that the end of a launch waits for a store that is away, and for one that answers to take one file or run."""
_HURRIED_SECONDS = 5.0
"""The same where a person waits for the end."""
_log = logging.getLogger(__name__)


class Follower:
    """A thread that owns a `Desk`. Used as a context manager; leaving it brings over the rest.

    Args:
        source: The origin that all nodes of the launch have in common.
        desk: The store, or `None` to track nothing now: the origins for a later `sync` are written down all the same.
        tell: Receives a message when the store goes away and when it comes back.

    Attributes:
        trouble: The reason why the store lacks something, or `None`.
    """

    def __init__(self, source: Source, desk: Desk | None, tell: Callable[[str], None] = lambda message: None) -> None:
        self._source, self._desk, self._tell = source, desk, tell
        # Jobs belong to the thread. The launch changes them by orders alone, so they need no lock.
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue()
        self._jobs: dict[str, Job] = {}
        # Work that belongs to no node; done when no job is due.
        self._chores: deque[Callable[[], object]] = deque()
        # Nodes whose runs must be complete before the launch ends.
        self._owed: set[str] = set()
        self._verdicts: dict[str, Verdict] = {}
        self._leaving, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._pulse = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._pause = 0.0
        self._store_due = 0.0
        self._last_success = time.monotonic()
        self._is_abandoned = False
        self._is_hurried = False
        # Origins that could not be written, which are tried again at the end.
        self._unwritten: dict[str, tuple[NodeState, Mapping[str, list[str]]]] = {}
        self.trouble: str | None = None

    def hurry(self) -> None:
        """Limit the wait for the store at the end to a few seconds; `sync` brings the rest over."""
        self._is_hurried = True

    def __enter__(self) -> Self:
        if self._desk is not None:
            self._thread.start()
            self._pulse.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._is_abandoned:
            return
        for state, serves in list(self._unwritten.values()):
            self._write_down(state, serves)
        if self._desk is None:
            self.trouble = self.trouble if self._unwritten else None
            return
        # Patience at the end counts from now, not from the last success of a long launch.
        self._last_success = time.monotonic()
        self._leaving.set()
        self._orders.put(self._hurry)
        while self._thread.is_alive() and not self._is_patience_over():
            self._thread.join(0.2)
        left = len(self._owed)
        subject = "1 run is" if left == 1 else f"{left} runs are"
        self.trouble = f"{subject} not all there ({self.trouble or 'it did not answer in time'})" if left else None

    def abandon(self) -> None:
        """Leave everything as it is, at once: there is nothing left to bring over."""
        self._is_abandoned = True
        self._leaving.set()

    @property
    def is_away(self) -> bool:
        """True if the store did not answer the last request."""
        return self._pause > 0

    def catch_up(self, plan: Plan, states: StateStore) -> None:
        """Bring over results of earlier launches that the store lacks, and tag the runs of results used again."""
        for node in plan.nodes:
            if node.fingerprint in plan.done:
                job = Job(node, states[node.fingerprint], plan.studies_of(node.fingerprint), Wish.FINISHED)
                self._order(partial(self._check, job))

    def _check(self, job: Job) -> None:
        assert self._desk is not None
        self._write_down(job.state, job.serves)
        if not self._desk.tracker.is_complete(job.state, job.serves):
            self._owed.add(job.state.fingerprint)
            self._put(job)

    def end_orphans(self, states: StateStore, watch: attempts.Watch) -> None:
        """End the runs that a killed launch has left running, see `runners.sync.backfill`."""
        if self._desk is not None:
            self._order(partial(self._chores.append, partial(end_orphans, self._desk.tracker, states, watch)))

    def claim(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Ask for the right to run a node, where machines without a common folder share the store, and follow it.

        `verdict` tells the answer; where the store is not shared, or is away, it is given at once.
        """
        asks = self._desk is not None and (
            not can_start(node, state) or (is_shared(self._desk.tracker.uri) and not self.is_away)
        )
        self._verdicts[node.fingerprint] = Verdict.PENDING if asks else Verdict.UNKNOWN
        self._write_down(state, serves)
        if asks:
            self._order(partial(self._put, Job(node, state, serves, Wish.CLAIMED)))

    def verdict(self, fingerprint: str) -> Verdict:
        """Return the answer to a claim, as far as it is known."""
        return self._verdicts[fingerprint]

    def begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Open the run of a node and follow it from now on, without asking if another machine runs it."""
        self._write_down(state, serves)
        verdict = self._verdicts.get(node.fingerprint, Verdict.UNKNOWN)
        self._order(partial(self._begin, Job(node, state, serves, Wish.FOLLOWED, verdict=verdict)))

    def _write_down(self, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        # In the caller's thread, before the node is started: a later `sync` needs it even if this launch is killed.
        try:
            add_origin(state, self._source, serves, anew=state.is_anew)
        except (OutputError, OSError) as error:
            self.trouble = str(error)
            self._unwritten[state.fingerprint] = (state, serves)
        else:
            self._unwritten.pop(state.fingerprint, None)

    def _begin(self, job: Job) -> None:
        before = self._jobs.get(job.state.fingerprint)
        if before is None or before.wish is not Wish.FOLLOWED:
            self._put(job)

    def leave(self, state: NodeState) -> None:
        """Leave a node to others, with its run as it is."""
        self._order(partial(self._drop, state))

    def _drop(self, state: NodeState) -> None:
        job = self._jobs.pop(state.fingerprint, None)
        self._owed.discard(state.fingerprint)
        if job is not None and self._desk is not None:
            try:
                self._desk.give_up(job)
            finally:
                self._desk.let_go(job)

    def finish(self, state: NodeState) -> None:
        """End the run of a measured node."""
        self._owe(state, partial(self._end, state, Wish.FINISHED))

    def stop(self, state: NodeState, status: str, reason: str) -> None:
        """End the run of a node that failed or was cancelled."""
        self._owe(state, partial(self._end, state, Wish.STOPPED, status, reason))

    def _owe(self, state: NodeState, order: Callable[[], None]) -> None:
        """Give an order that must have been carried out before the launch ends."""
        if self._desk is not None:
            self._owed.add(state.fingerprint)
            self._orders.put(order)

    def _order(self, order: Callable[[], None]) -> None:
        if self._desk is not None:
            self._orders.put(order)

    def _put(self, job: Job) -> None:
        before = self._jobs.get(job.state.fingerprint)
        if before is not None:
            # The new job takes over what the old one holds; a second lock on the folder could not be had.
            job.lock, job.monitor = before.lock, before.monitor
        self._jobs[job.state.fingerprint] = job

    def _end(self, state: NodeState, wish: Wish, status: str = "", why: str = "") -> None:
        job = self._jobs.get(state.fingerprint)
        if job is None:
            self._owed.discard(state.fingerprint)
        else:
            job.wish, job.status, job.reason, job.due = wish, status, why, 0.0

    def _hurry(self) -> None:
        self._store_due = 0.0
        for job in self._jobs.values():
            job.due = 0.0

    def _is_patience_over(self) -> bool:
        patience = _AWAY_SECONDS if self.is_away else _CALL_SECONDS
        if self._is_hurried:
            patience = _HURRIED_SECONDS
        return self._is_abandoned or time.monotonic() - self._last_success > patience

    def _work(self) -> None:
        assert self._desk is not None
        # MLflow prints a traceback for each request that its store refuses; `trouble` says it in a sentence.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        with without_retries():
            # One step between two looks at the orders, so that a long backlog does not delay a claim.
            while not (self._leaving.is_set() and (self._is_all_done() or self._is_patience_over())):
                self._take_orders()
                self._step(self._desk)
        for job in self._jobs.values():
            self._desk.let_go(job)
        self._ended.set()

    def _beat(self) -> None:
        """Send heartbeats from a second thread, so that they go on while a large file is on its way to the store."""
        assert self._desk is not None
        while not self._ended.wait(HEARTBEAT_SECONDS):
            for job in list(self._jobs.values()):
                try:
                    self._desk.beat(job)
                except Exception:
                    # The store is probably away, so the heartbeats of the other jobs would fail as well.
                    _log.debug("heartbeat failed", exc_info=True)
                    break

    def _is_all_done(self) -> bool:
        return self._orders.empty() and not self._owed and not self._chores

    def _take_orders(self) -> None:
        """Carry out all orders there are; wait for one while there is nothing else to do."""
        wait = self._seconds_to_next()
        try:
            while True:
                order = self._orders.get(timeout=wait) if wait > 0 else self._orders.get_nowait()
                wait = 0.0
                self._carry_out(order)
        except queue.Empty:
            return

    def _carry_out(self, order: Callable[[], object]) -> bool:
        """Carry out an order; return True if it succeeded. The thread outlives every error."""
        try:
            order()
        except Exception as error:
            _log.debug("tracking failed", exc_info=True)
            self.trouble = reason(error)
            return False
        return True

    def _step(self, desk: Desk) -> None:
        """Do one job or chore that is due, if there is any and the store answers."""
        job = self._next_job()
        chore = self._chores[0] if self._chores and self._store_due <= time.monotonic() else None
        if (job is None and chore is None) or not self._is_there(desk):
            return
        if job is not None:
            self._do(desk, job)
        # A chore that fails although the store answers is dropped: it would fail again.
        elif chore is not None and (self._carry_out(chore) or self._look_after(desk)):
            self._chores.popleft()
            self._last_success = time.monotonic()

    def _seconds_to_next(self) -> float:
        due = 0.0 if self._chores else min((job.due for job in self._jobs.values()), default=math.inf)
        return max(0.0, min(max(due, self._store_due) - time.monotonic(), SYNC_SECONDS))

    def _next_job(self) -> Job | None:
        """Return a job that is due: first a claim, for which a worker waits, then a training before its evaluations."""
        current_time = time.monotonic()
        due = [job for job in self._jobs.values() if job.due <= current_time] if self._store_due <= current_time else []
        return min(due, key=lambda job: job.wish is not Wish.CLAIMED, default=None)

    def _is_there(self, desk: Desk) -> bool:
        """Return True if the store can be used; if it was away, ask it, and tell the user when it is back."""
        if not self.is_away:
            return True
        if not answers(desk.tracker.client):
            self._go_away()
            return False
        self._pause = 0.0
        desk.claims.watch.start_anew()
        self._tell(f"the tracking store {shown(desk.tracker.uri)} is back")
        return True

    def _do(self, desk: Desk, job: Job) -> None:
        after: float | None = 0.0

        def carry_on() -> None:
            nonlocal after
            after = desk.carry_on(job, time.monotonic())

        if not self._carry_out(carry_on):
            # The job starts over, as nobody knows how much of the failed step has reached the store.
            job.is_open, job.seen = False, -1
            job.delay = min(_FIRST_PAUSE if self._leaving.is_set() else _LONGEST_PAUSE, 2 * job.delay or _FIRST_PAUSE)
            job.due = time.monotonic() + job.delay
            self._look_after(desk)
            return
        job.delay = 0.0
        if job.verdict is not Verdict.PENDING:
            self._verdicts[job.state.fingerprint] = job.verdict
        if after is None:
            del self._jobs[job.state.fingerprint]
            self._owed.discard(job.state.fingerprint)
            self._last_success = time.monotonic()
        else:
            job.due = time.monotonic() + after

    def _look_after(self, desk: Desk) -> bool:
        """Return True if the store answers after an error; if not, leave it alone for a while."""
        if answers(desk.tracker.client):
            return True
        if not self.is_away:
            self._tell(f"the tracking store {shown(desk.tracker.uri)} is away: {self.trouble}. The work goes on.")
            desk.claims.watch.start_anew()
        self._go_away()
        return False

    def _go_away(self) -> None:
        """Set the pause before the next request, longer each time; grant the claims that only wait for the store."""
        longest = _FIRST_PAUSE if self._leaving.is_set() else _LONGEST_PAUSE
        self._pause = min(longest, 2 * self._pause or _FIRST_PAUSE)
        self._store_due = time.monotonic() + self._pause
        for key, job in self._jobs.items():
            if job.wish is Wish.CLAIMED and job.verdict is Verdict.PENDING and can_start(job.node, job.state):
                job.wish, job.verdict = Wish.FOLLOWED, Verdict.UNKNOWN
                self._verdicts[key] = job.verdict
