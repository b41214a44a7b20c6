"""Study and Variant as Python objects: what is whole, what is refused, and names that someone will try."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ablations.errors import UnknownNameError
from ablations.study import InspectedNetwork, Study, Variant


def make(**fields: Any) -> Study:
    plain = {"name": "s", "title": "S", "question": "?", "reference": "a", "variants": (Variant(name="a"),)}
    return Study(**{**plain, **fields})


VARIANCES: dict[str, Any] = {"compares": "variances"}
EVERYTHING = Variant(name="a")
NOTHING = Variant(name="b", changes={"train": {"weights_seed": 1, "order_seed": 1}})
BIGGER = Variant(name="b", changes={"train.weights_seed": 1, "model.width": 2.0})
NETWORK = InspectedNetwork(name="n", changes={"train.epochs": 3})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"variants": ()}, "at least 1 item"),
        ({"variants": (Variant(name="a"), Variant(name="a"))}, "variant 'a' is defined twice"),
        ({"networks": (NETWORK, NETWORK), "inspect": ("n",)}, "network 'n' is defined twice"),
        ({"networks": (NETWORK,), "inspect": ("n", "n")}, "inspected network 'n' is defined twice"),
        ({"networks": (NETWORK,)}, "names none of the networks"),
        ({"networks": (NETWORK,), "inspect": ("m",)}, "unknown network 'm'"),
        ({"inspect": ("m",)}, "unknown network 'm'"),
        ({"reference": "aa"}, "unknown variant 'aa'.*'a'"),
        ({"columns": ("x",)}, "0 cells for 1 columns"),
        ({"variants": (Variant(name="a", cells=("✓",)),)}, "1 cells for 0 columns"),
        ({"metric": "test/top2"}, "unknown metric 'test/top2'.*'test/top1'"),
        ({"seeds": 0}, "greater than or equal to 1"),
        ({"size_of_interest": 0.0}, "greater than 0"),
        ({"seeds": 1001}, "less than or equal to 1000"),
        ({"baseline": {"train.epoch": 1}}, "unknown setting 'train.epoch'"),
        ({"baseline": {"train.epochs": "x"}}, "valid integer, found 'x'"),
        ({"compares": "medians"}, "'means' or 'variances'"),
        ({**VARIANCES, "networks": (NETWORK,), "inspect": ("n",)}, "variances are those of trainings"),
        ({**VARIANCES, "metric": "cost/parameters"}, "variances are those of trainings"),
        ({**VARIANCES, "with_cost": True}, "compares variances, and with_cost is about the means"),
        ({**VARIANCES, "variants": (EVERYTHING, BIGGER)}, "variant 'b' sets model.width.*into the baseline"),
        ({**VARIANCES, "variants": (EVERYTHING, Variant(name="b"))}, "variant 'b' varies train.order_seed, train.wei"),
        ({**VARIANCES, "variants": (EVERYTHING, NOTHING)}, "variant 'b' varies none, and the reference train.order"),
        ({**VARIANCES, "variants": (NOTHING.model_copy(update={"name": "a"}),)}, "fixes every source of randomness"),
        ({"baseline": {"train": {"epochs": 1}, "train.epochs": 1}}, "given twice"),
    ],
)
def test_a_study_that_is_not_whole(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        make(**fields)


def test_changes_are_kept_dotted() -> None:
    assert Variant(name="a", changes={"train": {"temperature": {"start": 3}}}).changes == {"train.temperature.start": 3}


def test_lookups() -> None:
    study = make(networks=(NETWORK,), inspect=("n",))
    assert study.inspected == (NETWORK,)
    assert make().inspected == (None,)
    assert study.variant("a") is study.variants[0]
    with pytest.raises(UnknownNameError, match="variant of study 's' 'b'"):
        study.variant("b")
    with pytest.raises(UnknownNameError, match="network of study 's' 'm'"):
        study.inspecting(["m"])
    assert study.variants[0].title == study.variants[0].published_key == "a"
    assert Variant(name="a", label="A", published="row").title == "A"
    assert Variant(name="a", label="A", published="row").published_key == "row"


HOSTILE = [
    "../x",
    "/etc/passwd",
    "$HOME",
    "#let x",
    "\\input{x}",
    "<script>alert(1)</script>",
    "🐙",
    "é" * 200,
    "a: b",
    " x",
    "%s{0}",
]
REFUSED = ["", " ", "\u3000", "x" * 201, "🐙" * 300, "a\nb", "a\x00", "\x1b[31m", "a\ud800", "\r"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_kept_literally(name: str) -> None:
    study = make(name=name, title=name, reference=name, variants=(Variant(name=name),))
    assert (study.name, study.variants[0].name) == (name, name)


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_cannot_be_shown_is_refused_with_a_reason(name: str) -> None:
    reason = "at least 1 character|at most 200 characters|is blank|control character|unicode"
    with pytest.raises(ValidationError, match=reason):
        make(name=name)
    with pytest.raises(ValidationError, match=reason):
        Variant(name=name)


def test_two_rows_cannot_share_a_key() -> None:
    with pytest.raises(ValidationError, match="no colon"):
        InspectedNetwork(name="a: b")
