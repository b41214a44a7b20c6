"""Runs that the tracking store has as running and nobody runs any more: their launch was killed without a word."""

from __future__ import annotations

from runners.state.attempts import Watch
from runners.state.nodes import NodeState, StateStore
from runners.tracking import Tracker
from runners.tracking.sync_notes import NodeLock

_REASON = "the launch that ran it ended without a word; the next run of the study continues it"


def end_orphans(tracker: Tracker, states: StateStore, watch: Watch) -> list[str]:
    """Ends the runs of orphans, as finished where there is a result and as killed elsewhere; returns fingerprints.

    What has no attempt under `states` is left alone, as it may be run from another state root; so is a lease that
    may still be alive, until `watch` has seen it stand still, and what a launch follows.
    """
    return [fingerprint for fingerprint in tracker.running() if _end(tracker, states[fingerprint], watch)]


def _end(tracker: Tracker, state: NodeState, watch: Watch) -> bool:
    last, lock = state.lease(), NodeLock(state)
    is_over = state.is_done or (last is not None and watch.is_over(state.folder, last))
    if not is_over or not lock.acquire():
        return False
    try:
        if state.is_done:
            tracker.finish(state)
        else:
            tracker.stop(state, "KILLED", _REASON)
    finally:
        lock.release()
    return True
