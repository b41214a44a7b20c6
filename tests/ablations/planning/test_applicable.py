"""An override that chooses another layer kind: rows that it makes alike are one, and studies without a question go."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.errors import SpecError
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, get_study
from ablations.spec.layers import BUILT_IN_LAYERS
from ablations.study import Study, Variant


def planned(*names: str, preset: str = "smoke", **overrides: Any) -> Plan:
    request = Request(get_preset(preset), overrides)
    return make_plan([get_study(name, request.base()) for name in names], request)


def rows_of(plan: Plan, name: str) -> list[str]:
    (study,) = (study for study in plan.studies if study.name == name)
    return [variant.name for variant in study.variants]


@pytest.mark.parametrize("layer", sorted(BUILT_IN_LAYERS - {"static", "adopted"}))
@pytest.mark.parametrize("preset", ["smoke", "quick"])
def test_all_studies_can_be_asked_of_every_kind(layer: str, preset: str) -> None:
    plan = planned(*available_studies(), preset=preset, **{"model.layer": layer})
    assert plan.trials
    layers = {node.spec.model.layer for node in plan.trials.values()}
    # Rows that name a kind themselves keep it.
    assert layer in layers
    assert len({study.name for study in plan.studies}) >= 10


def test_rows_that_an_override_makes_alike_are_one() -> None:
    plan = planned("temperature", **{"model.layer": "condconv"})
    # CondConv reads no temperature: all rows but the static one are the reference.
    assert rows_of(plan, "temperature") == ["static", "tau_30"]
    assert len(plan.studies[0].whole.variants) > 2
    assert {node.spec.train.temperature for node in plan.trials.values()} == {None}


def test_a_study_of_what_a_kind_does_not_read_is_left_out_and_said() -> None:
    plan = planned("reduction", "temperature", **{"model.layer": "odconv"})
    assert [study.name for study in plan.studies] == ["temperature"]
    assert plan.left_out == ("reduction",)
    assert planned("reduction", "temperature").left_out == ()
    with pytest.raises(SpecError, match=r"--set model.layer=odconv nothing is left to compare in reduction"):
        planned("reduction", **{"model.layer": "odconv"})


def test_what_nothing_would_read_anyway_stays_a_mistake_of_the_study() -> None:
    study = Study(
        name="mine",
        title="Mine",
        question="Why?",
        reference="a",
        variants=(Variant(name="a"), Variant(name="b", changes={"train.momentum": 0.5, "train.optimizer": "adamw"})),
    )
    with pytest.raises(SpecError, match=r"train\.momentum"):
        make_plan([study], Request(get_preset("smoke"), {"model.layer": "condconv"}))


def test_without_an_override_every_row_stays() -> None:
    (study,) = planned("temperature").studies
    assert study.variants == study.whole.at("smoke").variants
