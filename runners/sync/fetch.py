"""Takes over from the store what other machines have measured, so that it is not measured again here."""

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
        tracker: The store.
        node: The node.
        state: Its folder.
        serves: The studies that it serves.
        weights: Whether its weights are needed too; without them the result is of no use then.

    Raises:
        TrackingError: If there is no such run, or it holds nothing that can be trusted.
        OutputError: If the folder cannot be written.
    """
    run = tracker.finished(state)
    if run is None:
        raise TrackingError(f"the store has no finished run of {node.fingerprint[:SHORT]}")
    add_origin(state, tracker.source, serves)
    if weights and not state.weights_file.exists():
        take_weights_over(tracker.client, run, state)
    if not state.is_done:
        take_over(tracker.client, run, node, state)
    tracker.note_end(state, run.run_id)


def fetch_finished(tracker: Tracker, plan: Plan, states: StateStore, tell: Callable[[str], None]) -> Plan:
    """Return the plan with everything done that the store has finished runs of, after taking it over.

    The weights of a trial are taken over where an evaluation of it is missing. What cannot be had is done here.

    Args:
        tracker: The store.
        plan: What is needed; what is done here already is left alone.
        states: The state folders.
        tell: Is told how much was taken over, and what could not be, and why.

    Raises:
        OutputError: If the folders cannot be written.
    """
    check_writable(states.root)
    alone: tuple[Node, ...] = (*plan.missing_evaluations, *plan.missing_costs, *plan.missing_proposed)
    fetched = _fetch_all(tracker, plan, states, alone, tell)
    plan = replace(plan, done=plan.done | fetched)
    inspected = {node.trial.fingerprint for node in plan.missing_evaluations}
    wanted = [
        node
        for key, node in plan.trials.items()
        if key not in plan.done or (key in inspected and not states[key].weights_file.exists())
    ]
    trials = _fetch_all(tracker, plan, states, wanted, tell, inspected)
    if fetched or trials:
        tell(f"took over from the tracking store: {len(fetched | trials)} results that were measured elsewhere")
    return replace(plan, done=plan.done | trials)


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
            raise
        except Exception as error:
            title = state.title(node)
            what = f"the weights of {title}" if state.is_done else title
            tell(f"{what} cannot be taken over from the tracking store: {reason(error)}")
            if not isinstance(error, TrackingError) and not answers(tracker.client):
                break
        finally:
            lock.release()
    return fetched
