"""What is run again although it was run before: what failed, and what is asked for anew."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import replace

from ablations.errors import LeaseError, UnknownNameError
from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import Plan
from runners.state.attempts import Watch
from runners.state.nodes import NodeState, StateStore

_LOOK_SECONDS = 0.2


def only_failed(plan: Plan, states: StateStore) -> Plan:
    """Returns of a plan what has failed and the evaluations that are missing because their training has."""
    failed = {node.fingerprint for node in plan.missing if states[node.fingerprint].failure() is not None}
    trials = {key: node for key, node in plan.trials.items() if key in failed}
    evaluations = {
        key: node
        for key, node in plan.evaluations.items()
        if key in failed or (key not in plan.done and node.trial.fingerprint in failed)
    }
    # An evaluation can have failed for want of a training that is not done either.
    trials |= {
        node.trial.fingerprint: node.trial for node in evaluations.values() if node.trial.fingerprint not in plan.done
    }
    costs = {key: node for key, node in plan.costs.items() if key in failed}
    return replace(plan, trials=trials, evaluations=evaluations, costs=costs)


def begin_anew(plan: Plan, variants: Sequence[str], states: StateStore) -> Plan:
    """Puts aside what there is of some variants, so that it is done anew, and returns the plan of that.

    A variant's trainings are done anew, and with each training all evaluations of its checkpoint, also those of other
    studies, as the checkpoint that they measured is replaced.

    Args:
        plan: The plan.
        variants: `study/variant`, or `study/network: variant` for one inspected network.
        states: The state folders.

    Raises:
        UnknownNameError: If there is no such variant in the plan.
        LeaseError: If one of the nodes is being run.
        OutputError: If a folder cannot be moved.
    """
    wanted = _to_be_redone(plan, variants, states)
    _put_aside(wanted, states)
    return replace(plan, done=plan.done - wanted)


def undone(plan: Plan, variants: Sequence[str], states: StateStore) -> Plan:
    """Returns the plan that `begin_anew` would return, and changes nothing.

    Raises:
        UnknownNameError: If there is no such variant in the plan.
    """
    return replace(plan, done=plan.done - _to_be_redone(plan, variants, states)) if variants else plan


def _to_be_redone(plan: Plan, variants: Sequence[str], states: StateStore) -> set[str]:
    wanted = _nodes_of(plan, variants)
    return wanted | _resting_on(wanted, states)


def train_lost_weights_anew(plan: Plan, states: StateStore) -> tuple[Plan, int]:
    """Returns a plan in which the trainings are done anew whose weights are gone and needed; also how many these are.

    Weights are gone when `gc` or a person has removed them. They are needed by evaluations that are missing, so with
    each training all evaluations of its checkpoint are done anew, as in `begin_anew`.

    Raises:
        LeaseError: If one of the nodes is being run.
        OutputError: If a folder cannot be moved.
    """
    inspected = {node.trial.fingerprint: node.trial for node in plan.missing_evaluations}
    lost = {
        key: node for key, node in inspected.items() if states[key].is_done and not states[key].weights_file.exists()
    }
    wanted = lost.keys() | _resting_on(set(lost), states)
    _put_aside(wanted, states)
    return replace(plan, trials=lost | plan.trials, done=plan.done - wanted), len(lost)


def _nodes_of(plan: Plan, variants: Sequence[str]) -> set[str]:
    """Returns the nodes of variants, with the trainings that they rest on and what rests on those."""
    known: dict[str, set[str]] = {}
    for cell in (*plan.cells, *plan.canaries):
        for name in dict.fromkeys([cell.variant, cell.key]):
            known.setdefault(f"{cell.study}/{name}", set()).add(cell.fingerprint)
    wanted: set[str] = set()
    for variant in variants:
        if variant not in known:
            raise UnknownNameError("variant", variant, known)
        wanted |= known[variant]
    nodes = [plan.node(fingerprint) for fingerprint in wanted]
    wanted |= {node.trial.fingerprint for node in nodes if isinstance(node, EvaluationNode)}
    return wanted | {key for key, node in plan.evaluations.items() if node.trial.fingerprint in wanted}


def _put_aside(wanted: Set[str], states: StateStore) -> None:
    for fingerprint in sorted(wanted):
        _refuse_running(states[fingerprint])
    for fingerprint in sorted(wanted):
        states[fingerprint].begin_anew()


def _resting_on(trials: set[str], states: StateStore) -> set[str]:
    """Returns the evaluations of these trainings that any study has ever asked for here."""
    described = ((key, states[key].about() or {}) for key in states.fingerprints())
    return {key for key, about in described if about.get("trial") in trials}


def _refuse_running(state: NodeState) -> None:
    """Raises if the node is being run; the lease of a process on another machine is watched for as long as it takes."""
    watch, first = Watch(), state.lease()
    last = first
    while last is not None and last.is_running and not watch.is_over(state.folder, last):
        if last != first or last.process.is_here:
            where = f"process {last.process.pid} on {last.process.host}"
            raise LeaseError(f"{state.folder} is being run by {where}. Wait until that is done, or stop it.")
        time.sleep(_LOOK_SECONDS)
        last = state.lease()
