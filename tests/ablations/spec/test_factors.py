"""Factors: ranges, choices, options; what is refused; what a study tunes if it does not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from ablations.errors import StudyError
from ablations.presets import PRESETS
from ablations.spec.factors import Factor, default_nuisance, proposed_settings
from ablations.spec.trial import resolve
from ablations.study import Study, Variant

Load = Callable[[str], Study]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, "needs low and high, or choices"),
        ({"low": 1.0}, "both low and high"),
        ({"low": 2.0, "high": 1.0}, "is empty"),
        ({"low": 1.0, "high": 1.0}, "is empty"),
        ({"low": 0.0, "high": 1.0, "log": True}, "no logarithm"),
        ({"low": 0.1, "high": 1.0, "choices": [1, 2]}, "only one of these"),
        ({"choices": [1]}, "two or more"),
        ({"choices": [1, 1]}, "twice"),
        ({"choices": [1, 2], "log": True}, "log is for a range"),
    ],
)
def test_a_factor_that_cannot_vary_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Factor.model_validate(wrong)


def test_true_and_one_are_two_choices() -> None:
    assert Factor(choices=(True, 1)).labels == (True, 1)


def test_options_stand_for_several_settings() -> None:
    annealed = {"train.temperature.schedule": "linear", "train.temperature.start": 30.0}
    factors = {
        "temperature": Factor(options={"flat": {"train.temperature.start": 30.0}, "annealed": annealed}),
        "model.num_kernels": Factor(choices=(2, 4)),
    }
    assert proposed_settings(factors, {"temperature": "annealed", "model.num_kernels": 2}) == {
        **annealed,
        "model.num_kernels": 2,
    }


def test_whole_numbers_are_proposed_only_where_the_setting_is_one() -> None:
    assert Factor(low=1, high=8).is_whole("model.num_kernels")
    assert not Factor(low=0, high=8).is_whole("train.warmup_epochs")
    assert not Factor(low=1.0, high=8.0).is_whole("model.num_kernels")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_defaults_hold_what_the_preset_has_and_fit_at_their_ends(preset: str) -> None:
    layer = PRESETS[preset].settings
    overrides = {"data.name": "fashion_mnist_mini", "data.augmentation": "none"}
    spec = resolve([layer, overrides], {}, 0)
    factors = default_nuisance(spec)
    assert set(factors) == {"train.learning_rate", "train.weight_decay", "train.warmup_epochs"}
    for key, factor in factors.items():
        assert factor.contains(getattr(spec.train, key.partition(".")[2]))
        for values in factor.every(key):
            resolve([layer, overrides], values, 0)


def test_without_weight_decay_a_usual_range_is_tuned() -> None:
    factor = default_nuisance(resolve([{"train.weight_decay": 0.0}], {}, 0))["train.weight_decay"]
    assert (factor.low, factor.high, factor.log) == (1e-6, 1e-3, True)


NUISANCE = "nuisance: {train.learning_rate: {low: 0.01, high: 0.1, log: true}}\n"


@pytest.mark.parametrize(
    "written",
    [
        NUISANCE,
        "nuisance: {train: {learning_rate: {low: 1e-2, high: 1e-1, log: true}}}\n",
        "nuisance:\n  train.learning_rate:\n    low: 0.01\n    high: 0.1\n    log: true\n",
    ],
)
def test_a_study_file_says_what_is_tuned(load: Load, study_text: str, written: str) -> None:
    assert load(study_text + written).nuisance == {"train.learning_rate": Factor(low=0.01, high=0.1, log=True)}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("{train.learning_rat: {low: 0.01, high: 0.1}}", "Did you mean 'train.learning_rate'"),
        ("{train.learning_rate: {low: 0.1, high: 0.01}}", "is empty"),
        ("{train.learning_rate: {low: -0.1, high: 0.01}}", "train.learning_rate: input should be greater than 0"),
        ("{train.learning_rate: {lo: 0.1, high: 0.2}}", "unknown key 'lo'. Did you mean 'low'"),
        ("{train.optimizer: {choices: [sgd, adam]}}", "train.optimizer"),
        ("{train.epochs: {low: 1, high: 9}}", "must be the same for all variants"),
        ("{data.train_images: {choices: [100, 200]}}", "must be the same for all variants"),
        ("{model.num_kernels: {choices: [2, 4]}}", "variant 'k2' sets model.num_kernels itself"),
        ("{train.momentum: 0.9}", "nuisance.train.momentum"),
        ("{train.momentum: {options: {a: {train.momentum: 0.5}, b: {train.momentum: 0.9}}}}", "is one setting"),
        ("[train.momentum]", "nuisance"),
    ],
)
def test_what_cannot_be_tuned_is_told_with_its_line(load: Load, study_text: str, wrong: str, reason: str) -> None:
    with pytest.raises(StudyError) as caught:
        load(f"{study_text}nuisance: {wrong}\n")
    assert reason in str(caught.value)
    assert f"study.yaml:{study_text.count(chr(10)) + 1}: " in str(caught.value)


def test_a_recipe_that_a_preset_gives_a_row_is_not_scientific() -> None:
    rows = {"wide": {"train.learning_rate": 0.2}}
    study = Study.model_validate(
        {
            "name": "s",
            "title": "s",
            "question": "q?",
            "reference": "narrow",
            "variants": [Variant(name="narrow"), Variant(name="wide", changes={"model.width": 0.5})],
            "scales": {"smoke": {"rows": rows}},
            "nuisance": {"train.learning_rate": {"low": 0.01, "high": 0.1}},
        }
    )
    assert study.at("smoke").scientific == {"model.width"}
