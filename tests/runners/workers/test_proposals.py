"""What Optuna is asked and told: one trial per slot, found again after a kill, asked by many processes at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import pytest

from ablations import vocabulary as names
from ablations.planning.nodes import ProposedNode
from ablations.planning.optimisation import Optimisation, OptimisationKind, slot_fingerprint
from ablations.spec.factors import Factor
from ablations.spec.fingerprint import trial_fingerprint
from ablations.spec.trial import TrialSpec
from runners.state.nodes import StateStore
from runners.workers.proposals import Proposal, PrunedError, journal_file, open_journal, propose

RATE = {"train.learning_rate": Factor(low=0.001, high=0.5, log=True)}
GROUP = "ab" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of states; journals lie beside it."""
    return tmp_path / "state"


def node(
    slot: int, *, group: str = GROUP, factors: dict[str, Factor] = RATE, kind: OptimisationKind = "tuning"
) -> ProposedNode:
    general = {"train.epochs": 9, "train.learning_rate": 0.05}
    spec = TrialSpec.model_validate({"train": {"epochs": 9, "temperature": {"schedule": "constant"}}})
    optimisation = Optimisation(kind, group, spec, general, {}, factors)
    return ProposedNode(slot_fingerprint(group, slot), spec, optimisation, slot)


def rate(proposal: Proposal) -> float:
    return float(proposal.values["train.learning_rate"])


def trials(root: Path, group: str = GROUP) -> list[optuna.trial.FrozenTrial]:
    return open_journal(journal_file(root, group), group).trials


def end(proposal: Proposal, value: float) -> None:
    proposal.tell("complete", [value])


def test_the_first_proposal_is_what_is_there_already(root: Path) -> None:
    assert rate(propose(node(0), root)) == 0.05
    narrow = {"train.learning_rate": Factor(low=0.1, high=0.5)}
    other = rate(propose(node(0, group="cd" * 32, factors=narrow), root))
    assert 0.1 <= other <= 0.5


def test_each_slot_draws_its_own_and_the_same_in_another_place(root: Path) -> None:
    one, two = ([rate(propose(node(slot), root / place)) for slot in range(4)] for place in ("a/state", "b/state"))
    assert one == two
    assert len(set(one)) == 4
    elsewhere = rate(propose(node(1, group="cd" * 32), root / "c/state"))
    assert elsewhere != one[1]


def test_a_slot_that_asks_again_gets_its_trial_again(root: Path) -> None:
    first = propose(node(1), root)
    first.report(1, 40.0)
    again = propose(node(1), root)
    assert (again.number, again.values, again.is_told) == (first.number, first.values, False)
    # An epoch that is trained again after a kill is told again, too.
    again.report(1, 40.0)
    end(again, 50.0)
    assert propose(node(1), root).is_told
    assert len(trials(root)) == 1
    # Telling twice changes nothing.
    again.tell("complete", [99.0])
    assert trials(root)[0].value == 50.0


def test_what_nobody_runs_is_given_up_and_what_somebody_runs_is_not(root: Path) -> None:
    propose(node(1), root)
    study = open_journal(journal_file(root, GROUP), GROUP)
    study.ask(fixed_distributions={"train.learning_rate": optuna.distributions.FloatDistribution(0.001, 0.5, log=True)})
    propose(node(2), root)
    assert [trial.state.name for trial in trials(root)] == ["RUNNING", "FAIL", "RUNNING"]


def test_later_proposals_are_near_what_was_good(root: Path) -> None:
    for slot in range(24):
        proposal = propose(node(slot), root)
        end(proposal, 50.0 - abs(rate(proposal) - 0.3) * 100)
    found = [float(trial.params["train.learning_rate"]) for trial in trials(root)]
    early, late = (median(abs(value - 0.3) for value in part) for part in (found[:8], found[-8:]))
    assert late < early / 2


def test_the_worse_ones_are_stopped_early_but_none_before_its_warm_up_is_over(root: Path) -> None:
    warm = {**RATE, "train.warmup_epochs": Factor(low=0.0, high=2.5)}
    stopped: list[int] = []
    for slot in range(12):
        proposal = propose(node(slot, factors=warm), root)
        try:
            for epoch in range(1, 9):
                proposal.report(epoch, 50.0 - slot)
        except PrunedError:
            stopped.append(epoch)
            proposal.tell("pruned", None)
        else:
            end(proposal, 50.0 - slot)
    assert stopped
    assert min(stopped) == 3


def test_one_that_goes_wrong_is_remembered_as_bad(root: Path) -> None:
    propose(node(0), root).tell("diverged", None)
    (trial,) = trials(root)
    assert (trial.state.name, trial.value) == ("PRUNED", None)


def test_two_objectives_are_told_without_reports(root: Path) -> None:
    factors = {
        "model.num_kernels": Factor(choices=(2, 4, 8)),
        "temperature": Factor(
            options={"one": {"train.temperature.start": 1.0}, "two": {"train.temperature.start": 9.0}}
        ),
    }
    proposal = propose(node(0, factors=factors, kind="search"), root)
    proposal.tell("complete", [70.0, 1e6])
    (trial,) = trials(root)
    assert trial.values == [70.0, 1e6]
    assert trial.params["temperature"] in ("one", "two")


@pytest.mark.parametrize("outcome", ["complete", "pruned", "diverged"])
def test_a_journal_that_is_lost_is_filled_from_the_state_folders(root: Path, outcome: str) -> None:
    state = StateStore(root)[node(0).fingerprint]
    state.describe(node(0))
    state.note_proposal(values={"train.learning_rate": 0.2}, outcome=outcome)
    state.append_event(1, {names.VAL_TOP1: 61.0})
    measured = {} if outcome == "diverged" else {names.TUNING_TOP1: 61.0}
    state.finish({names.TUNING_EPOCHS: 1.0, **measured}, 1.0)
    propose(node(1), root)
    first, second = trials(root)
    assert first.params == {"train.learning_rate": 0.2}
    assert first.state.name == ("COMPLETE" if outcome == "complete" else "PRUNED")
    assert first.value == {"complete": 61.0, "pruned": 61.0, "diverged": None}[outcome]
    assert second.state.name == "RUNNING"


def _ask(root: Path, slots: list[int]) -> None:
    for slot in slots:
        end(propose(node(slot), root), 10.0 + slot)


def test_several_processes_ask_at_once_and_none_gets_anothers(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_ask, args=(root, list(range(first, 10, 2)))) for first in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    found = trials(root)
    assert sorted(trial.user_attrs["slot"] for trial in found) == list(range(10))
    assert {trial.state.name for trial in found} == {"COMPLETE"}
    assert all(trial.value == 10.0 + trial.user_attrs["slot"] for trial in found)


SPACES: dict[str, tuple[dict[str, Factor], int]] = {
    "one factor of two": ({"train.nesterov": Factor(choices=(True, False))}, 2),
    "two factors": (
        {"train.optimizer": Factor(choices=("sgd", "adamw")), "train.label_smoothing": Factor(choices=(0.0, 0.1, 0.2))},
        6,
    ),
    "whole numbers": ({"data.rand_augment": Factor(low=0, high=4)}, 5),
    "one factor leaves another unread": (
        {"train.optimizer": Factor(choices=("sgd", "adamw")), "train.momentum": Factor(choices=(0.8, 0.9, 0.95))},
        4,
    ),
    "options that are one and the same": (
        {
            "recipe": Factor(
                options={
                    "plain": {"train.label_smoothing": 0.0},
                    "also plain": {"train.label_smoothing": 0.0, "train.optimizer": "sgd"},
                    "smooth": {"train.label_smoothing": 0.1},
                }
            )
        },
        2,
    ),
}


def trained(one: ProposedNode, proposal: Proposal) -> str:
    return trial_fingerprint(one.with_values(proposal.values).model_copy(update={"seed": 0}))


@pytest.mark.parametrize("kind", ["tuning", "search"])
@pytest.mark.parametrize("space", SPACES)
def test_each_training_there_is_is_proposed_once(root: Path, space: str, kind: Any) -> None:
    factors, count = SPACES[space]
    found = set()
    for slot in range(count):
        one = node(slot, factors=factors, kind=kind)
        proposal = propose(one, root)
        proposal.tell("complete", [50.0 + slot] if kind == "tuning" else [50.0 + slot, 1e6])
        found.add(trained(one, proposal))
    assert len(found) == count
    assert one.optimisation.distinct(99) == count
    assert one.optimisation.distinct(count) is None


def test_what_runs_or_was_stopped_counts_as_tried(root: Path) -> None:
    factors = {"train.label_smoothing": Factor(choices=(0.0, 0.1, 0.2, 0.3))}
    proposals = [propose(node(0, factors=factors), root), propose(node(1, factors=factors), root)]
    proposals[1].tell("pruned", None)
    proposals.append(propose(node(2, factors=factors), root))
    proposals[2].tell("diverged", None)
    proposals.append(propose(node(3, factors=factors), root))
    assert len({proposal.values["train.label_smoothing"] for proposal in proposals}) == 4


def test_what_another_machine_has_tried_is_not_tried_again(root: Path) -> None:
    factors = {"train.label_smoothing": Factor(choices=(0.0, 0.1, 0.2))}
    for slot, value in ((0, 0.0), (1, 0.2)):
        state = StateStore(root)[node(slot, factors=factors).fingerprint]
        state.describe(node(slot, factors=factors))
        state.note_proposal(values={"train.label_smoothing": value}, outcome="complete")
        state.finish({names.TUNING_EPOCHS: 1.0, names.TUNING_TOP1: 61.0}, 1.0)
    assert propose(node(2, factors=factors), root).values == {"train.label_smoothing": 0.1}


def test_a_range_beside_a_choice_that_leaves_it_unread_is_drawn_from(root: Path) -> None:
    """One of two trainings with adamw, whatever the momentum, and as many with sgd as are asked for."""
    factors = {"train.optimizer": Factor(choices=("sgd", "adamw")), "train.momentum": Factor(low=0.1, high=0.9)}
    found = []
    for slot in range(12):
        proposal = propose(node(slot, factors=factors), root)
        # Adamw is so much better that Optuna would like to see it again.
        end(proposal, 90.0 if proposal.values["train.optimizer"] == "adamw" else 10.0)
        found.append(proposal.values["train.optimizer"])
    assert found.count("adamw") == 1


def test_of_two_processes_none_proposes_what_the_other_has(root: Path) -> None:
    factors = {"train.label_smoothing": Factor(choices=tuple(i / 20 for i in range(10)))}
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_ask_factors, args=(root, slots, factors)) for slots in ([0, 2, 4], [1, 3, 5])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    proposed = [trial.params["train.label_smoothing"] for trial in trials(root) if "slot" in trial.user_attrs]
    assert len(proposed) == len(set(proposed)) == 6


def _ask_factors(root: Path, slots: list[int], factors: dict[str, Factor]) -> None:
    for slot in slots:
        propose(node(slot, factors=factors), root)
