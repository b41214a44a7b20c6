"""How a study is cut down at a preset, and what may not be cut."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ablations.claims import Claim, better_than
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS, get_preset
from ablations.study import Scale, Study, Variant


def make(**scales: Scale) -> Study:
    return Study(
        name="s",
        title="S",
        question="?",
        reference="a",
        baseline={"train.epochs": 5},
        seeds=4,
        variants=tuple(Variant(name=name, changes={"model.reduction": n}) for n, name in enumerate("abc", start=1)),
        claims=(Claim(name="c", statement="s", contrasts=better_than("c", "b")),),
        scales=scales,
    )


def test_a_preset_without_a_scale_asks_all_of_it() -> None:
    study = make(quick=Scale(variants=("a", "b")))
    assert study.at("small") is study
    assert study.whole is study


def test_a_scale_cuts_rows_seeds_and_adds_settings() -> None:
    study = make(quick=Scale(variants=("b", "a"), seeds=2, baseline={"train": {"batch_size": 32}}))
    cut = study.at("quick")
    assert [variant.name for variant in cut.variants] == ["a", "b"], "in the order of the study"
    assert (cut.seeds, cut.baseline) == (2, {"train.epochs": 5, "train.batch_size": 32})
    assert cut.claims == study.claims
    assert cut.whole is study
    assert study.whole is study
    assert len(study.variants) == 3
    assert cut.at("quick") is cut
    assert cut.inspecting([]).whole is study


def test_a_scale_sets_single_rows_under_their_own_changes() -> None:
    rows = {"a": {"train": {"learning_rate": 0.3}}, "b": {"model.reduction": 9, "train.learning_rate": 0.2}}
    cut = make(quick=Scale(rows=rows)).at("quick")
    assert [variant.changes for variant in cut.variants] == [
        {"train.learning_rate": 0.3, "model.reduction": 1},
        {"train.learning_rate": 0.2, "model.reduction": 2},
        {"model.reduction": 3},
    ]


def test_what_a_scale_leaves_open_stays() -> None:
    cut = make(quick=Scale()).at("quick")
    assert (len(cut.variants), cut.seeds, cut.baseline) == (3, 4, {"train.epochs": 5})


def test_a_plan_asks_the_study_at_its_preset() -> None:
    study = make(quick=Scale(variants=("a", "b"), seeds=2, baseline={"train.epochs": 4}))
    quick = make_plan([study], Request(get_preset("quick")))
    assert len(quick.cells) == 2 * 2
    assert {node.spec.train.epochs for node in quick.trials.values()} == {4}
    again = make_plan(quick.studies, quick.request)
    assert (again.studies, again.cells) == (quick.studies, quick.cells)
    small = make_plan([study], Request(get_preset("small")))
    assert len(small.cells) == 3 * 4
    assert {node.spec.train.epochs for node in small.trials.values()} == {5}


def test_the_command_line_is_stronger_than_a_scale() -> None:
    study = make(quick=Scale(seeds=2, baseline={"train.epochs": 4}))
    made = make_plan([study], Request(get_preset("quick"), {"train.epochs": 9}, seeds=3))
    assert len(made.cells) == 3 * 3
    assert {node.spec.train.epochs for node in made.trials.values()} == {9}


@pytest.mark.parametrize(
    ("scales", "reason"),
    [
        ({"quick": {"variants": ("a", "d")}}, "unknown variant 'd'"),
        ({"quick": {"variants": ("b", "c")}}, "leaves out the reference 'a'"),
        ({"quick": {"variants": ()}}, "at least 1 item"),
        ({"quik": {"seeds": 2}}, "unknown preset 'quik'.*'quick'"),
        ({"quick": {"seeds": 0}}, "greater than or equal to 1"),
        ({"quick": {"baseline": {"train.epoch": 2}}}, "unknown setting 'train.epoch'"),
        ({"quick": {"baseline": {"train.epochs": "x"}}}, "valid integer"),
        ({"quick": {"rows": ("a",)}}, "rows"),
    ],
)
def test_a_scale_that_cannot_be_meant(scales: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Study.model_validate({**make().model_dump(), "scales": scales})


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ([("c", ("a", "d"))], "unknown variant 'd'"),
        ([("c", ("a", "b")), ("c", ("b", "a"))], "claim 'c' is defined twice"),
    ],
)
def test_claims_are_about_rows_of_the_study(claims: list[tuple[str, tuple[str, str]]], reason: str) -> None:
    made = tuple(Claim(name=name, statement="s", contrasts=better_than(*names)) for name, names in claims)
    with pytest.raises(ValidationError, match=reason):
        Study.model_validate({**make().model_dump(), "claims": [claim.model_dump() for claim in made]})


def _claims(*primary: bool) -> list[dict[str, Any]]:
    contrast = [{"better": ["c"], "worse": ["b"]}]
    return [
        {"name": f"claim {index}", "statement": "s", "contrasts": contrast, "primary": is_primary}
        for index, is_primary in enumerate(primary)
    ]


@pytest.mark.parametrize(
    ("primary", "name"),
    [
        ((), None),
        ((False,), "claim 0"),
        ((True,), "claim 0"),
        ((False, False), "claim 0"),
        ((False, True, False), "claim 1"),
    ],
)
def test_the_primary_claim_is_the_one_that_says_so_or_the_first(primary: tuple[bool, ...], name: str | None) -> None:
    study = Study.model_validate({**make().model_dump(), "claims": _claims(*primary)})
    assert (study.primary_claim and study.primary_claim.name) == name


def test_a_study_has_one_primary_claim() -> None:
    with pytest.raises(ValidationError, match="one primary claim, found 'claim 0' and 'claim 2'"):
        Study.model_validate({**make().model_dump(), "claims": _claims(True, False, True)})


def test_every_preset_may_have_a_scale() -> None:
    scales = {name: Scale(seeds=1) for name in PRESETS}
    assert all(make(**scales).at(name).seeds == 1 for name in PRESETS)
