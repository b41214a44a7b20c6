"""This module works in the store for one node at a time: it claims the node, follows it, ends its run.

`runners.sync.follower` calls it from a thread and passes the time in. Each step may be repeated from the start after a
failure.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from ablations.errors import TrackingError
from ablations.planning.nodes import EvaluationNode, Node, ProposedNode
from runners.state.nodes import NodeState
from runners.sync.fetch import fetch
from runners.sync.reservations import Claims, Verdict, heartbeat
from runners.tracking.store import is_shared
from runners.tracking.sync_notes import NodeLock
from runners.tracking.tracker import Tracker

SYNC_SECONDS = 2.0
FOLLOW_SECONDS = 10.0
"""Seconds between two looks at a node that runs: a request costs the same for one epoch as for several."""
SHORT_SECONDS = 3.0
"""Seconds before the run of an evaluation is opened: most are over by then, and take half as many requests."""
_CONTEST_SECONDS = 0.3
_ELSEWHERE_SECONDS = 5.0
_LONG_RUN_SECONDS = 300.0
_log = logging.getLogger(__name__)


class Wish(Enum):
    """The state in the store that a node shall have."""

    CLAIMED = auto()
    FOLLOWED = auto()
    FINISHED = auto()
    STOPPED = auto()


@dataclass
class Job:
    """A node and the state that it shall have in the store.

    Attributes:
        node: The node.
        state: Its folder.
        serves: The studies that it serves.
        wish: That state.
        status: `FAILED` or `KILLED`, for a run that is to be stopped.
        reason: The reason for that, for a person.
        verdict: The answer to the claim.
    """

    node: Node
    state: NodeState
    serves: Mapping[str, list[str]]
    wish: Wish
    status: str = ""
    reason: str = ""
    verdict: Verdict = Verdict.PENDING
    # The state of the work. `is_open`: the run can be written. `is_fresh`: it was claimed, and looked up, just now.
    # `due`, `delay`: the time of the next step, and the pause after a failure. `seen`: the size of the events file that
    # was brought over. `since`: the time of the first look at the node.
    is_open: bool = False
    is_fresh: bool = False
    due: float = 0.0
    delay: float = 0.0
    lock: NodeLock = field(init=False)
    run_id: str = ""
    seen: int = -1
    since: float | None = None
    monitor: Any = None

    def __post_init__(self) -> None:
        self.lock = NodeLock(self.state)


class Desk:
    """The work of jobs in one store.

    Args:
        tracker: The store.
        claims: Claims nodes there; made for the tracker by default.
    """

    def __init__(self, tracker: Tracker, claims: Claims | None = None) -> None:
        self.tracker = tracker
        self.claims = claims or Claims(tracker)
        self._is_shared = is_shared(tracker.uri)

    def carry_on(self, job: Job, now: float) -> float | None:
        """Work on a job as far as possible now; return the seconds until there is more to do, `None` if it is done.

        Args:
            job: The job.
            now: Seconds on a clock that only ever grows.
        """
        if not job.lock.acquire():
            # Another launch in the same folder of states follows the node.
            job.verdict = Verdict.ELSEWHERE if job.wish is Wish.CLAIMED else job.verdict
            return SYNC_SECONDS
        if job.wish is Wish.CLAIMED:
            return self._claim(job)
        if not job.is_open and not job.is_fresh:
            # The node was done before its run was opened, so the run is written in one go.
            if job.wish is Wish.FINISHED and job.state.is_done:
                self.tracker.record(job.node, job.state, job.serves)
                self.let_go(job)
                return None
            if job.wish is Wish.FOLLOWED and self._may_end_soon(job, now):
                return SHORT_SECONDS
        if not job.is_open:
            begin = self.tracker.go_on if job.is_fresh else self.tracker.begin
            job.is_fresh = False
            job.run_id = begin(job.node, job.state, job.serves)
            job.is_open = True
        if job.wish is Wish.FOLLOWED:
            self._follow(job, now)
            return FOLLOW_SECONDS
        if job.wish is Wish.FINISHED:
            if self._is_shared:
                # Another machine may have been faster, if the store was away when this one began.
                self.tracker.look_up(job.node.fingerprint)
                self.tracker.go_on(job.node, job.state, job.serves)
            elif isinstance(job.node, ProposedNode):
                # The proposed values may not have been known when the run was opened.
                self.tracker.go_on(job.node, job.state, job.serves)
            self.tracker.finish(job.state)
        else:
            self.tracker.stop(job.state, job.status, job.reason)
        self.let_go(job)
        return None

    def _may_end_soon(self, job: Job, now: float) -> bool:
        """Return True if a node is so short and so new that its run is best written at once, when it is done."""
        job.since = now if job.since is None else job.since
        return not job.node.is_training and now - job.since < SHORT_SECONDS

    def _claim(self, job: Job) -> float | None:
        verdict = self.claims.claim(job.node, job.state, job.serves)
        if verdict is Verdict.DONE:
            return self._take_over(job)
        if verdict is Verdict.OURS:
            if not self._fetch_weights(job.node, job.state):
                return _CONTEST_SECONDS
            # A worker waits for the verdict, so the params and tags of the run are written in a later step.
            job.wish, job.is_fresh = Wish.FOLLOWED, True
        job.verdict = verdict
        if verdict is Verdict.ELSEWHERE:
            job.lock.release()
            return _ELSEWHERE_SECONDS
        return _CONTEST_SECONDS if verdict is Verdict.PENDING else 0.0

    def _take_over(self, job: Job) -> float | None:
        try:
            fetch(self.tracker, job.node, job.state, job.serves)
        except TrackingError as error:
            # The node is measured here instead, without a claim.
            job.state.note(f"the result in the tracking store is of no use here: {error}")
            job.wish, job.verdict = Wish.FOLLOWED, Verdict.UNKNOWN
            return SYNC_SECONDS
        job.verdict = Verdict.DONE
        self.let_go(job)
        return None

    def _fetch_weights(self, node: Node, state: NodeState) -> bool:
        """Fetch the weights for an evaluation whose trial was trained elsewhere; return False to try again later.

        If the weights cannot be fetched, the log of the evaluation says so, and the evaluation will fail.
        """
        trial = _without_weights(node, state)
        if trial is None or not isinstance(node, EvaluationNode):
            return True
        lock = NodeLock(trial)
        if not lock.acquire():
            return False
        try:
            self.tracker.look_up(trial.fingerprint)
            fetch(self.tracker, node.trial, trial, {}, weights=True)
        except TrackingError as error:
            state.note(f"the weights of the training cannot be had: {error}")
        finally:
            lock.release()
        return True

    def _follow(self, job: Job, now: float) -> None:
        events = job.state.folder / "events.jsonl"
        # The size of the file tells new lines without reading it.
        size = events.stat().st_size if events.exists() else 0
        if size != job.seen:
            self.tracker.sync(job.state)
            job.seen = size
        job.since = now if job.since is None else job.since
        if job.node.is_training and job.monitor is None and now - job.since > _LONG_RUN_SECONDS:
            job.monitor = self.tracker.monitor(job.state)

    def beat(self, job: Job) -> None:
        """Show other machines that this one runs a node. To be called every few seconds, also by another thread."""
        if self._is_shared and job.is_open and job.wish is not Wish.CLAIMED:
            for key, value in heartbeat().items():
                self.tracker.client.set_tag(job.run_id, key, value)

    def give_up(self, job: Job) -> None:
        """Withdraw a claim on which nobody has decided yet."""
        if job.wish is Wish.CLAIMED and job.lock.is_held:
            self.claims.withdraw(job.state)

    def let_go(self, job: Job) -> None:
        """Release the lock and the monitor of a job, done or not."""
        if job.monitor is not None:
            try:
                job.monitor.finish()
            except Exception:
                _log.debug("system metrics failed", exc_info=True)
            job.monitor = None
        job.lock.release()


def _without_weights(node: Node, state: NodeState) -> NodeState | None:
    trial = NodeState(state.folder.parent / node.trial.fingerprint) if isinstance(node, EvaluationNode) else None
    return trial if trial is not None and not trial.weights_file.exists() else None


def can_start(node: Node, state: NodeState) -> bool:
    """Return True if a node needs nothing from the store: all but evaluations whose trial was trained elsewhere."""
    return _without_weights(node, state) is None
