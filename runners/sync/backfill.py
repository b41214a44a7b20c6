"""Brings what lies in state folders to a store, without a launch: after an outage, or to a second store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from ablations.errors import AblationError
from ablations.planning.nodes import Node
from runners.state.attempts import Watch
from runners.state.nodes import NodeState, StateStore
from runners.tracking.experiment import FAILED, KILLED
from runners.tracking.store import explained, reason, without_retries
from runners.tracking.sync_notes import NodeLock, Origin, lines_left, read_note, read_origin
from runners.tracking.tracker import Tracker


@dataclass
class Synced:
    """What has been done.

    Attributes:
        runs: Runs that the store has got or that were completed.
        lines: Lines of metrics and results in them.
        complete: Runs that were all there.
        followed: Nodes that a running launch follows, which were left to it.
        problems: Why nodes were left out, a sentence each.
        trouble: Why the store did not take the rest, or empty.
    """

    runs: int = 0
    lines: int = 0
    complete: int = 0
    followed: int = 0
    problems: list[str] = field(default_factory=list)
    trouble: str = ""


def sync_states(
    states: StateStore,
    uri: str,
    artifacts: Path,
    studies: Collection[str] | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Synced:
    """Bring everything over that a store has not got; repeated, it does nothing.

    Args:
        states: The state folders.
        uri: The store; `prepare_store` must have seen it.
        artifacts: Where a local store keeps artifacts.
        studies: Names of studies whose nodes are meant; all by default.
        tell: Is told of each run that was brought over.

    Raises:
        TrackingError: If the store cannot be used at all.
    """
    done = Synced()
    foreign = (states[fingerprint].foreign() for fingerprint in states.fingerprints())
    done.problems += [str(damage) for damage in foreign if damage is not None]
    with without_retries():
        for experiment, nodes in sorted(_by_experiment(states, studies).items()):
            first = nodes[0][1]
            with explained(uri):
                preset = first.experiments[experiment]["preset"]
                tracker = Tracker(uri, experiment, artifacts, commit=first.commit, preset=preset)
            # A training first: the runs of its evaluations are its children.
            for state, origin in sorted(nodes, key=lambda entry: _is_evaluation(entry[0])):
                try:
                    _sync_one(tracker, state, origin, done, tell)
                except AblationError as error:
                    done.problems.append(f"{state.folder}: {error}")
                except Exception as error:
                    done.trouble = f"{type(error).__name__}: {reason(error)}"
                    return done
    return done


def _by_experiment(states: StateStore, studies: Collection[str] | None) -> dict[str, list[tuple[NodeState, Origin]]]:
    found: dict[str, list[tuple[NodeState, Origin]]] = defaultdict(list)
    for fingerprint in states.fingerprints():
        state = states[fingerprint]
        # What is another node's would be written to that one's runs.
        origin = read_origin(state) if state.foreign() is None else None
        for experiment in origin.experiments if origin is not None else ():
            if origin is not None and (studies is None or set(studies) & origin.studies(experiment).keys()):
                found[experiment].append((state, origin))
    return found


def known_studies(states: StateStore) -> set[str]:
    """Return the names of all studies that nodes with a state folder serve."""
    origins = filter(None, (read_origin(states[fingerprint]) for fingerprint in states.fingerprints()))
    return {study for origin in origins for name in origin.experiments for study in origin.studies(name)}


def _is_evaluation(state: NodeState) -> bool:
    return state.kind == "evaluation"


def _sync_one(tracker: Tracker, state: NodeState, origin: Origin, done: Synced, tell: Callable[[str], None]) -> None:
    lock, serves = NodeLock(state), origin.studies(tracker.name)
    if tracker.is_complete(state, serves):
        done.complete += 1
        return
    is_begun = state.is_done or state.failure() is not None or bool(state.events())
    if not is_begun and read_note(state, tracker.key) is None:
        return
    if not lock.acquire():
        done.followed += 1
        return
    try:
        left = lines_left(state, tracker.key)
        node = state.node()
        _bring(tracker, node, state, origin)
        done.runs += 1
        done.lines += left
        tell(f"brought over  {state.title(node)}")
    finally:
        lock.release()


def _bring(tracker: Tracker, node: Node, state: NodeState, origin: Origin) -> None:
    serves, failure, last = origin.studies(tracker.name), state.failure(), state.lease()
    if state.is_done:
        tracker.record(node, state, serves)
        return
    tracker.begin(node, state, serves)
    if last is not None and last.is_running and not last.is_orphan:
        tracker.sync(state)
    elif failure is not None:
        tracker.stop(state, FAILED, f"{failure['kind']}: {failure['message']}")
    else:
        tracker.stop(state, KILLED, "not finished yet")


_REASON = "the launch that ran it ended without a word; the next run of the study continues it"


def end_orphans(tracker: Tracker, states: StateStore, watch: Watch) -> list[str]:
    """End the runs of orphans, as finished where there is a result and as killed elsewhere; return fingerprints.

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
