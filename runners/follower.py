"""Follows running nodes and brings their metrics to MLflow from a thread of its own.

A launch never waits for the tracking store and never dies of it: what could not be written stays in the state folders
and is brought over by the next launch.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from ablations.planning import Node, Plan
from runners.leases import Watch
from runners.orphans import end_orphans
from runners.state import NodeState, StateStore
from runners.tracking import Tracker

_SYNC_SECONDS = 2.0
_LONG_RUN_SECONDS = 300.0
_JOIN_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Follower:
    """A thread that owns a `Tracker`. Used as a context manager; leaving it brings over what is left.

    Attributes:
        trouble: Why something could not be written, or `None`.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._orders: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._active: dict[str, tuple[NodeState, float]] = {}
        self._monitors: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self.trouble: str | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._orders.put(None)
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            self.trouble = self.trouble or "the tracking store did not answer in time"

    def catch_up(self, plan: Plan, states: StateStore) -> None:
        """Brings over what earlier launches measured and the store has not got, and tags what is used again."""
        for node in plan.nodes:
            if node.fingerprint in plan.done:
                serves = plan.studies_of(node.fingerprint)
                self._orders.put(partial(self._catch_up_one, node, states[node.fingerprint], serves))

    def end_orphans(self, states: StateStore, watch: Watch) -> None:
        """Ends the runs that a launch which was killed has left running, see `runners.orphans`."""
        self._orders.put(partial(end_orphans, self._tracker, states, watch))

    def _catch_up_one(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        if self._tracker.is_finished(node.fingerprint) and not state.is_anew:
            self._tracker.tag_studies(node.fingerprint, serves)
        else:
            self._tracker.begin(node, state, serves)
            self._tracker.finish(state)

    def begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        """Opens the run of a node and follows it from now on."""
        self._orders.put(lambda: self._begin(node, state, serves))

    def _begin(self, node: Node, state: NodeState, serves: Mapping[str, list[str]]) -> None:
        self._tracker.begin(node, state, serves)
        if node.kind == "trial":
            self._active[node.fingerprint] = (state, time.monotonic())

    def finish(self, state: NodeState) -> None:
        """Ends the run of a measured node."""
        self._orders.put(lambda: self._end(state, lambda: self._tracker.finish(state)))

    def stop(self, state: NodeState, status: str, reason: str) -> None:
        """Ends the run of a node that failed or was cancelled."""
        self._orders.put(lambda: self._end(state, lambda: self._tracker.stop(state, status, reason)))

    def _end(self, state: NodeState, order: Callable[[], None]) -> None:
        self._active.pop(state.fingerprint, None)
        monitor = self._monitors.pop(state.fingerprint, None)
        if monitor is not None:
            monitor.finish()
        order()

    def _work(self) -> None:
        last_sync = time.monotonic()
        while True:
            try:
                order = self._orders.get(timeout=_SYNC_SECONDS)
            except queue.Empty:
                order = self._sync
            if order is None:
                return
            self._carry_out(order)
            if time.monotonic() - last_sync > _SYNC_SECONDS:
                self._carry_out(self._sync)
                last_sync = time.monotonic()

    def _carry_out(self, order: Callable[[], object]) -> None:
        try:
            order()
        except Exception as error:
            _log.debug("tracking failed", exc_info=True)
            self.trouble = f"{type(error).__name__}: {error}".splitlines()[0][:300]

    def _sync(self) -> None:
        for state, since in self._active.values():
            self._tracker.sync(state)
            if time.monotonic() - since > _LONG_RUN_SECONDS and state.fingerprint not in self._monitors:
                self._monitors[state.fingerprint] = self._tracker.monitor(state.fingerprint)
