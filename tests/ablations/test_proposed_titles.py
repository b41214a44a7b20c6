"""Titles of trainings that an optimiser proposes: nothing of what is not known yet, and then what is trained."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.planning.nodes import ProposedNode
from ablations.planning.optimisation_plans import make_search_plan, make_tuning_plan
from ablations.planning.request import Request
from ablations.planning.search import Search, get_search
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.factors import Factor

SMOKE = Request(get_preset("smoke"))


def of_parts() -> ProposedNode:
    return make_search_plan(get_search("parts"), SMOKE, trials=3, repeats=2).nodes[2]


def of_search(**factors: Factor) -> ProposedNode:
    more = {name.replace("__", "."): factor for name, factor in factors.items()}
    search = Search(name="mine", title="Mine", question="?", factors=more)
    return make_search_plan(search, SMOKE, trials=2, repeats=0).nodes[0]


def test_before_a_proposal_a_title_says_nothing_of_it() -> None:
    node = of_parts()
    assert node.subject == "MobileNetV2 ×0.35 depth 0.5"
    assert node.title == f"{node.subject} · search 3"


@pytest.mark.parametrize(
    ("factors", "subject"),
    [
        ({"model__width": Factor(low=0.35, high=1.0)}, "DY-MobileNetV2 depth 0.5 K=4"),
        ({"model__depth": Factor(low=0.5, high=1.0)}, "DY-MobileNetV2 ×0.35 K=4"),
        ({"model__name": Factor(choices=("mobilenet_v2", "resnet10"))}, "DY-network K=4"),
        ({"model__normalization": Factor(choices=("softmax", "sigmoid"))}, "DY-MobileNetV2 ×0.35 depth 0.5 K=4"),
        ({"model__squeeze_excitation": Factor(choices=(True, False))}, "DY-MobileNetV2 ×0.35 depth 0.5 K=4"),
        ({"model__layer": Factor(choices=("static", "condconv"))}, "MobileNetV2 ×0.35 depth 0.5"),
    ],
)
def test_what_is_proposed_and_what_depends_on_it_is_left_out(factors: dict[str, Factor], subject: str) -> None:
    node = of_search(**factors, train__learning_rate=Factor(low=0.01, high=0.1))
    assert node.subject == subject


@pytest.mark.parametrize(
    ("values", "title"),
    [
        (
            {"model.num_kernels": 8, "placement": "all blocks", "model.reduction": 16, "temperature": "τ = 1"},
            "DY-MobileNetV2 ×0.35 depth 0.5 K=8 C/16 τ=1 · search 3",
        ),
        (
            {"model.num_kernels": 2, "placement": "depthwise", "model.reduction": 4, "temperature": "τ = 30 → 1"},
            "DY-MobileNetV2 ×0.35 depth 0.5 K=2 at depthwise τ=30→1 · search 3",
        ),
        (
            {"model.num_kernels": 8, "placement": "nowhere", "model.reduction": 16, "temperature": "τ = 30"},
            "MobileNetV2 ×0.35 depth 0.5 · search 3",
        ),
    ],
)
def test_once_proposed_a_title_is_of_what_is_trained(values: dict[str, Any], title: str) -> None:
    assert of_parts().title_with(values) == title


def test_a_repeat_has_the_title_of_what_it_repeats() -> None:
    plan = make_search_plan(get_search("parts"), SMOKE, trials=3, repeats=2)
    values = {"model.num_kernels": 8, "placement": "nowhere", "model.reduction": 16, "temperature": "τ = 30"}
    first, _ = plan.repeats_of(plan.nodes[2], values)
    assert first.title == f"MobileNetV2 ×0.35 depth 0.5 · search 3 · seed {first.spec.seed}"
    assert first.subject == "MobileNetV2 ×0.35 depth 0.5"


def test_values_that_do_not_fit_together_leave_the_common_title() -> None:
    node = of_search(
        model__width=Factor(low=0.35, high=1.0),
        train__warmup_epochs=Factor(low=0.0, high=1.0),
    )
    assert node.title_with({"model.width": -3.0}) == node.title


def test_a_tuned_training_is_called_by_what_its_variant_sets() -> None:
    tuning = make_tuning_plan([get_study("kernels", SMOKE.base())], SMOKE, 2)
    subjects = {node.subject for group in tuning.optimisations for node in tuning.nodes_of(group)}
    assert {"MobileNetV2 ×0.35 depth 0.5", "DY-MobileNetV2 ×0.35 depth 0.5 K=8"} <= subjects
    node = tuning.nodes_of(tuning.optimisations[0])[0]
    assert node.title_with({"train.learning_rate": 0.02}).startswith(node.subject)
