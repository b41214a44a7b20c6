"""Frozen plans: what is written down, what is noticed when file, study or request are changed afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.claims import Claim, better_than
from ablations.errors import StudyError
from ablations.planning.frozen_plan import FrozenPlan, frozen_from_data, frozen_plans, read_frozen, write_frozen
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.protocol.stopping import StoppingRule
from ablations.spec.fingerprint import digest
from ablations.study import Study, Variant

NOON = 1_796_040_000.0
CLAIM = Claim(name="dynamic", statement="Dynamic beats static.", contrasts=better_than("dynamic", "static"))
LENIENT = CLAIM.model_copy(update={"contrasts": better_than("dynamic", "static", margin=-1.0)})
STUDY = Study(
    name="mine",
    title="Mine",
    question="Does it help?",
    reference="static",
    size_of_interest=0.5,
    claims=(CLAIM,),
    variants=(
        Variant(name="static", changes={"model.layer": "static"}),
        Variant(name="dynamic"),
    ),
)
OTHER = STUDY.model_copy(update={"name": "other", "title": "Other", "claims": ()})


def plan_with(*studies: Study, seeds: int | None = 3, **options: Any) -> Plan:
    return make_plan(studies or (STUDY,), Request(get_preset("smoke"), seeds=seeds, **options))


def frozen(*studies: Study, seeds: int | None = 3, **options: Any) -> FrozenPlan:
    return FrozenPlan.of(plan_with(*studies, seeds=seeds, **options), NOON, "c" * 40, modified=False)


def test_it_holds_what_decides() -> None:
    content = frozen().content
    assert content["frozen_at"] == "2026-11-30T12:00:00+00:00"
    assert content["stopping"] == {"rule": "fixed", "seeds": {"mine": 3}}
    assert len(content["cells"]) == 6
    (claim,) = content["primary_claims"]
    assert (claim["study"], claim["claim"], claim["size_of_interest"]) == ("mine", "dynamic", 0.5)


def test_with_a_stopping_rule_it_holds_the_looks() -> None:
    plan = frozen(stopping=StoppingRule(20))
    assert plan.content["stopping"] == {"rule": "until decided", "max_seeds": 20, "looks": {"mine": [3, 5, 8, 12, 20]}}
    assert plan.looks_of("mine") == (3, 5, 8, 12, 20)
    assert plan.seeds == {"mine": 20}


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    plan = frozen()
    path = write_frozen(plan, tmp_path / "frozen")
    assert read_frozen(path) == plan
    assert plan.is_intact
    assert path.name == f"mine-20261130-120000-{plan.digest[:12]}.json"
    assert read_frozen(path).plan.cells == plan_with().cells


def test_a_plan_made_anew_is_as_planned() -> None:
    assert frozen().differences(plan_with()) == ()
    assert frozen(STUDY, OTHER).differences(plan_with(STUDY, OTHER)) == ()


@pytest.mark.parametrize(
    "path",
    [
        ("frozen_at",),
        ("commit",),
        ("named",),
        ("request", "seeds"),
        ("request", "studies"),
        ("primary_claims",),
        ("stopping", "seeds", "mine"),
        ("cells",),
    ],
    ids=".".join,
)
def test_an_edited_file_is_noticed_wherever_it_was_edited(path: tuple[str, ...]) -> None:
    content = json.loads(json.dumps(frozen().content))
    part = content
    for key in path[:-1]:
        part = part[key]
    value = part[path[-1]]
    part[path[-1]] = {
        "frozen_at": "2026-11-29T12:00:00+00:00",
        "commit": "d" * 40,
        "named": ["yours"],
        "seeds": 4,
        "mine": 4,
    }.get(path[-1], value[:-1] if isinstance(value, list) else value)
    edited = frozen_from_data(content)
    assert not edited.is_intact
    assert edited.differences(plan_with())[0].startswith("The frozen plan was edited after it was frozen")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size_of_interest": 1.0}, "size_of_interest was 0.5, is 1.0"),
        (
            {"claims": (CLAIM.model_copy(update={"contrasts": better_than("dynamic", "static", margin=-1.0)}),)},
            "margin",
        ),
        ({"claims": ()}, "claims was"),
        ({"reference": "dynamic"}, 'reference was "static", is "dynamic"'),
        ({"baseline": {"train.epochs": 1}}, "baseline"),
    ],
    ids=["size", "margin", "no claims", "reference", "baseline"],
)
def test_a_study_that_was_changed_is_named_with_its_change(change: dict[str, Any], words: str) -> None:
    sentences = frozen().differences(plan_with(STUDY.model_copy(update=change)))
    assert sentences[0].startswith("Study mine was changed after freezing: ")
    assert words in sentences[0]


def test_changed_settings_change_the_cells_too() -> None:
    sentences = frozen().differences(plan_with(overrides={"train.epochs": 1}))
    assert sentences[0] == 'The request was changed after freezing: overrides was {}, is {"train.epochs": 1}.'
    assert sentences[1].startswith("Settings, data or plug-ins of 6 planned cells are not those that were frozen: ")


def test_dropped_and_added_seeds_are_named() -> None:
    assert frozen().differences(plan_with(seeds=2)) == (
        "Study mine: 3 seeds were planned, 2 are reported; seed 2 was dropped.",
    )
    assert frozen().differences(plan_with(seeds=6)) == (
        "Study mine: 3 seeds were planned, 6 are reported; seeds 3 to 5 were added.",
    )


@pytest.mark.parametrize(("seeds", "as_planned"), [(3, True), (4, False), (8, True), (20, True), (21, False)])
def test_with_a_stopping_rule_the_seeds_of_a_look_are_as_planned(seeds: int, *, as_planned: bool) -> None:
    rule = StoppingRule(20)
    plan = plan_with(stopping=rule, seeds_by_study={"mine": seeds})
    differences = [line for line in frozen(stopping=rule).differences(plan) if "seeds were planned" in line]
    assert (not differences) == as_planned


def test_studies_that_are_missing_or_new_are_named() -> None:
    assert "Study other was planned and is not reported here." in frozen(STUDY, OTHER).differences(plan_with())
    (sentence,) = frozen().differences(plan_with(STUDY, OTHER))
    assert sentence == "Study other is not part of the frozen plan: its results are exploratory."


def test_sentences_stand_in_the_order_of_the_plan() -> None:
    studies = [STUDY.model_copy(update={"name": name}) for name in ("mine", "e", "d", "c", "b", "a")]
    names = [line.split()[1] for line in frozen(*studies).differences(plan_with())]
    assert names == ["e", "d", "c", "b", "a"]


def test_the_order_of_the_keys_of_a_file_changes_no_word() -> None:
    plan = frozen()
    changed = plan_with(STUDY.model_copy(update={"size_of_interest": 2.0, "question": "Why?", "claims": ()}))
    in_store = frozen_from_data(json.loads(json.dumps(plan.content, sort_keys=True)))
    assert in_store.differences(changed) == plan.differences(changed)


@pytest.mark.parametrize("key", ["preset", "overrides", "seeds", "canary", "tuned", "studies"])
def test_a_file_without_a_part_of_its_request_stops_no_report(tmp_path: Path, key: str) -> None:
    content = json.loads(json.dumps(frozen().content))
    del content["request"][key]
    (tmp_path / "broken.json").write_text(json.dumps(content))
    with pytest.raises(StudyError, match="is no frozen plan"):
        read_frozen(tmp_path / "broken.json")
    assert frozen_plans(tmp_path, plan_with()) == ()


def test_only_plans_that_concern_a_plan_are_taken(tmp_path: Path) -> None:
    first, again = frozen(), FrozenPlan.of(plan_with(), NOON + 60, "c" * 40, modified=True)
    for plan in (again, first, frozen(OTHER)):
        write_frozen(plan, tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    assert frozen_plans(tmp_path, plan_with()) == (first, again)
    at_another_preset = make_plan([STUDY], Request(get_preset("quick"), seeds=3))
    assert frozen_plans(tmp_path, at_another_preset) == ()
    # Other settings are no reason to pass a plan over: they are what it is there to show.
    assert len(frozen_plans(tmp_path, plan_with(overrides={"train.epochs": 1}))) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', "null", "\x00", '{"format": 2}'], ids=list("abcdefg")
)
def test_what_is_no_frozen_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(StudyError, match="is no frozen plan"):
        read_frozen(path)


def test_another_format_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    content = {**frozen().content, "format": 2}
    with pytest.raises(StudyError, match="has format 2, this version reads 1"):
        frozen_from_data({**content, "sha256": digest(content)})
    with pytest.raises(StudyError, match="cannot read the frozen plan"):
        read_frozen(tmp_path / "none.json")


def test_a_plan_left_out_by_an_override_is_not_frozen() -> None:
    plan = replace(plan_with(), left_out=("reduction",))
    assert FrozenPlan.of(plan, NOON, "c" * 40, modified=False).content["request"]["left_out"] == ["reduction"]
