"""This module runs a training whose settings Optuna proposes, and stops it early if Optuna finds it hopeless.

A group of trainings is one Optuna study in a journal file of its own, which many processes on many machines may append
to. A trial belongs to the node (the slot) that it was made for, whichever process runs that: after a kill the next
attempt finds the trial again.

The training itself is that of any other trial (`runners.workers.measure`), with its checkpoints and its lease. Only the
validation split is measured; the test split is not opened here. Imports optuna.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

import dyconv
from ablations import vocabulary as names
from ablations.errors import TrainingError
from ablations.planning.nodes import ProposedNode
from ablations.planning.spaces import every_training, is_countable, training_of
from ablations.planning.tuning_groups import slot_fingerprint
from ablations.spec.factors import Factor
from ablations.spec.settings import merge
from runners.state.files import exclusively
from runners.state.layout import RunsFolder
from runners.state.nodes import NodeState, StateStore
from runners.training.network import build_network, input_size
from runners.workers.measure import train_anywhere
from runners.workers.task import Task

Outcome = Literal["complete", "pruned", "diverged"]

TUNING_STARTUP, SEARCH_STARTUP = 5, 10
"""Trials drawn at random before Optuna models their outcomes, of a tuning and of a search."""

REDUCTION = 3
"""Hyperband's eta: one in so many trials goes on at each rung, and each rung is so many times as long as the last."""

_SLOT = "slot"
_TRAINING = "training"
_ASKED_AGAIN = 10
"""Requests to Optuna for settings that have not been tried, before they are drawn at random."""

_DRAWN = 1000
_STATES: Mapping[Outcome, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    # A pruned trial without a value counts as bad for Optuna; a failed one would count as nothing.
    "diverged": TrialState.PRUNED,
}


class PrunedError(Exception):
    """A training is stopped early, as it is not among the promising ones of its group."""


def journal_file(state_root: Path, group: str) -> Path:
    """Return the path of a group's journal, beside the state folders."""
    return RunsFolder.around(state_root).journals / f"{group[:32]}.log"


@dataclass(frozen=True)
class Proposal:
    """An Optuna trial that is under way for a node.

    Attributes:
        study: The Optuna study of the group.
        number: The trial's number in it.
        values: The proposed values, by factor.
        is_told: Whether an earlier attempt has told how it ended.
    """

    study: optuna.Study
    number: int
    values: Mapping[str, Any]
    is_told: bool

    def report(self, epoch: int, value: float) -> None:
        """Tell the value after an epoch (from 1).

        Raises:
            PrunedError: If the training is to be stopped here.
        """
        trial, storage = self._trial, self.study._storage
        # A resumed training reports some epochs again; the first value stays.
        if epoch not in trial.intermediate_values:
            storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        if self.study.pruner.prune(self.study, self._trial):
            raise PrunedError(f"stopped after epoch {epoch}")

    def tell(self, outcome: Outcome, values: list[float] | None) -> None:
        """Tell Optuna the outcome of the trial; of one that did not complete, the reported values count."""
        state = _STATES[outcome]
        objective_values = values if state is TrialState.COMPLETE else None
        self.study.tell(self.number, objective_values, state=state, skip_if_finished=True)

    @property
    def _trial(self) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[self.number]


def propose(node: ProposedNode, state_root: Path) -> Proposal:
    """Return the trial of a node, as an earlier attempt has made it, or a new one.

    Raises:
        OutputError: If the journal cannot be written.
    """
    journal = journal_file(state_root, node.group)
    journal.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Locked, because a trial has no slot yet when it is created, and another process would bury it as nobody's.
    with exclusively(journal.with_suffix(".lock")):
        study = _open(node, journal)
        trial = _of_slot(study, node.slot)
        if trial is None:
            _bury_nameless(study)
            _adopt(study, node, StateStore(state_root))
            trial = _ask(study, node)
    return Proposal(study, trial.number, trial.params, trial.state.is_finished())


def _open(node: ProposedNode, journal: Path) -> optuna.Study:
    is_tuning = node.kind == "tuning"
    startup = TUNING_STARTUP if is_tuning else SEARCH_STARTUP
    return optuna.create_study(
        study_name=node.group,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=optuna.samplers.TPESampler(n_startup_trials=startup, seed=_seed(node)),
        pruner=_hyperband(node) if is_tuning else optuna.pruners.NopPruner(),
        directions=["maximize"] if is_tuning else ["maximize", "minimize"],
        load_if_exists=True,
    )


def _hyperband(node: ProposedNode) -> optuna.pruners.BasePruner:
    """Return the Hyperband pruner (Li et al., 2018), with no stop before 1/9 of the epochs and the longest warm-up."""
    epochs, warmup = node.spec.train.epochs, node.factors.get("train.warmup_epochs")
    longest = max([node.spec.train.warmup_epochs, *map(float, warmup.ends if warmup is not None else ())])
    first = max(math.ceil(epochs / REDUCTION**2), math.ceil(longest))
    return optuna.pruners.HyperbandPruner(first, epochs, REDUCTION)


def _of_slot(study: optuna.Study, slot: int) -> FrozenTrial | None:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get(_SLOT) == slot]
    return trials[-1] if trials else None


def _adopt(study: optuna.Study, node: ProposedNode, states: StateStore) -> None:
    """Add to a journal the group's finished trials that it lacks: they were run with a journal elsewhere."""
    known_slots = {trial.user_attrs.get(_SLOT) for trial in study.get_trials(deepcopy=False)}
    for slot in range(node.slot):
        state = states[slot_fingerprint(node.group, slot)]
        result, proposal = state.result(), state.proposal()
        if slot not in known_slots and result is not None and proposal is not None:
            study.add_trial(_as_trial(node, slot, proposal, state, objectives(result["metrics"])))


def _as_trial(
    node: ProposedNode, slot: int, proposal: Mapping[str, Any], state: NodeState, values: list[float]
) -> FrozenTrial:
    outcome: Outcome = proposal.get("outcome", "complete")
    reported = {event["step"]: event["metrics"][names.VAL_TOP1] for event in state.events()}
    return optuna.trial.create_trial(
        state=_STATES[outcome],
        params=dict(proposal["values"]),
        distributions={name: _distribution(name, factor) for name, factor in node.factors.items()},
        values=values if outcome != "diverged" else None,
        intermediate_values=reported if len(values) < 2 and outcome != "diverged" else None,
        user_attrs={_SLOT: slot},
    )


def objectives(metrics: Mapping[str, float]) -> list[float]:
    """Return the objectives of a result for Optuna: accuracy, and multiply-adds where a search counts them."""
    return [metrics[name] for name in (names.TUNING_TOP1, names.COST_MULTIPLY_ADDS) if name in metrics]


def _bury_nameless(study: optuna.Study) -> None:
    """Fail the trials whose process died before it could note their slot."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _SLOT not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)


def _ask(study: optuna.Study, node: ProposedNode) -> FrozenTrial:
    base = _base(node)
    if node.slot == 0 and base is not None:
        # The values before any tuning are a candidate too, so that tuning cannot end with something worse.
        study.enqueue_trial(base, skip_if_exists=True)
    trial = _ask_for_new(study, node)
    trial.set_user_attr(_TRAINING, _training(node, trial.params))
    trial.set_user_attr(_SLOT, node.slot)
    return study.get_trials(deepcopy=False)[trial.number]


def _ask_for_new(study: optuna.Study, node: ProposedNode) -> optuna.Trial:
    """Ask for settings whose training no other slot has; if there are none, for any settings."""
    distributions = {name: _distribution(name, factor) for name, factor in node.factors.items()}
    tried = _tried(study, node)
    for _ in range(_ASKED_AGAIN):
        trial = study.ask(distributions)
        if _training(node, trial.params) not in tried:
            return trial
        # Nobody trains these settings again, so the trial ends as failed, from which Optuna learns nothing.
        study.tell(trial.number, state=TrialState.FAIL)
    values = _untried(node, tried, distributions)
    if values is not None:
        study.enqueue_trial(dict(values))
    return study.ask(distributions)


def _tried(study: optuna.Study, node: ProposedNode) -> set[str | None]:
    """Return the trainings of other slots, and `None`, which stands for settings that do not fit together."""
    tried: set[str | None] = {None}
    for trial in study.get_trials(deepcopy=False):
        if _SLOT in trial.user_attrs:
            tried.add(trial.user_attrs.get(_TRAINING) or _training(node, trial.params))
    return tried


def _training(node: ProposedNode, values: Mapping[str, Any]) -> str | None:
    return training_of(node.general, node.own, node.factors, values)


def _untried(
    node: ProposedNode,
    tried: set[str | None],
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
) -> Mapping[str, Any] | None:
    """Return settings at random whose training no other slot has, or `None` if none was found."""
    draw = random.Random(_seed(node))
    if is_countable(node.factors):
        trainings = every_training(node.general, node.own, node.factors, _DRAWN)
        new = [values for values, training in trainings if training not in tried]
        if new:
            return draw.choice(new)
    sampler = optuna.samplers.RandomSampler(seed=_seed(node))
    # A study of its own, in memory: Optuna draws from distributions only through a study.
    drawn = optuna.create_study(sampler=sampler)
    for _ in range(_DRAWN):
        values = drawn.ask(dict(distributions)).params
        if _training(node, values) not in tried:
            return values
    return None


def _seed(node: ProposedNode) -> int:
    # Each slot has a seed of its own: with one seed for all, every process would draw the same settings at first.
    return int.from_bytes(hashlib.sha256(f"{node.group}/{node.slot}".encode()).digest()[:4], "little")


def _base(node: ProposedNode) -> dict[str, Any] | None:
    """Return the values of the factors before any proposal, or `None` if one lies outside its factor's range."""
    values = merge([node.general, node.own])
    if any(factor.options is not None or not factor.contains(values[name]) for name, factor in node.factors.items()):
        return None
    return {name: values[name] for name in node.factors}


def _distribution(name: str, factor: Factor) -> optuna.distributions.BaseDistribution:
    if factor.labels is not None:
        return optuna.distributions.CategoricalDistribution(factor.labels)
    low, high = factor.low, factor.high
    assert low is not None
    assert high is not None
    if factor.is_whole(name):
        return optuna.distributions.IntDistribution(int(low), int(high), log=factor.log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=factor.log)


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
    outcome: Outcome | None = (state.proposal() or {}).get("outcome")
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


def _train(node: ProposedNode, state: NodeState, task: Task, proposal: Proposal | None) -> Outcome:
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


def _measured(node: ProposedNode, state: NodeState, outcome: Outcome) -> dict[str, float]:
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
