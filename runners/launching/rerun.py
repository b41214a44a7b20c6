"""Selects the nodes to run again: failed ones (`retry`), forced ones (`run --force`), trainings without weights."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import replace

from ablations.errors import LeaseError, UnknownNameError
from ablations.planning.nodes import EvaluationNode, NetworkNode, TrialNode
from ablations.planning.plan import Plan
from runners.state.attempts import Watch
from runners.state.nodes import NodeState, StateStore

_LOOK_SECONDS = 0.2


def only_failed(plan: Plan, states: StateStore) -> Plan:
    """Return the failed nodes of a plan, with the evaluations that are missing because their training has failed."""
    failed = {node.fingerprint for node in plan.missing if states[node.fingerprint].failure() is not None}
    trials = {key: node for key, node in plan.trials.items() if key in failed}
    networks = {key: node for key, node in plan.networks.items() if key in failed}
    costs = {key: node for key, node in plan.costs.items() if key in failed}
    evaluations: dict[str, EvaluationNode] = {}
    for key, evaluation in plan.evaluations.items():
        if key in failed or (key not in plan.done and evaluation.checkpoint in failed):
            evaluations[key] = evaluation
            # An evaluation can have failed for want of a training that is not done either.
            if evaluation.checkpoint not in plan.done:
                _add(evaluation.network, trials, networks)
    return replace(plan, trials=trials, networks=networks, evaluations=evaluations, costs=costs)


def _add(node: TrialNode | NetworkNode, trials: dict[str, TrialNode], networks: dict[str, NetworkNode]) -> None:
    if isinstance(node, NetworkNode):
        networks[node.fingerprint] = node
    else:
        trials[node.fingerprint] = node


def begin_anew(plan: Plan, variants: Sequence[str], states: StateStore) -> Plan:
    """Put the state folders of some variants aside and return the plan in which their nodes are missing.

    A variant's trainings are done anew, and with each training all evaluations of its checkpoint, also those of other
    studies, as the checkpoint that they measured is replaced.

    Args:
        variants: `study/variant`, or `study/network: variant` for one inspected network.

    Raises:
        UnknownNameError: If there is no such variant in the plan.
        LeaseError: If one of the nodes is being run.
        OutputError: If a folder cannot be moved.
    """
    redone = _to_be_redone(plan, variants, states)
    _put_aside(redone, states)
    return replace(plan, done=plan.done - redone)


def undone(plan: Plan, variants: Sequence[str], states: StateStore) -> Plan:
    """Return the plan that `begin_anew` would return, and changes nothing.

    Raises:
        UnknownNameError: If there is no such variant in the plan.
    """
    if not variants:
        return plan
    return replace(plan, done=plan.done - _to_be_redone(plan, variants, states))


def _to_be_redone(plan: Plan, variants: Sequence[str], states: StateStore) -> set[str]:
    nodes = _nodes_of(plan, variants)
    return nodes | _resting_on(nodes, states)


def train_lost_weights_anew(plan: Plan, states: StateStore) -> tuple[Plan, int]:
    """Return a plan in which networks are missing whose weights are gone and needed, and the number of these networks.

    Weights are gone when `gc` or a person has removed them. They are needed by evaluations that are missing, so with
    each training all evaluations of its checkpoint are done anew, as in `begin_anew`.

    Raises:
        LeaseError: If one of the nodes is being run.
        OutputError: If a folder cannot be moved.
    """
    trials: dict[str, TrialNode] = {}
    networks: dict[str, NetworkNode] = {}
    for evaluation in plan.missing_evaluations:
        state = states[evaluation.checkpoint]
        if state.is_done and not state.weights_file.exists():
            _add(evaluation.network, trials, networks)
    lost = trials.keys() | networks.keys()
    redone = lost | _resting_on(lost, states)
    _put_aside(redone, states)
    plan = replace(plan, trials=trials | plan.trials, networks=networks | plan.networks, done=plan.done - redone)
    return plan, len(lost)


def _nodes_of(plan: Plan, variants: Sequence[str]) -> set[str]:
    """Return the nodes of variants, the trainings that they rest on, and the evaluations of these trainings."""
    by_name: dict[str, set[str]] = {}
    for cell in (*plan.cells, *plan.canaries):
        # `variant` names a row on every inspected network, `key` on one of them.
        for name in dict.fromkeys([cell.variant, cell.key]):
            by_name.setdefault(f"{cell.study}/{name}", set()).add(cell.fingerprint)
    fingerprints: set[str] = set()
    for variant in variants:
        if variant not in by_name:
            raise UnknownNameError("variant", variant, by_name)
        fingerprints |= by_name[variant]
    fingerprints |= {plan.node(fingerprint).checkpoint for fingerprint in fingerprints}
    return fingerprints | {key for key, node in plan.evaluations.items() if node.checkpoint in fingerprints}


def _put_aside(fingerprints: Set[str], states: StateStore) -> None:
    # All are checked before the first is moved: a refusal leaves the folder as it was.
    for fingerprint in sorted(fingerprints):
        _refuse_running(states[fingerprint])
    for fingerprint in sorted(fingerprints):
        states[fingerprint].begin_anew()


def _resting_on(trials: Set[str], states: StateStore) -> set[str]:
    """Return the evaluations of these networks that any study has ever asked for here."""
    evaluations: set[str] = set()
    for fingerprint in states.fingerprints():
        about = states[fingerprint].about()
        if about is not None and about.get("trial") in trials:
            evaluations.add(fingerprint)
    return evaluations


def _refuse_running(state: NodeState) -> None:
    """Raise if the node is being run.

    A process on another machine is known to live only by watching its lease, for up to the lease's length.
    """
    watch, first = Watch(), state.lease()
    lease = first
    while lease is not None and lease.is_running and not watch.is_over(state.folder, lease):
        # A lease that changes is renewed by a live process; of one on this machine, `is_over` knows at once.
        if lease != first or lease.process.is_here:
            holder = f"process {lease.process.pid} on {lease.process.host}"
            raise LeaseError(f"{state.folder} is being run by {holder}. Wait until that is done, or stop it.")
        time.sleep(_LOOK_SECONDS)
        lease = state.lease()
