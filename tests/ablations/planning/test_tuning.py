"""What is tuned together, the plan of a tuning, and the values it has found: shared, found again, or refused."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import SpecError, TuningError
from ablations.planning.nodes import EvaluationNode
from ablations.planning.optimisation import TUNING_SEED, Optimisation
from ablations.planning.optimisation_plans import OptimisationPlan, make_tuning_plan
from ablations.planning.plan import CANARY_SEED, Plan, make_plan
from ablations.planning.request import Request
from ablations.planning.tuned_values import Spent, TunedFile, TunedVariant, read_tuned, tuned_path, with_entries
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.factors import Factor, resolve_proposed
from ablations.spec.fingerprint import digest, trial_fingerprint
from ablations.spec.parts import Intervention
from ablations.spec.settings import Settings
from ablations.spec.trial import TrialSpec
from ablations.study import Scale, Study, Variant
from runners.console.tables import plan_overview

RATE = Factor(low=0.001, high=0.5, log=True)
SPENT = Spent(budget=4, complete=2, pruned=1, diverged=1, epochs=9, seconds=12.5)
STATIC = Variant(name="static", changes={"model.layer": "static"})
DYNAMIC = Variant(name="dynamic")
AVERAGED = Variant(name="averaged", intervention=Intervention(aggregation="average"))


def study(name: str = "mine", *variants: Variant, **more: Any) -> Study:
    chosen = variants or (STATIC, DYNAMIC, AVERAGED)
    about = {"name": name, "title": name, "question": "q?", "reference": chosen[0].name}
    return Study.model_validate({**about, "variants": chosen, "nuisance": {"train.learning_rate": RATE}, **more})


def request(**more: Any) -> Request:
    return Request(get_preset("smoke"), **more)


def planned(*studies: Study, budget: int = 2, **more: Any) -> OptimisationPlan:
    return make_tuning_plan(studies or (study(),), request(**more), budget)


def test_what_trains_the_same_is_tuned_once_for_all_its_rows_and_studies() -> None:
    plan = planned(study(), study("other", DYNAMIC))
    assert [plan.serves[tuning.fingerprint] for tuning in plan.optimisations] == [
        {"mine": ["static"]},
        {"mine": ["dynamic", "averaged"], "other": ["dynamic"]},
    ]


def test_evaluation_only_variants_share_the_tuning_of_their_network() -> None:
    plan = make_tuning_plan([get_study("aggregation", request().base())], request(), 3)
    (first, *_) = plan.serves.values()
    assert {key.partition(": ")[0] for key in first["aggregation"]} == {plan.studies[0].inspect[0]}
    assert len(plan.optimisations) == len(plan.studies[0].inspect)


@pytest.mark.parametrize(
    "changed",
    [
        {"overrides": {"train.epochs": 3}},
        {"overrides": {"train.learning_rate": 0.2}},
        {"overrides": {"model.width": 0.5}},
    ],
)
def test_other_settings_are_tuned_apart(changed: dict[str, Any]) -> None:
    one, other = (planned(**more).optimisations[0].fingerprint for more in ({}, changed))
    assert one != other


def test_other_ranges_are_tuned_apart_and_what_nothing_reads_is_not_told_apart() -> None:
    base = planned().optimisations[0].fingerprint
    wider = study(nuisance={"train.learning_rate": RATE.model_copy(update={"high": 0.6})})
    assert planned(wider).optimisations[0].fingerprint != base
    kernels = study(baseline={"model.num_kernels": 8})
    static, dynamic = planned(kernels).optimisations
    assert static.fingerprint == base
    assert dynamic.fingerprint != planned().optimisations[1].fingerprint


def test_what_only_a_choice_makes_read_tells_apart() -> None:
    choice = {"train.optimizer": Factor(choices=("sgd", "adamw"))}
    stepped = {"train.optimizer": "adamw"}
    one = planned(study(nuisance=choice, baseline={**stepped, "train.momentum": 0.5}))
    other = planned(study(nuisance=choice, baseline={**stepped, "train.momentum": 0.6}))
    assert one.optimisations[0].spec == other.optimisations[0].spec
    assert one.optimisations[0].fingerprint != other.optimisations[0].fingerprint


def test_each_group_gets_the_budget_turn_by_turn_under_a_seed_that_no_repeat_has() -> None:
    nodes = list(planned(budget=3).as_plan().proposed.values())
    assert [(node.spec.model.layer, node.slot) for node in nodes] == [
        (layer, slot) for slot in range(3) for layer in ("static", "dynamic")
    ]
    assert len({node.fingerprint for node in nodes}) == 6
    assert {node.spec.seed for node in nodes} == {TUNING_SEED}
    assert TUNING_SEED >= CANARY_SEED + 1000


def test_a_larger_budget_goes_on_from_a_smaller_one() -> None:
    small, large = (set(planned(budget=budget).as_plan().proposed) for budget in (2, 5))
    assert small < large


def test_a_built_in_study_tunes_around_the_preset_but_for_what_its_variants_set() -> None:
    (tuning, *_) = make_tuning_plan([get_study("temperature", request().base())], request(), 1).optimisations
    assert tuning.factors["train.learning_rate"].contains(0.04)
    rates = [Variant(name=f"lr_{i}", changes={"train.learning_rate": rate}) for i, rate in enumerate((0.1, 0.2))]
    assert set(planned(study("rates", *rates, nuisance=None)).optimisations[0].factors) == {
        "train.weight_decay",
        "train.warmup_epochs",
    }


def test_a_factor_that_one_row_does_not_read_is_tuned_for_the_others() -> None:
    tau = {"train.temperature.start": Factor(low=1.0, high=30.0), "train.learning_rate": RATE}
    static, dynamic = planned(study(nuisance=tau)).optimisations
    assert set(static.factors) == {"train.learning_rate"}
    assert set(dynamic.factors) == set(tau)


def test_a_factor_that_no_row_reads_is_an_error_before_anything_is_planned() -> None:
    tau = study("s", STATIC, nuisance={"train.temperature.start": Factor(low=1.0, high=30.0)})
    for make in (lambda: make_plan([tau], request()), lambda: planned(tau)):
        with pytest.raises(SpecError, match=r"nothing reads the nuisance factor train\.temperature\.start"):
            make()


def test_a_study_without_nuisance_factors_cannot_be_tuned() -> None:
    with pytest.raises(SpecError, match="nothing can be tuned for mine"):
        planned(study(nuisance={}))


def test_a_range_whose_end_does_not_fit_is_an_error_before_anything_is_trained() -> None:
    warmup = study(nuisance={"train.warmup_epochs": Factor(low=0.0, high=5.0)})
    with pytest.raises(SpecError, match="leaves nothing of 2 epochs"):
        planned(warmup)


def test_what_is_proposed_beside_a_choice_that_does_not_read_it_is_dropped() -> None:
    factors = {"train.optimizer": Factor(choices=("sgd", "adamw")), "train.momentum": Factor(low=0.5, high=0.95)}
    (node, *_) = planned(study(nuisance=factors)).as_plan().proposed.values()
    assert node.with_values({"train.optimizer": "sgd", "train.momentum": 0.6}).train.momentum == 0.6
    assert node.with_values({"train.optimizer": "adamw", "train.momentum": 0.6}).train.momentum is None


def test_a_proposal_is_trained_over_what_the_row_sets() -> None:
    rows = {"dynamic": {"train.learning_rate": 0.3}}
    plan = planned(study(scales={"smoke": Scale(rows=rows)}))
    node = next(node for node in plan.as_plan().proposed.values() if node.spec.model.layer == "dynamic")
    assert node.spec.train.learning_rate == 0.3
    assert node.with_values({"train.learning_rate": 0.01}).train.learning_rate == 0.01


# What was found


def entry(tuning: Optimisation, key: str, values: Mapping[str, Any], **more: Any) -> TunedVariant:
    about: dict[str, Any] = {
        "variant": key,
        "fingerprint": tuning.fingerprint,
        "values": dict(values),
        "base": tuning.base,
        "validation_top1": 70.0,
        "spent": SPENT,
        "factors": dict(tuning.factors),
        "settings": json.loads(json.dumps(tuning.resolved_settings, default=lambda value: value.as_mapping())),
        "git_commit": "abc",
        "git_dirty": False,
        "time": "2026-01-01T00:00:00Z",
    }
    return TunedVariant.model_validate({**about, **more})


def written(folder: Path, plan: OptimisationPlan, values: Mapping[str, float]) -> Path:
    """Writes values by row key into the files of the plan's studies."""
    folder.mkdir(exist_ok=True)
    for one in plan.studies:
        keyed = [
            (key, tuning) for tuning in plan.optimisations for key in plan.serves[tuning.fingerprint].get(one.name, ())
        ]
        entries = tuple(
            entry(tuning, key, {"train.learning_rate": values[key]}) for key, tuning in keyed if key in values
        )
        file = TunedFile(study=one.name, preset="smoke", tuned=entries)
        tuned_path(folder, one.name, "smoke").write_text(json.dumps(file.model_dump(mode="json", exclude_none=True)))
    return folder


FOUND = {"static": 0.011, "dynamic": 0.022, "averaged": 0.022}


def tuned_plan(folder: Path, *studies: Study, **more: Any) -> Plan:
    return make_plan(studies or (study(),), request(tuned=read_tuned(folder), **more))


def test_what_was_found_is_trained_and_said(tmp_path: Path) -> None:
    plan = tuned_plan(written(tmp_path, planned(), FOUND), seeds=2, canary=True)
    rates = {(node.spec.model.layer, node.spec.train.learning_rate) for node in plan.trials.values()}
    assert rates == {("static", 0.011), ("dynamic", 0.022)}
    assert {node.tuned for node in plan.trials.values()} == {("train.learning_rate",)}
    assert len(plan.trials) == 2 * 2 + 2
    assert all(isinstance(node, EvaluationNode) for node in plan.evaluations.values())
    assert plan.tuned["mine", "averaged"].spent == SPENT
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(plan_overview(plan))
    assert "0.022" in console.export_text()


def test_a_tuned_trial_is_that_of_its_settings_whoever_wanted_them(tmp_path: Path) -> None:
    plan = tuned_plan(written(tmp_path, planned(), FOUND), study("mine", STATIC), seeds=1)
    same = make_plan([study("mine", STATIC)], request(overrides={"train.learning_rate": 0.011}, seeds=1))
    assert plan.trials == same.trials
    assert not same.tuned


def test_a_tuning_serves_the_studies_that_share_it(tmp_path: Path) -> None:
    plan = tuned_plan(written(tmp_path, planned(), FOUND), study("other", DYNAMIC))
    assert plan.tuned["other", "dynamic"].values == {"train.learning_rate": 0.022}


def test_a_variant_that_was_not_tuned_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    folder = written(tmp_path, planned(), {"static": 0.011})
    with pytest.raises(TuningError, match=r"variant 'dynamic' has not been tuned at preset smoke.*tune mine"):
        tuned_plan(folder)


def test_settings_that_have_changed_since_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path, planned(), FOUND)
    with pytest.raises(TuningError, match=r"train\.epochs was 2 and is 3"):
        tuned_plan(folder, overrides={"train.epochs": 3})
    wider = study(nuisance={"train.learning_rate": Factor(low=0.001, high=0.9, log=True)})
    with pytest.raises(TuningError, match="ranges are others"):
        tuned_plan(folder, wider)


def test_studies_that_train_nothing_or_tune_nothing_are_left_as_they_are(tmp_path: Path) -> None:
    folder = written(tmp_path, planned(), FOUND)
    fixed = study("fixed", STATIC, nuisance={})
    cost = get_study("cost", request().base())
    plan = tuned_plan(folder, fixed, cost)
    assert not plan.tuned
    assert plan.costs


def test_a_file_that_holds_several_settings_keeps_them_all() -> None:
    (first, *_), (other, *_) = planned().optimisations, planned(overrides={"train.epochs": 3}).optimisations
    rate = {"train.learning_rate": 0.1}
    old = TunedFile(study="mine", preset="smoke", tuned=(entry(first, "static", rate), entry(other, "static", rate)))
    better = entry(first, "static", {"train.learning_rate": 0.2})
    assert with_entries(old, [better]).tuned == (better, old.tuned[1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[1", "not JSON"),
        ("[]", "holds no tuned values"),
        ('{"study": "mine"}', "holds no tuned values"),
        ('{"study": "mine", "preset": "smoke", "tuned": [{"variant": 3}]}', "holds no tuned values"),
        ("[" * 100_000, "not JSON"),
        ('{"format": "2", "study": "mine", "preset": "smoke", "tuned": []}', "format"),
    ],
)
def test_what_is_no_file_of_tuned_values_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.smoke.json"
    path.write_text(text)
    with pytest.raises(TuningError, match=reason) as caught:
        read_tuned(tmp_path)
    assert str(path) in str(caught.value)


def test_an_empty_folder_says_to_tune(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="the verb tune has written"):
        read_tuned(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"train.learning_rate": 5.0},
        {"train.learning_rate": "0.1"},
        {"train.learning_rate": 0.1, "train.epochs": 100},
        {"data.root": "/etc"},
        {},
    ],
)
def test_values_of_other_settings_or_out_of_range_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    one = study("mine", STATIC)
    (tuning,) = planned(one).optimisations
    file = TunedFile(study="mine", preset="smoke", tuned=(entry(tuning, "static", values),))
    tuned_path(tmp_path, "mine", "smoke").write_text(json.dumps(file.model_dump(mode="json", exclude_none=True)))
    with pytest.raises(TuningError, match="Tune it again"):
        tuned_plan(tmp_path, one)


def test_a_group_has_no_more_trials_than_there_are_distinct_ones() -> None:
    choice = study(nuisance={"train.optimizer": Factor(choices=("sgd", "adamw"))})
    plan = planned(choice, budget=6)
    nodes = list(plan.as_plan().proposed.values())
    assert [(node.spec.model.layer, node.slot) for node in nodes] == [
        (layer, slot) for slot in range(2) for layer in ("static", "dynamic")
    ]
    assert [tuning.distinct(6) for tuning in plan.optimisations] == [2, 2]
    assert [tuning.distinct(2) for tuning in plan.optimisations] == [None, None]
    assert [tuning.distinct(6) for tuning in planned(budget=6).optimisations] == [None, None]


def test_a_group_that_has_less_to_try_leaves_the_others_their_budget() -> None:
    factors = {"train.optimizer": Factor(choices=("sgd", "adamw")), "model.reduction": Factor(choices=(2, 4, 8))}
    nodes = planned(study(nuisance=factors), budget=5).as_plan().proposed.values()
    layers = [node.spec.model.layer for node in nodes]
    assert (layers.count("static"), layers.count("dynamic")) == (2, 5)


def test_an_endless_space_is_tuned_under_the_fingerprint_that_it_had() -> None:
    """Tunings from before each was tried once stay valid where nothing could be tried twice."""
    endless, countable = planned(), planned(study(nuisance={"train.optimizer": Factor(choices=("sgd", "adamw"))}))
    for plan, is_as_before in ((endless, True), (countable, False)):
        tuning = plan.optimisations[0]
        parts = (tuning.spec, tuning.general, tuning.changes, tuning.factors)
        without = digest_without_once("tuning", *parts)
        assert (tuning.fingerprint == without) == is_as_before


def digest_without_once(kind: str, spec: TrialSpec, general: Settings, own: Settings, factors: Any) -> str:
    chosen = {
        name: [trial_fingerprint(resolve_proposed(general, own, values, spec.seed)) for values in factor.every(name)]
        for name, factor in factors.items()
    }
    described = {name: factor.model_dump(mode="json") for name, factor in factors.items()}
    whole = {"version": 1, "kind": kind, "trial": trial_fingerprint(spec), "factors": described, "choices": chosen}
    return digest(whole)


def test_what_was_spent_is_whole_with_the_budget_or_with_all_there_is() -> None:
    assert SPENT.is_whole
    assert not SPENT.model_copy(update={"budget": 5}).is_whole
    assert SPENT.model_copy(update={"budget": 5, "distinct": 4}).is_whole
