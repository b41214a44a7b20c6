"""This module brings state folders to a store without a launch: after an outage, or to a second store.

`sync` calls `sync_states`; a launch calls `end_orphans` for runs that a killed launch has left running.
"""

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
    """The outcome of `sync_states`.

    Attributes:
        runs: Runs that were brought over or completed.
        lines: Lines of metrics and results in them.
        complete: Runs that were complete before.
        followed: Nodes that a running launch follows, which were left to it.
        problems: The reasons why nodes were left out, a sentence each.
        trouble: The reason why the store did not take the rest, or empty.
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
    """Bring over all nodes that a store lacks; a second call does nothing.

    Args:
        uri: The store; `prepare_store` must have seen it.
        artifacts: The folder in which a local store keeps artifacts.
        studies: Names of studies whose nodes are meant; all by default.
        tell: Receives a message for each run that was brought over.

    Raises:
        TrackingError: If the store cannot be used at all.
    """
    synced = Synced()
    for fingerprint in states.fingerprints():
        foreign = states[fingerprint].foreign()
        if foreign is not None:
            synced.problems.append(str(foreign))
    with without_retries():
        for experiment, nodes in sorted(_by_experiment(states, studies).items()):
            first = nodes[0][1]
            with explained(uri):
                preset = first.experiments[experiment]["preset"]
                tracker = Tracker(uri, experiment, artifacts, commit=first.commit, preset=preset)
            # A training first: the runs of its evaluations are its children.
            for state, origin in sorted(nodes, key=lambda entry: entry[0].kind == "evaluation"):
                try:
                    _sync_one(tracker, state, origin, synced, tell)
                except AblationError as error:
                    synced.problems.append(f"{state.folder}: {error}")
                except Exception as error:
                    # An error of the store, not of this node: all other nodes would meet it too.
                    synced.trouble = f"{type(error).__name__}: {reason(error)}"
                    return synced
    return synced


def _by_experiment(states: StateStore, studies: Collection[str] | None) -> dict[str, list[tuple[NodeState, Origin]]]:
    nodes: dict[str, list[tuple[NodeState, Origin]]] = defaultdict(list)
    for fingerprint in states.fingerprints():
        state = states[fingerprint]
        if state.foreign() is not None:
            # It would be written to the other node's runs.
            continue
        origin = read_origin(state)
        if origin is None:
            continue
        for experiment in origin.experiments:
            if studies is None or set(studies) & origin.studies(experiment).keys():
                nodes[experiment].append((state, origin))
    return nodes


def known_studies(states: StateStore) -> set[str]:
    """Return the names of all studies that nodes with a state folder serve."""
    studies: set[str] = set()
    for fingerprint in states.fingerprints():
        origin = read_origin(states[fingerprint])
        if origin is not None:
            for experiment in origin.experiments:
                studies.update(origin.studies(experiment))
    return studies


def _sync_one(tracker: Tracker, state: NodeState, origin: Origin, synced: Synced, tell: Callable[[str], None]) -> None:
    lock, serves = NodeLock(state), origin.studies(tracker.name)
    # First without the lock: most runs are complete, and this needs no request.
    if tracker.is_complete(state, serves):
        synced.complete += 1
        return
    # A node that was only planned gets no run, unless it had one already.
    is_begun = state.is_done or state.failure() is not None or bool(state.events())
    if not is_begun and read_note(state, tracker.key) is None:
        return
    if not lock.acquire():
        synced.followed += 1
        return
    try:
        left = lines_left(state, tracker.key)
        node = state.node()
        _bring(tracker, node, state, origin)
        synced.runs += 1
        synced.lines += left
        tell(f"brought over  {state.title(node)}")
    finally:
        lock.release()


def _bring(tracker: Tracker, node: Node, state: NodeState, origin: Origin) -> None:
    serves, failure, attempt = origin.studies(tracker.name), state.failure(), state.lease()
    if state.is_done:
        tracker.record(node, state, serves)
        return
    tracker.begin(node, state, serves)
    # A living attempt goes on writing, so its run stays open.
    if attempt is not None and attempt.is_running and not attempt.is_orphan:
        tracker.sync(state)
    elif failure is not None:
        tracker.stop(state, FAILED, f"{failure['kind']}: {failure['message']}")
    else:
        tracker.stop(state, KILLED, "not finished yet")


_REASON = "the launch that ran it ended without a word; the next run of the study continues it"


def end_orphans(tracker: Tracker, states: StateStore, watch: Watch) -> list[str]:
    """End the runs of orphans, as finished if there is a result and else as killed; return their fingerprints.

    A node without an attempt under `states` is left alone, as it may be run from another state root. So is a node
    whose lease may still be alive, until `watch` has seen it stand still, and a node that a launch follows.
    """
    return [fingerprint for fingerprint in tracker.running() if _end(tracker, states[fingerprint], watch)]


def _end(tracker: Tracker, state: NodeState, watch: Watch) -> bool:
    attempt, lock = state.lease(), NodeLock(state)
    is_over = state.is_done or (attempt is not None and watch.is_over(state.folder, attempt))
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
