"""This module runs a training whose settings Optuna proposes, and stops it early if Optuna finds it hopeless.

The training itself is that of any other trial (`runners.workers.measure`), with its checkpoints and its lease. Only the
validation split is measured; the test split is not opened here. Imports optuna.
"""

from __future__ import annotations

from functools import partial

import dyconv
from ablations import vocabulary as names
from ablations.errors import TrainingError
from ablations.planning.nodes import ProposedNode
from runners.state.nodes import NodeState
from runners.training.network import build_network, input_size
from runners.workers.measure import train_anywhere
from runners.workers.proposals import Proposal, ProposalOutcome, PrunedError, objectives, propose
from runners.workers.task import Task


def settle_values(node: ProposedNode, state: NodeState, task: Task) -> None:
    """Write the proposed values of a node, unless an earlier attempt has; from then on its settings are known."""
    if state.proposal() is None:
        values = node.values if node.values is not None else propose(node, task.state_root).values
        state.note_proposal(values=dict(values))
        # The title in this folder, which people read, names the proposed values from now on.
        state.describe(node)


def run_proposed(node: ProposedNode, state: NodeState, task: Task) -> dict[str, float]:
    """Train with the proposed values and tell Optuna the outcome; return the metrics for the tuning or search.

    A training whose loss is not a number is no failure here: it is the outcome of its settings.
    """
    proposal = propose(node, task.state_root) if node.values is None else None
    outcome: ProposalOutcome | None = (state.proposal() or {}).get("outcome")
    if outcome is None:
        outcome = _train(node, state, task, proposal)
        # Noted before Optuna is told: an attempt after a kill does not train again, it only tells.
        state.note_proposal(outcome=outcome)
    metrics = _measured(node, state, outcome)
    if proposal is not None:
        proposal.tell(outcome, objectives(metrics))
    # Nobody measures these weights again, and a tuning has hundreds of them.
    state.weights_file.unlink(missing_ok=True)
    return metrics


def _train(node: ProposedNode, state: NodeState, task: Task, proposal: Proposal | None) -> ProposalOutcome:
    try:
        train_anywhere(node, state, task, partial(_report, node, proposal))
    except PrunedError as stop:
        state.note(str(stop))
        return "pruned"
    except TrainingError as error:
        state.note(f"the training went wrong, which is its result: {error}")
        return "diverged"
    return "complete"


def _report(node: ProposedNode, proposal: Proposal | None, epoch: int, metrics: dict[str, float]) -> None:
    # With two objectives Optuna takes no reports; after the last epoch there is nothing left to save.
    if proposal is not None and node.kind == "tuning" and epoch < node.spec.train.epochs:
        proposal.report(epoch, metrics[names.VAL_TOP1])


def _measured(node: ProposedNode, state: NodeState, outcome: ProposalOutcome) -> dict[str, float]:
    events = state.events()
    metrics = {names.TUNING_EPOCHS: float(max((event["step"] for event in events), default=0))}
    if events and outcome != "diverged":
        metrics[names.TUNING_TOP1] = events[-1]["metrics"][names.VAL_TOP1]
    if node.kind == "search":
        spec = state.training(node)
        facts = spec.data.facts
        counted = dyconv.cost(build_network(spec.model, facts, spec.seed), input_size(facts))
        metrics[names.COST_PARAMETERS] = float(counted.parameters)
        metrics[names.COST_MULTIPLY_ADDS] = float(counted.multiply_adds)
    return metrics
