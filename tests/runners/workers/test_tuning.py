"""Trainings whose settings are proposed, on the real trainer: what they look at, how they end, how they go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ablations import vocabulary as names
from ablations.planning.nodes import Node, ProposedNode, TrialNode
from ablations.planning.optimisation import slot_fingerprint
from ablations.planning.optimisation_plans import OptimisationPlan, make_tuning_plan
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.planning.tuned_values import read_tuned
from ablations.presets import get_preset
from ablations.spec.factors import Factor
from ablations.spec.fingerprint import trial_fingerprint
from ablations.study import Study, Variant
from runners.data.sources import MemorySource
from runners.launching.tuning_results import read_results, write_tuned
from runners.provenance import Commit
from runners.state.nodes import NodeState, StateStore
from runners.training.trainer import Trainer
from runners.workers import proposals
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import TINY, Bench
from tests.runners.journals import open_journal

RATE = {"train.learning_rate": Factor(low=0.001, high=0.1, log=True)}


def planned(bench: Bench, budget: int = 1, nuisance: dict[str, Factor] = RATE, **settings: Any) -> OptimisationPlan:
    """Describes the tuning of one tiny variant."""
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    about = {"name": "mine", "title": "mine", "question": "q?", "reference": "only", "nuisance": nuisance}
    study = Study.model_validate({**about, "variants": [Variant(name="only")], "baseline": {**TINY, **changed}})
    plan = make_tuning_plan([study], Request(get_preset("smoke")), budget)
    describe(bench.states, plan.as_plan().nodes)
    return plan


def describe(states: StateStore, nodes: Iterable[Node]) -> None:
    for node in nodes:
        states[node.fingerprint].describe(node)


def nodes_of(plan: OptimisationPlan) -> list[ProposedNode]:
    return list(plan.as_plan().proposed.values())


def run(bench: Bench, node: Node, **more: Any) -> NodeState:
    run_node(Task(bench.root, node.fingerprint, device="cpu", **more))
    return bench.states[node.fingerprint]


def metrics_of(state: NodeState) -> dict[str, float]:
    result = state.result()
    assert result is not None, state.failure()
    found: dict[str, float] = result["metrics"]
    return found


def refuse_test_split(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes opening the test split an error; returns the splits that were evaluated."""
    honest, seen = MemorySource.evaluation, list[str]()

    def guarded(self: MemorySource, split: Any) -> Any:
        seen.append(split)
        assert split != "test", "the test split was opened"
        return honest(self, split)

    monkeypatch.setattr(MemorySource, "evaluation", guarded)
    return seen


def test_tuning_looks_at_the_validation_split_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = nodes_of(planned(bench))
    seen = refuse_test_split(monkeypatch)
    state = run(bench, node)
    metrics = metrics_of(state)
    assert seen == ["validation", "validation"]
    assert not [name for name in metrics if name.startswith("test/")]
    assert metrics[names.TUNING_TOP1] == state.events()[-1]["metrics"][names.VAL_TOP1]
    assert metrics[names.TUNING_EPOCHS] == 2
    assert not state.weights_file.exists()
    # The guard does catch a trial that is measured.
    trial = run(bench, bench.trial())
    assert "the test split was opened" in str(trial.failure())


def test_a_proposal_is_trained_as_the_trial_of_its_settings(bench: Bench) -> None:
    (node,) = nodes_of(planned(bench, train__learning_rate=0.03))
    state = run(bench, node)
    proposal = state.proposal()
    # The first proposal is what the variant has.
    assert proposal == {"values": {"train.learning_rate": 0.03}, "outcome": "complete"}
    spec = state.training(node)
    same = TrialNode(trial_fingerprint(spec), spec)
    describe(bench.states, [same])
    other = run(bench, same)
    assert [event["metrics"]["train/loss"] for event in state.events()] == [
        event["metrics"]["train/loss"] for event in other.events()
    ]


def test_a_killed_training_goes_on_with_what_was_proposed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(bench, nodes_of(planned(bench))[0])
    other = Bench(tmp_path / "other" / "state")
    (node,) = nodes_of(planned(other))
    honest, steps = Trainer._step, iter(range(100))

    def dies(self: Trainer, *args: Any) -> Any:
        if next(steps) == 5:
            raise KeyboardInterrupt
        return honest(self, *args)

    monkeypatch.setattr(Trainer, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        run(other, node, checkpoint_seconds=0.0)
    monkeypatch.setattr(Trainer, "_step", honest)
    before = other.states[node.fingerprint].proposal()
    state = run(other, node)
    assert next(steps) < 9, "it did not begin from the start"
    assert (state.proposal() or {})["values"] == (before or {})["values"]
    assert metrics_of(state)[names.TUNING_TOP1] == metrics_of(whole)[names.TUNING_TOP1]
    study = open_journal(proposals.journal_file(other.root, node.group), node.group)
    assert [(trial.state.name, trial.value) for trial in study.trials] == [
        ("COMPLETE", metrics_of(state)[names.TUNING_TOP1])
    ]


def test_a_kill_between_telling_and_the_result_costs_no_second_training(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = nodes_of(planned(bench))
    honest = NodeState.finish

    def dies(*args: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NodeState, "finish", dies)
    with pytest.raises(KeyboardInterrupt):
        run(bench, node)
    monkeypatch.setattr(NodeState, "finish", honest)
    monkeypatch.setattr(Trainer, "run", dies)
    assert metrics_of(run(bench, node))[names.TUNING_EPOCHS] == 2


def test_a_training_that_is_not_promising_is_stopped_early(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    nuisance = {"train.learning_rate": Factor(choices=(0.05, 1e-9)), "train.momentum": Factor(choices=(0.5, 0.9))}
    nodes = nodes_of(planned(bench, 8, nuisance, train__learning_rate=0.05, train__epochs=3))
    honest, order = Trainer._validate, iter(range(100))

    def worse_each_time(self: Trainer) -> dict[str, float]:
        return honest(self) | {names.VAL_TOP1: 100.0 - next(order)}

    monkeypatch.setattr(Trainer, "_validate", worse_each_time)
    states = [run(bench, node) for node in nodes]
    outcomes = [(state.proposal() or {})["outcome"] for state in states]
    assert outcomes[0] == "complete"
    assert "pruned" in outcomes
    pruned = states[outcomes.index("pruned")]
    assert metrics_of(pruned)[names.TUNING_EPOCHS] < 3
    assert names.TUNING_TOP1 in metrics_of(pruned)
    assert not list(pruned.folder.glob("checkpoint*"))


def test_a_training_that_goes_wrong_has_a_result_and_never_wins(bench: Bench) -> None:
    nuisance = {"train.learning_rate": Factor(low=1e30, high=1e32, log=True)}
    plan = planned(bench, 1, nuisance)
    state = run(bench, nodes_of(plan)[0])
    assert (state.proposal() or {})["outcome"] == "diverged"
    assert names.TUNING_TOP1 not in metrics_of(state)
    assert state.failure() is None
    (tuned,) = read_results(plan, bench.states)
    assert tuned.best is None
    assert tuned.spent.diverged == 1


def test_two_factors_of_a_search_are_judged_by_accuracy_and_multiply_adds(bench: Bench) -> None:
    (node,) = nodes_of(planned(bench))
    factors = {"model.num_kernels": Factor(choices=(2, 4))}
    optimisation = dataclasses.replace(node.optimisation, kind="search", fingerprint="g" * 64, factors=factors)
    fingerprint = slot_fingerprint("g" * 64, node.slot)
    searched = dataclasses.replace(node, fingerprint=fingerprint, optimisation=optimisation)
    describe(bench.states, [searched])
    assert bench.states[searched.fingerprint].node() == searched
    metrics = metrics_of(run(bench, searched))
    assert metrics[names.COST_MULTIPLY_ADDS] > 0
    study = open_journal(proposals.journal_file(bench.root, "g" * 64), "g" * 64)
    assert study.trials[0].values == [metrics[names.TUNING_TOP1], metrics[names.COST_MULTIPLY_ADDS]]


LEARNS: dict[str, Any] = {
    "data.train_images": 400,
    "data.validation_images": 100,
    "data.test_images": 250,
    "data.augmentation": "none",
    "model.layer": "static",
    "model.width": 0.35,
    "model.depth": 0.3,
    "model.stem_stride": 1,
    "train.epochs": 4,
    "train.batch_size": 20,
    "train.learning_rate": 0.1,
    "train.warmup_epochs": 0.0,
}
"""Enough to be learned in seconds. The shared learning rate is high for SGD and far too high for AdamW."""

RACE = Study.model_validate(
    {
        "name": "race",
        "title": "race",
        "question": "Is SGD better than AdamW?",
        "reference": "sgd",
        "baseline": LEARNS,
        "variants": [
            Variant(name="sgd", changes={"train.optimizer": "sgd"}),
            Variant(name="adamw", changes={"train.optimizer": "adamw"}),
        ],
        "nuisance": {"train.learning_rate": Factor(low=0.006, high=0.02, log=True)},
    }
)


def measured(bench: Bench, plan: Plan) -> dict[str, float]:
    """Runs a plan of one seed and returns the accuracy of each variant on the test split."""
    describe(bench.states, plan.nodes)
    return {cell.variant: metrics_of(run(bench, plan.node(cell.fingerprint)))[names.TEST_TOP1] for cell in plan.cells}


@pytest.mark.torture
@pytest.mark.slow
def test_a_baseline_that_loses_with_a_bad_shared_learning_rate_draws_level_when_tuned(
    bench: Bench, tmp_path: Path
) -> None:
    request = Request(get_preset("smoke"), seeds=1)
    shared = measured(bench, make_plan([RACE], request))
    tuning = make_tuning_plan([RACE], request, 4)
    describe(bench.states, tuning.as_plan().nodes)
    for node in nodes_of(tuning):
        run(bench, node)
    write_tuned(tuning, read_results(tuning, bench.states), tmp_path, Commit("abc", False))
    tuned = dataclasses.replace(request, tuned=read_tuned(tmp_path / "tuning"))
    level = measured(bench, make_plan([RACE], tuned))
    assert shared["sgd"] - shared["adamw"] > 15
    assert abs(level["sgd"] - level["adamw"]) < 10
