"""Reports on some rows of a study: what they say is left out, what they judge, and what they tell of a frozen plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, find_rows
from reports.analysis.claims import LEFT_OUT, judge_study
from reports.analysis.protocol import deviations, looks_at
from reports.analysis.summary import summarize, summarize_study
from reports.content.blocks import Document, Paragraph, Table
from reports.document.study_report import build_document
from tests.reports.everything import made_up_results

LATER = 4_000_000_000.0


def plan(*names: str, seeds: int | None = 3, seed: int | None = None, preset: str = "smoke") -> Plan:
    request = Request(get_preset(preset), seeds=seeds, seed=seed)
    studies, rows = find_rows(names, False, request)
    return make_plan(studies, replace(request, rows=rows))


def report(plan: Plan) -> Document:
    results = made_up_results(plan)
    return build_document(plan, results, summarize(plan, results))


def words(document: Document, heading: str) -> list[str]:
    """The texts of the paragraphs of a heading in the sections of a report."""
    blocks = [block for section in document.sections for block in section.blocks]
    return [block.text for block in blocks if isinstance(block, Paragraph) and block.lead == heading]


def tables(document: Document) -> list[Table]:
    return [block for section in document.sections for block in section.blocks if isinstance(block, Table)]


def test_a_report_says_which_rows_were_left_out() -> None:
    document = report(plan("temperature/tau_1", "temperature/tau_5"))
    (sentence,) = words(document, "Cut down")
    assert sentence.startswith("Only 3 of the 8 rows of this study were asked for, with the reference. Left out: ")
    for title in ("static", "τ = 10", "τ = 20", "τ = 40", "τ = 30 → 1"):
        assert f"“{title}”" in sentence
    assert "τ = 30”" not in sentence
    assert [row[0].text for row in tables(document)[0].rows] == ["τ = 1", "τ = 5", "τ = 30"]  # type: ignore[union-attr]


def test_a_report_on_one_network_says_that_the_others_were_left_out() -> None:
    (sentence,) = words(report(plan("aggregation/tau_1: max")), "Cut down")
    assert sentence.startswith("Only 2 of the 10 rows")
    assert "“average”; “shuffle per image”; “shuffle across images”; all rows on “τ = 30 → 1”." in sentence


def test_the_cut_of_the_preset_is_told_beside() -> None:
    (sentence,) = words(report(plan("temperature/tau_1", preset="quick")), "Cut down")
    assert sentence.startswith("Only 2 of the 6 rows of this study were asked for")
    assert "At preset quick only a part of this study is asked: 6 of 8 rows (left out: τ = 20; τ = 40)" in sentence


def test_a_report_on_one_repeat_says_so() -> None:
    document = report(plan("temperature", seeds=None, seed=1))
    assert words(document, "Cut down") == ["Only the repeat with seed 1 was asked for."]
    assert "Only the repeat with seed 1" in words(report(plan("temperature/tau_1", seeds=None, seed=1)), "Cut down")[0]


def test_a_whole_study_is_told_as_before() -> None:
    assert words(report(plan("temperature")), "Cut down") == []


def test_a_claim_that_needs_a_missing_row_is_not_judged() -> None:
    part = plan("temperature/tau_1", "temperature/tau_5")
    (study,), results = part.studies, made_up_results(part)
    judged = {claim.claim.name: claim for claim in judge_study(study, summarize_study(study, part, results), part)}
    assert judged["τ = 1 is worse than τ = 30"].remark != LEFT_OUT
    # One of its two contrasts could be judged, and would pass for the whole claim.
    smaller = judged["τ = 30 is at least as good as a smaller τ"]
    assert (smaller.contrasts, smaller.verdict, smaller.remark) == ((), "undecided", LEFT_OUT)
    assert judged["annealed dynamic beats static"].words == "undecided: rows left out"
    notes = [note.text for table in tables(report(part)) for note in table.notes]
    assert (
        "“τ = 30 is at least as good as a smaller τ” is not judged, as it needs rows that were not asked for: “τ = 10”."
        in notes
    )


def test_a_factorial_without_some_combinations_has_no_effects() -> None:
    names = [variant.name for variant in plan("parts").studies[0].variants]
    document = report(plan(f"parts/{names[1]}"))
    assert words(document, "No effects")[0].startswith("Some of its combinations were not asked for, so that")


def frozen(plan: Plan) -> FrozenPlan:
    return FrozenPlan.of(plan, 0.0, "c" * 40, modified=False)


def told(frozen_plan: FrozenPlan, reported: Plan) -> Sequence[str]:
    """The deviations of a complete report, made and looked at once after the freezing."""
    results = made_up_results(reported)
    results = replace(results, runs=results.runs.assign(commit="c" * 40, dirty=False))
    return deviations(reported, results.with_looks(looks_at(reported, results, LATER)).with_frozen([frozen_plan]))


def test_rows_can_be_frozen() -> None:
    rows = plan("temperature/tau_1", "temperature/tau_5")
    assert told(frozen(rows), rows) == ()
    # However they were asked for.
    assert told(frozen(rows), plan("temperature/tau_[15]")) == ()
    (claim,) = frozen(rows).content["primary_claims"]
    assert claim["claim"] == "τ = 1 is worse than τ = 30"
    assert frozen(plan("temperature/tau_5")).content["primary_claims"] == []
    again = frozen(rows).plan
    assert again.cells == rows.cells


def test_rows_that_are_left_out_after_freezing_are_told() -> None:
    sentences = told(frozen(plan("temperature")), plan("temperature/tau_1"))
    assert sentences[0] == (
        "Study temperature: planned rows were left out after freezing: static; tau_5; tau_10; tau_20; tau_40; and 1 "
        "more."
    )
    # A look at some rows is one at a part of the results, which is never planned.
    assert "was looked at 1 time beyond the plan" in sentences[1]
    assert "6 of 24 cells" in sentences[1]


def test_rows_beyond_the_frozen_ones_are_exploratory() -> None:
    sentences = told(frozen(plan("temperature/tau_1")), plan("temperature/tau_1", "temperature/static"))
    assert sentences[0] == "Study temperature: rows that were not planned are exploratory: static."
    assert "was looked at 1 time beyond the plan" in sentences[1]


def test_one_repeat_in_place_of_the_planned_ones_is_told() -> None:
    sentences = told(frozen(plan("temperature")), plan("temperature", seeds=None, seed=1))
    assert "The request was changed after freezing: seed was not set, is 1." in sentences


@pytest.mark.parametrize("name", available_studies())
def test_a_row_of_every_study_is_reported(name: str) -> None:
    whole = plan(name, seeds=None).studies[0]
    row = whole.variants[-1].name
    part = plan(f"{name}/{row}", seeds=None)
    document = report(part)
    rows = {cell.variant for cell in part.cells}
    assert rows == {row, whole.reference}
    assert bool(words(document, "Cut down")) == (len(rows) < len(whole.variants))
