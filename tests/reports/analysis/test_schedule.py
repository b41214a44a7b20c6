"""Sentences on the schedule: far from converged, dynamic networks that trail, interventions that are all at chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from ablations.planning.plan import Plan
from ablations.spec.parts import Intervention
from ablations.study import InspectedNetwork, Study, Variant
from reports.analysis.schedule import convergence_words, lead_fact, leads, row_rises, trailing_words
from reports.collect.results import CURVE_COLUMNS, Results
from reports.content.blocks import Paragraph
from tests.reports.everything import results_of
from tests.reports.made_up import TEMPERATURE, document_of, plan_of

FLAT = {"static": (80.0,) * 3, "tau_20": (80.0,) * 3, "tau_30": (80.0,) * 3}
Curve = Sequence[float]


def _with_curves(
    plan: Plan, curves: dict[str, Sequence[Curve]], values: dict[str, tuple[float, ...]] = FLAT
) -> Results:
    """Return results whose trainings have these validation accuracies per epoch, by variant and seed."""
    rows = [
        ("", cell.fingerprint, "val/top1", epoch, value)
        for cell in plan.cells
        if cell.variant in curves
        for epoch, value in enumerate(curves[cell.variant][cell.seed], start=1)
    ]
    return replace(results_of(plan, values), curves=pd.DataFrame(rows, columns=list(CURVE_COLUMNS)))


def _rising(gain: float, epochs: int = 8, last: float = 80.0) -> Curve:
    """Return a curve that rises by `gain` over its last quarter, and not before."""
    quarter = max(1, epochs // 4)
    return [last - gain] * (epochs - quarter) + [last - gain * (quarter - n) / quarter for n in range(1, quarter + 1)]


def _steady(gain: float, **how: int) -> list[Curve]:
    return [_rising(gain, **how)] * 3


def test_the_rise_is_that_of_the_last_quarter_by_hand() -> None:
    plan = plan_of(TEMPERATURE)
    curves = {"static": [[10, 20, 30, 40, 50, 60, 62, 66], [10, 20, 30, 40, 50, 60, 61, 62], [0] * 5 + [60, 70, 64]]}
    (rise,) = row_rises(plan, _with_curves(plan, curves))
    assert (rise.title, rise.gain) == ("static", pytest.approx((6 + 2 + 4) / 3))
    # The seeds' standard error, 2 / √3, is larger than that of sampling as many images as the preset has.
    assert rise.noise >= 2 / 3**0.5


@pytest.mark.parametrize("epochs", [2, 3, 4, 7, 8, 100])
def test_a_short_training_has_one_epoch_at_its_end(epochs: int) -> None:
    plan = plan_of(TEMPERATURE)
    results = _with_curves(plan, {"static": [_rising(30.0, epochs)] * 3})
    (rise,) = row_rises(plan, results)
    assert rise.gain == pytest.approx(30.0)
    assert rise.is_far_from_converged


def test_a_report_names_what_is_far_from_converged() -> None:
    plan = plan_of(TEMPERATURE)
    results = _with_curves(plan, {"static": _steady(30.0), "tau_20": _steady(0.1), "tau_30": _steady(40.0)})
    words = convergence_words(plan, results)
    assert words.startswith("2 of 3 trained networks are far from converged")
    assert "still rises by 30.0 to 40.0 points (“τ = 30”, “static”)" in words


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {"static": _steady(0.0), "tau_20": _steady(-30.0), "tau_30": _steady(0.9)},
        {"static": [[50.0]] * 3},
        # What rises in one seed as much as it falls in another is noise.
        {"static": [_rising(40.0), _rising(-30.0), _rising(5.0)]},
    ],
)
def test_nothing_is_said_of_what_does_not_rise(curves: dict[str, Sequence[Curve]]) -> None:
    plan = plan_of(TEMPERATURE)
    assert convergence_words(plan, _with_curves(plan, curves)) == ""


def test_few_validation_images_make_a_rise_noise() -> None:
    """Of 20 images an accuracy of 50 % is uncertain by 11 points, a rise by 16, and of three seeds by 9."""
    few = TEMPERATURE.model_copy(update={"baseline": {"data.validation_images": 20}})
    many = TEMPERATURE.model_copy(update={"baseline": {"data.validation_images": 1000}})
    for study, is_far in ((few, False), (many, True)):
        plan = plan_of(study)
        curves = [_rising(15.0, last=50.0)] * 3
        (rise,) = row_rises(plan, _with_curves(plan, {"static": curves}))
        assert rise.is_far_from_converged == is_far


def test_what_never_learned_is_not_called_unconverged() -> None:
    plan = plan_of(TEMPERATURE)
    results = _with_curves(plan, {"static": _steady(30.0)})
    keys = {cell.fingerprint for cell in plan.cells if cell.variant == "static"}
    assert convergence_words(plan, replace(results, unlearned=dict.fromkeys(keys, "why"))) == ""


def test_studies_that_share_a_training_count_it_once() -> None:
    plan = plan_of(TEMPERATURE, TEMPERATURE.model_copy(update={"name": "again"}))
    results = _with_curves(plan, {"static": _steady(30.0)})
    assert convergence_words(plan, results).startswith("1 of 1 trained networks is far from converged")


def _values(static: float, cool: float, warm: float) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(mean + shift for shift in (-1.0, 0.0, 1.0))
        for name, mean in (("static", static), ("tau_20", cool), ("tau_30", warm))
    }


def test_all_dynamic_networks_trail() -> None:
    plan = plan_of(TEMPERATURE)
    behind = leads(plan, results_of(plan, _values(85.0, 83.0, 84.5)))
    assert [(lead.title, lead.lead) for lead in behind] == [("τ = 20", -2.0), ("τ = 30", -0.5)]
    assert trailing_words(behind).startswith("All 2 dynamic networks of this report trail the static network")
    assert "(−2.0 to −0.5 points of test accuracy" in trailing_words(behind)
    assert (
        lead_fact(behind) == "0 of 2 dynamic networks are above the static one (−2.0 to −0.5 points of test accuracy)"
    )


def test_one_that_leads_is_enough_to_say_nothing() -> None:
    plan = plan_of(TEMPERATURE)
    mixed = leads(plan, results_of(plan, _values(85.0, 83.0, 85.5)))
    assert trailing_words(mixed) == ""
    assert lead_fact(mixed).startswith("1 of 2 dynamic networks are above")


def test_the_static_network_may_stand_in_another_study_and_must_be_of_the_same_size() -> None:
    parts = {v.name: v for v in TEMPERATURE.variants}
    own = TEMPERATURE.model_copy(update={"variants": (parts["tau_30"],)})
    static = TEMPERATURE.model_copy(
        update={"name": "other", "reference": "static", "variants": (parts["static"],), "published": None}
    )
    wider = static.model_copy(update={"baseline": {"model.width": 1.0}})
    for study, count in ((static, 1), (wider, 0)):
        plan = plan_of(own, study)
        assert len(leads(plan, results_of(plan, _values(85.0, 83.0, 84.0)))) == count


@pytest.mark.parametrize(
    ("changes", "titles"),
    [
        ({"model.layer": "condconv"}, ["another kind"]),
        ({"model.layer": "dynamic", "model.aggregation": "average"}, []),
        ({"model.layer": "static", "train.epochs": 3}, []),
    ],
)
def test_a_network_of_any_kind_that_mixes_by_its_attention_is_compared(
    changes: dict[str, Any], titles: list[str]
) -> None:
    static = next(variant for variant in TEMPERATURE.variants if variant.name == "static")
    other = Variant(name="tau_30", label="another kind", changes=changes)
    update = {"reference": "static", "variants": (static, other), "published": None, "claims": ()}
    plan = plan_of(TEMPERATURE.model_copy(update=update))
    values = _values(85.0, 83.0, 84.0)
    del values["tau_20"]
    assert [lead.title for lead in leads(plan, results_of(plan, values))] == titles


def test_a_missing_repeat_and_what_never_learned_are_not_compared() -> None:
    plan = plan_of(TEMPERATURE)
    missing = {**_values(85.0, 83.0, 84.0), "tau_20": (83.0, None, 83.0)}
    results = results_of(plan, missing)
    assert [lead.title for lead in leads(plan, results)] == ["τ = 30"]
    keys = {cell.fingerprint for cell in plan.cells if cell.variant == "static"}
    assert leads(plan, replace(results, unlearned=dict.fromkeys(keys, "why"))) == ()


def test_the_report_says_both() -> None:
    plan = plan_of(TEMPERATURE)
    document = document_of(plan, _with_curves(plan, {"static": _steady(30.0)}, _values(85.0, 83.0, 84.5)))
    said = [block.text for block in document.summary if isinstance(block, Paragraph) and block.lead == "Schedule"]
    assert [text.partition(":")[0].partition(" (")[0] for text in said] == [
        "1 of 1 trained networks is far from converged",
        "All 2 dynamic networks of this report trail the static network of the same size",
    ]
    (lead,) = (b for b in document.summary if isinstance(b, Paragraph) and b.lead == "Dynamic against static")
    assert lead.text.startswith("0 of 2")


INSPECTING = Study(
    name="looking",
    title="Looking",
    question="?",
    networks=(
        InspectedNetwork(name="low", label="τ = 1", changes={"train.temperature.start": 1.0}),
        InspectedNetwork(name="high", label="τ = 30", changes={"train.temperature.start": 30.0}),
    ),
    inspect=("low", "high"),
    reference="attention",
    variants=(
        Variant(name="attention"),
        Variant(name="average", intervention=Intervention(aggregation="average")),
        Variant(name="max", intervention=Intervention(aggregation="max")),
    ),
)


@pytest.mark.parametrize(
    ("attention", "average", "is_said"), [(80.0, 10.1, True), (80.0, 40.0, False), (10.0, 10.0, False)]
)
def test_a_network_that_learned_and_loses_all_by_every_intervention(
    attention: float, average: float, is_said: bool
) -> None:
    plan = plan_of(INSPECTING, seeds=2)
    values = {f"high: {name}": (80.0 - n, 81.0 - n) for n, name in enumerate(("attention", "average", "max"))}
    low = {"low: attention": (attention,) * 2, "low: average": (average,) * 2, "low: max": (10.0, 10.0)}
    document = document_of(plan, results_of(plan, {**values, **low}))
    said = [
        block.text
        for section in document.sections
        for block in section.blocks
        if isinstance(block, Paragraph) and block.lead == "At chance"
    ]
    assert bool(said) == is_said
    if is_said:
        assert said[0].startswith("τ = 1 itself learned, but all interventions leave its accuracy at chance (“average”")
