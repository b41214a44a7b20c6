"""This module asks Optuna for the settings of a training, and tells it how the training goes and ends.

A group of trainings is one Optuna study in a journal file of its own, which many processes on many machines may append
to. A trial belongs to the node (the slot) that it was made for, whichever process runs that: after a kill the next
attempt finds the trial again. `runners.workers.proposed_training` runs the training. Imports optuna.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from ablations import vocabulary as names
from ablations.planning.nodes import ProposedNode
from ablations.planning.optimisation import Optimisation, slot_fingerprint
from ablations.spec.factors import Factor
from ablations.spec.settings import merge
from runners.state.files import exclusively
from runners.state.layout import RunsFolder
from runners.state.nodes import NodeState, StateStore

ProposalOutcome = Literal["complete", "pruned", "diverged"]
Distributions = dict[str, optuna.distributions.BaseDistribution]

TUNING_STARTUP, SEARCH_STARTUP = 5, 10
"""Trials drawn at random before Optuna models their outcomes, of a tuning and of a search."""

REDUCTION = 3
"""Hyperband's eta: one in so many trials goes on at each rung, and each rung is so many times as long as the last."""

# User attributes of an Optuna trial: the slot of its node, and the fingerprint of its training with seed 0.
_SLOT = "slot"
_TRAINING = "training"
_REQUESTS = 10
"""Requests to Optuna for settings that have not been tried, before they are drawn at random."""

_DRAWS = 1000
"""Settings drawn at random, until one is found that has not been tried."""

_STATES: Mapping[ProposalOutcome, TrialState] = {
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
        storage: The storage of the study.
        number: The trial's number in it.
        values: The proposed values, by factor.
        is_told: Whether an earlier attempt has told how it ended.
    """

    study: optuna.Study
    storage: JournalStorage
    number: int
    values: Mapping[str, Any]
    is_told: bool

    def report(self, epoch: int, value: float) -> None:
        """Tell the value after an epoch (from 1).

        Raises:
            PrunedError: If the training is to be stopped here.
        """
        # Through the storage: only the process that began a trial has the object with Optuna's `report`.
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, self.number)
        # A resumed training reports some epochs again; the first value stays.
        if epoch not in self.storage.get_trial(trial_id).intermediate_values:
            self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        if self.study.pruner.prune(self.study, self.storage.get_trial(trial_id)):
            raise PrunedError(f"stopped after epoch {epoch}")

    def tell(self, outcome: ProposalOutcome, values: list[float] | None) -> None:
        """Tell Optuna the outcome of the trial; of one that did not complete, the reported values count."""
        state = _STATES[outcome]
        if state is not TrialState.COMPLETE:
            values = None
        self.study.tell(self.number, values, state=state, skip_if_finished=True)


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
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = _open(node, storage)
        trial = _of_slot(study, node.slot)
        if trial is None:
            _bury_nameless(study)
            _adopt(study, node, StateStore(state_root))
            trial = _ask(study, node)
    return Proposal(study, storage, trial.number, trial.params, trial.state.is_finished())


def _open(node: ProposedNode, storage: JournalStorage) -> optuna.Study:
    startup = SEARCH_STARTUP
    directions: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"]
    # With two objectives Optuna cannot stop trials early.
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if node.kind == "tuning":
        startup = TUNING_STARTUP
        directions = ["maximize"]
        pruner = _hyperband(node)
    return optuna.create_study(
        study_name=node.group,
        storage=storage,
        sampler=optuna.samplers.TPESampler(n_startup_trials=startup, seed=_seed(node)),
        pruner=pruner,
        directions=directions,
        load_if_exists=True,
    )


def _hyperband(node: ProposedNode) -> optuna.pruners.BasePruner:
    """Return the Hyperband pruner (Li et al., 2018), with no stop before 1/9 of the epochs and the longest warm-up."""
    epochs, longest_warmup = node.spec.train.epochs, node.spec.train.warmup_epochs
    warmup = node.factors.get("train.warmup_epochs")
    if warmup is not None:
        longest_warmup = max(longest_warmup, *map(float, warmup.ends))
    first_rung = max(math.ceil(epochs / REDUCTION**2), math.ceil(longest_warmup))
    return optuna.pruners.HyperbandPruner(first_rung, epochs, REDUCTION)


def _of_slot(study: optuna.Study, slot: int) -> FrozenTrial | None:
    for trial in reversed(study.get_trials(deepcopy=False)):
        if trial.user_attrs.get(_SLOT) == slot:
            return trial
    return None


def _adopt(study: optuna.Study, node: ProposedNode, states: StateStore) -> None:
    """Add to a journal the group's finished trials that it lacks: they were run with a journal elsewhere."""
    slots = {trial.user_attrs.get(_SLOT) for trial in study.get_trials(deepcopy=False)}
    for slot in range(node.slot):
        state = states[slot_fingerprint(node.group, slot)]
        result, proposal = state.result(), state.proposal()
        if slot not in slots and result is not None and proposal is not None:
            study.add_trial(_as_trial(node, slot, proposal, state, objectives(result["metrics"])))


def _as_trial(
    node: ProposedNode, slot: int, proposal: Mapping[str, Any], state: NodeState, values: list[float]
) -> FrozenTrial:
    outcome: ProposalOutcome = proposal.get("outcome", "complete")
    is_diverged = outcome == "diverged"
    reported = {event["step"]: event["metrics"][names.VAL_TOP1] for event in state.events()}
    # With two objectives Optuna takes no reports.
    if is_diverged or len(values) > 1:
        reported = {}
    return optuna.trial.create_trial(
        state=_STATES[outcome],
        params=dict(proposal["values"]),
        distributions=_distributions(node.optimisation),
        values=None if is_diverged else values,
        intermediate_values=reported,
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
    base = _base(node.optimisation)
    if node.slot == 0 and base is not None:
        # The values before any tuning are a candidate too, so that tuning cannot end with something worse.
        study.enqueue_trial(base, skip_if_exists=True)
    trial = _ask_for_new(study, node)
    trial.set_user_attr(_TRAINING, node.optimisation.training_of(trial.params))
    # Last, as it makes the trial this node's: after a kill before this line the trial is buried.
    trial.set_user_attr(_SLOT, node.slot)
    return study.get_trials(deepcopy=False)[trial.number]


def _ask_for_new(study: optuna.Study, node: ProposedNode) -> optuna.Trial:
    """Ask for settings whose training no other slot has; if there are none, for any settings."""
    distributions = _distributions(node.optimisation)
    tried = _tried(study, node.optimisation)
    for _ in range(_REQUESTS):
        trial = study.ask(distributions)
        if node.optimisation.training_of(trial.params) not in tried:
            return trial
        # Nobody trains these settings again, so the trial ends as failed, from which Optuna learns nothing.
        study.tell(trial.number, state=TrialState.FAIL)
    values = _draw_untried(node, tried, distributions)
    if values is not None:
        study.enqueue_trial(dict(values))
    return study.ask(distributions)


def _tried(study: optuna.Study, optimisation: Optimisation) -> set[str | None]:
    """Return the trainings of other slots, and `None`, which stands for settings that do not fit together."""
    tried: set[str | None] = {None}
    for trial in study.get_trials(deepcopy=False):
        if _SLOT in trial.user_attrs:
            # Trials that were adopted have no note of their training.
            tried.add(trial.user_attrs.get(_TRAINING) or optimisation.training_of(trial.params))
    return tried


def _draw_untried(node: ProposedNode, tried: set[str | None], distributions: Distributions) -> Mapping[str, Any] | None:
    """Return settings at random whose training no other slot has, or `None` if none was drawn."""
    if node.optimisation.is_countable:
        trainings = node.optimisation.distinct_trainings(_DRAWS)
        untried = [values for values, training in trainings if training not in tried]
        if untried:
            return random.Random(_seed(node)).choice(untried)
    # A study of its own, in memory: Optuna draws from distributions only through a study.
    random_study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=_seed(node)))
    for _ in range(_DRAWS):
        values = random_study.ask(dict(distributions)).params
        if node.optimisation.training_of(values) not in tried:
            return values
    return None


def _seed(node: ProposedNode) -> int:
    # Each slot has a seed of its own: with one seed for all, every process would draw the same settings at first.
    return int.from_bytes(hashlib.sha256(f"{node.group}/{node.slot}".encode()).digest()[:4], "little")


def _base(optimisation: Optimisation) -> dict[str, Any] | None:
    """Return the values of the factors before any proposal, or `None` if one lies outside its factor's range."""
    settings = merge([optimisation.general, optimisation.changes])
    for name, factor in optimisation.factors.items():
        if factor.options is not None or not factor.contains(settings[name]):
            return None
    return {name: settings[name] for name in optimisation.factors}


def _distributions(optimisation: Optimisation) -> Distributions:
    return {name: _distribution(name, factor) for name, factor in optimisation.factors.items()}


def _distribution(name: str, factor: Factor) -> optuna.distributions.BaseDistribution:
    if factor.labels is not None:
        return optuna.distributions.CategoricalDistribution(factor.labels)
    low, high = factor.low, factor.high
    assert low is not None
    assert high is not None
    if factor.is_whole(name):
        return optuna.distributions.IntDistribution(int(low), int(high), log=factor.log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=factor.log)
