"""Claims as data: what a contrast may name, and the two ways to write several."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ablations.claims import Claim, Contrast, at_least_as_good_as, better_than, same_as, worse_than
from ablations.registry import available_studies, get_study
from ablations.spec.trial import TrialSpec


def test_better_than_makes_a_contrast_with_each() -> None:
    assert better_than("a", "b", "c", margin=-0.5) == (
        Contrast(better=("a",), worse=("b",), margin=-0.5),
        Contrast(better=("a",), worse=("c",), margin=-0.5),
    )


def test_worse_than_makes_the_same_turned_round() -> None:
    assert worse_than("a", "b", "c") == (*better_than("b", "a"), *better_than("c", "a"))
    assert worse_than("a", "b", margin=1.0) == better_than("b", "a", margin=1.0)


def test_a_contrast_names_its_variants() -> None:
    assert Contrast(better=("a", "b"), worse=("c",)).variants == ("a", "b", "c")
    assert Contrast(better=("a",)).variants == ("a",)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"better": ()}, "at least 1 item"),
        ({"better": ("a",), "worse": ("a",)}, "'a' is on both sides"),
        ({"better": ("a", "b"), "worse": ("c", "b")}, "'b' is on both sides"),
        ({"better": ("a",), "margin": float("nan")}, "finite"),
        ({"better": ("a",), "wrose": ("b",)}, "wrose"),
        ({"better": (1,)}, "string"),
    ],
)
def test_a_contrast_that_compares_nothing(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Contrast.model_validate(fields)


@pytest.mark.parametrize("missing", ["name", "statement", "contrasts"])
def test_a_claim_has_a_name_a_statement_and_a_contrast(missing: str) -> None:
    whole: dict[str, Any] = {"name": "n", "statement": "s", "contrasts": better_than("a", "b")}
    assert Claim.model_validate(whole).contrasts
    with pytest.raises(ValidationError, match="at least 1"):
        Claim.model_validate({**whole, missing: type(whole[missing])()})


def test_the_kinds_that_are_judged_by_the_size_of_interest() -> None:
    assert at_least_as_good_as("a", "b") == (Contrast(better=("a",), worse=("b",), kind="at_least_as_good"),)
    assert [(c.kind, c.better, c.worse) for c in same_as("a", "b", "c")] == [
        ("same", ("a",), ("b",)),
        ("same", ("a",), ("c",)),
    ]
    assert {c.kind for c in (*better_than("a", "b"), *worse_than("a", "b"))} == {"better"}


@pytest.mark.parametrize("kind", ["at_least_as_good", "same"])
def test_only_a_difference_in_one_direction_has_a_margin(kind: str) -> None:
    with pytest.raises(ValueError, match=r"has no margin, found 0\.5.*size_of_interest"):
        Contrast.model_validate({"better": ["a"], "worse": ["b"], "kind": kind, "margin": 0.5})


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="at_least_as_good"):
        Contrast.model_validate({"better": ["a"], "worse": ["b"], "kind": "equal"})


@pytest.mark.parametrize("name", available_studies())
def test_every_registered_study_names_its_primary_claim(name: str) -> None:
    study = get_study(name, TrialSpec())
    assert sum(claim.primary for claim in study.claims) == bool(study.claims)
