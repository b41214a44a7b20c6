"""Specs: frozen, closed, strict; placements and interventions."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ablations.planning.plan import changes_nothing
from ablations.spec.names import ROLES
from ablations.spec.parts import Frozen, Intervention, ModelSpec, Placement
from ablations.spec.trial import TrialSpec


@pytest.mark.parametrize("spec", [TrialSpec(), ModelSpec(), Intervention(), Placement()])
def test_specs_are_frozen_hashable_and_closed(spec: Frozen) -> None:
    name = next(iter(type(spec).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec, name, None)
    assert hash(spec) == hash(type(spec)())
    with pytest.raises(ValueError, match="tpyo"):
        type(spec).model_validate({"tpyo": 1})


def test_a_placement_says_the_same_in_one_way() -> None:
    assert Placement(role=("head", "stem", "head")) == Placement(role=("stem", "head"))
    assert Placement(resolution=(7, 28, 14)).resolution == (28, 14, 7)
    assert Placement(name=("b", "a")).name == ("a", "b")
    assert Placement(role=tuple(reversed(ROLES))).role == ROLES


@pytest.mark.parametrize(
    "raw",
    [
        {"any": [{"role": ["stem"]}, {"not": {"depth": [0, 0.5]}}]},
        {"all": [{"name": ["features.1*"]}, {"resolution": [14, 7]}]},
        {},
    ],
)
def test_a_placement_goes_to_its_plain_form_and_back(raw: dict[str, Any]) -> None:
    where = Placement.model_validate(raw)
    assert where.as_mapping() == raw
    assert Placement.model_validate(where.as_mapping()) == where


@pytest.mark.parametrize(
    "raw",
    [
        {"depth": [0.0]},
        {"depth": [0.0, 1.1]},
        {"depth": [-0.1, 1.0]},
        {"resolution": [0]},
        {"resolution": [7.5]},
        {"role": []},
        {"role": [1]},
        {"any": [{"nope": 1}]},
        {"not": []},
    ],
)
def test_a_malformed_placement_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Placement.model_validate(raw)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "0", None])
def test_seeds_are_small_whole_numbers(seed: Any) -> None:
    with pytest.raises(ValidationError):
        TrialSpec(seed=seed)
    with pytest.raises(ValidationError):
        Intervention(seed=seed)


@pytest.mark.parametrize(
    "other", [{"aggregation": "average"}, {"temperature": 1.0}, {"where": {"resolution": [7]}}], ids=str
)
def test_a_precision_is_a_change_by_itself(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="precision deploys the network as it was trained"):
        Intervention(precision="int8", **other)


@pytest.mark.parametrize(
    ("intervention", "nothing"),
    [
        (Intervention(), True),
        (Intervention(aggregation="attention"), True),
        (Intervention(where=Placement(resolution=(7,))), True),
        (Intervention(aggregation="average"), False),
        (Intervention(precision="bfloat16"), False),
        (Intervention(aggregation="attention", temperature=30.0), False),
    ],
)
def test_interventions_that_change_nothing_are_known(intervention: Intervention, nothing: bool) -> None:
    assert changes_nothing(intervention, TrialSpec()) is nothing


def test_a_network_trained_with_a_strategy_is_not_changed_by_it() -> None:
    averaged = TrialSpec(model=ModelSpec(aggregation="average"))
    assert changes_nothing(Intervention(aggregation="average"), averaged)
    assert not changes_nothing(Intervention(aggregation="attention"), averaged)


def test_nothing_may_be_none_where_something_reads_it() -> None:
    with pytest.raises(ValidationError, match=r"model\.width needs a value"):
        TrialSpec(model=ModelSpec(width=None))
