"""This module takes over results of other machines from the store, so that they are not measured again here.

The store is not trusted: `runners.tracking.result_files` checks what it takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ablations.errors import OutputError, TrackingError
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import SHORT
from runners.state.files import check_writable
from runners.state.nodes import NodeState, StateStore
from runners.tracking.result_files import take_over, take_weights_over
from runners.tracking.store import answers, reason
from runners.tracking.sync_notes import NodeLock, add_origin
from runners.tracking.tracker import Tracker


def fetch(
    tracker: Tracker, node: Node, state: NodeState, serves: Mapping[str, list[str]], *, weights: bool = False
) -> None:
    """Write the result of a node's finished run into its state folder. The caller holds the folder's lock.

    Args:
        weights: Whether its weights are needed too; without them the result is of no use then.

    Raises:
        TrackingError: If there is no such run, or its result cannot be trusted.
        OutputError: If the folder cannot be written.
    """
    run = tracker.finished(state)
    if run is None:
        raise TrackingError(f"the store has no finished run of {node.fingerprint[:SHORT]}")
    add_origin(state, tracker.source, serves)
    # Weights before the result: a node is done as soon as it has a result, and an evaluation would miss the weights.
    if weights and not state.weights_file.exists():
        take_weights_over(tracker.client, run, state)
    if not state.is_done:
        take_over(tracker.client, run, node, state)
    tracker.note_end(state, run.run_id)


def fetch_finished(tracker: Tracker, plan: Plan, states: StateStore, tell: Callable[[str], None]) -> Plan:
    """Take over the results that the store has of a plan's nodes; return the plan with these nodes done.

    The weights of a network are taken over where an evaluation of it is missing. A node whose result cannot be taken
    over is measured here.

    Args:
        plan: The plan; nodes that are done here already are left alone.
        tell: Receives the number of results taken over, and a reason for each that could not be.

    Raises:
        OutputError: If the folders cannot be written.
    """
    check_writable(states.root)
    alone: tuple[Node, ...] = (*plan.missing_evaluations, *plan.missing_costs, *plan.missing_proposed)
    fetched = _fetch_all(tracker, plan, states, alone, tell)
    # Now only evaluations that must be measured here are missing; they need the weights of their networks.
    plan = replace(plan, done=plan.done | fetched)
    inspected = {node.checkpoint for node in plan.missing_evaluations}
    candidates: list[Node] = []
    for node in (*plan.trials.values(), *plan.networks.values()):
        key = node.fingerprint
        if key not in plan.done or (key in inspected and not states[key].weights_file.exists()):
            candidates.append(node)
    networks = _fetch_all(tracker, plan, states, candidates, tell, inspected)
    if fetched or networks:
        tell(f"took over from the tracking store: {len(fetched | networks)} results that were measured elsewhere")
    return replace(plan, done=plan.done | networks)


def _fetch_all(
    tracker: Tracker,
    plan: Plan,
    states: StateStore,
    nodes: Iterable[Node],
    tell: Callable[[str], None],
    inspected: frozenset[str] | set[str] = frozenset(),
) -> set[str]:
    fetched = set()
    for node in nodes:
        state = states[node.fingerprint]
        lock = NodeLock(state)
        if state.is_anew or tracker.finished(state) is None or not lock.acquire():
            continue
        serves = plan.studies_of(node.fingerprint)
        try:
            fetch(tracker, node, state, serves, weights=node.fingerprint in inspected)
            fetched.add(node.fingerprint)
        except OutputError:
            # The disk is full or cannot be written: no other node would fare better.
            raise
        except Exception as error:
            title = state.title(node)
            subject = f"the weights of {title}" if state.is_done else title
            tell(f"{subject} cannot be taken over from the tracking store: {reason(error)}")
            # If the store is away, each other node would wait for the time limit.
            if not isinstance(error, TrackingError) and not answers(tracker.client):
                break
        finally:
            lock.release()
    return fetched
