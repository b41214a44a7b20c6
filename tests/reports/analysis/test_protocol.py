"""A report on a frozen plan: as planned, or every deviation, each on page 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.plan import Plan
from ablations.protocol.looks import Look
from ablations.protocol.stopping import StoppingRule
from reports.analysis.protocol import deviations, looks_at
from reports.analysis.summary import summarize
from reports.collect.computing.accounted import AccountedRun, Computing, Outcome
from reports.collect.results import Results
from reports.content.blocks import Facts, Items
from reports.document.study_report import build_document
from tests.reports.everything import made_up_results, whole_plan

LATER = 4_000_000_000.0
"""After every made-up run."""


def frozen_of(plan: Plan, results: Results, when: float = 0.0) -> FrozenPlan:
    commits = set(results.runs["commit"])
    return FrozenPlan.of(plan, when, str(commits.pop()), modified=False)


@pytest.fixture
def plan() -> Plan:
    return whole_plan("smoke", "temperature", seeds=3)


@pytest.fixture
def results(plan: Plan) -> Results:
    """Complete results of a plan that was frozen before, looked at once."""
    made_up = made_up_results(plan)
    # One commit, and no changes beside it.
    runs = made_up.runs.assign(commit="c" * 40, dirty=False)
    results = replace(made_up, runs=runs)
    return results.with_looks(looks_at(plan, results, LATER)).with_frozen([frozen_of(plan, results)])


def first_page(plan: Plan, results: Results) -> tuple[dict[str, str], Sequence[str]]:
    summary = build_document(plan, results, summarize(plan, results)).summary
    facts = dict(next(block for block in summary if isinstance(block, Facts)).items)
    items = [block for block in summary if isinstance(block, Items)]
    return facts, items[0].items if items else ()


def without(results: Results, cells: int) -> Results:
    """Return results of which the first cells have no value."""
    status = ["missing"] * cells + list(results.cells["status"][cells:])
    return replace(results, cells=results.cells.assign(status=status))


def test_what_is_as_planned_says_so_on_page_one(plan: Plan, results: Results) -> None:
    assert deviations(plan, results) == ()
    facts, items = first_page(plan, results)
    assert facts["Planned"].startswith("as planned (frozen 1970-01-01 00:00 UTC, SHA-256 ")
    assert facts["Looks"].startswith("1 look at the results")
    assert not items


def test_without_a_frozen_plan_a_report_says_that(plan: Plan, results: Results) -> None:
    facts, items = first_page(plan, replace(results, frozen=()))
    assert facts["Planned"] == "no plan was frozen before the runs"
    assert not items


def test_every_deviation_stands_on_page_one(plan: Plan, results: Results) -> None:
    fewer = whole_plan("smoke", "temperature", seeds=2)
    reported = made_up_results(fewer)
    looked = replace(reported, looks=results.looks, frozen=results.frozen)
    looked = looked.with_looks(looks_at(fewer, reported, LATER + 60))
    facts, items = first_page(fewer, looked)
    assert list(items) == list(deviations(fewer, looked))
    assert facts["Planned"].startswith(f"{len(items)} deviations from the plan (")
    assert "Study temperature: 3 seeds were planned, 2 are reported; seed 2 was dropped." in items
    assert any("was looked at 1 time beyond the plan" in line and "2 seeds" in line for line in items)


def test_a_look_before_the_results_were_complete_is_a_deviation(plan: Plan, results: Results) -> None:
    early = looks_at(plan, without(results, 5), LATER - 60)
    assert (early[0].finished, early[0].planned) == (19, 24)
    (sentence,) = deviations(plan, results.with_looks(early))
    assert sentence.startswith("Study temperature was looked at 1 time beyond the plan (")
    assert "19 of 24 cells" in sentence
    assert sentence.endswith("it provides for one look, at the end.")


def test_the_same_results_are_one_look(plan: Plan, results: Results) -> None:
    again = results.with_looks(looks_at(plan, results, LATER + 999))
    assert again.looks == results.looks


def test_missing_repeats_are_named(plan: Plan, results: Results) -> None:
    sentences = deviations(plan, without(results, 1))
    assert "Study temperature: 1 of 24 planned cells have no value: static, seed 0 (missing)." in sentences


def test_runs_from_before_the_plan_are_counted(plan: Plan, results: Results) -> None:
    late = replace(results, frozen=(frozen_of(plan, results, LATER),))
    (sentence,) = deviations(plan, late)
    assert sentence.startswith("24 of the 24 runs behind this report had ended before the plan was frozen")


@pytest.mark.parametrize(("seconds", "count"), [(-1, 1), (0, 1), (0.9, 1), (1, 0)])
def test_a_run_of_the_second_of_freezing_counts_as_one_from_before(
    plan: Plan, results: Results, seconds: float, count: int
) -> None:
    ended = [LATER * 1000 + 9_000] * len(results.runs)
    ended[0] = (LATER + seconds) * 1000
    late = replace(results, runs=results.runs.assign(ended=ended), frozen=(frozen_of(plan, results, LATER),))
    assert len([line for line in deviations(plan, late) if "before the plan was frozen" in line]) == count


@pytest.mark.parametrize("column", ["commit", "dirty"])
def test_runs_of_other_code_are_counted(plan: Plan, results: Results, column: str) -> None:
    values = results.runs[column].tolist()
    values[:2] = ["d" * 40] * 2 if column == "commit" else [True] * 2
    (sentence,) = deviations(plan, replace(results, runs=results.runs.assign(**{column: values})))
    assert sentence.startswith("2 of the 24 runs were made by other code than the plan's commit cccccccccccc")


def test_a_plan_that_was_frozen_anew_names_the_earlier_one(plan: Plan, results: Results) -> None:
    (first,) = results.frozen
    again = results.with_frozen([frozen_of(plan, results, 60.0)])
    assert deviations(plan, again) == (
        f"The plan was frozen anew: an earlier one is of 1970-01-01 00:00 UTC (SHA-256 {first.digest[:12]}).",
    )


def test_a_look_of_another_study_is_none_of_this_one(plan: Plan, results: Results) -> None:
    assert deviations(plan, results.with_looks([Look("kernels", "x", 1.0, 1, 1, 9)])) == ()


def test_an_edited_copy_does_not_take_the_place_of_the_plan(plan: Plan, results: Results) -> None:
    (first,) = results.frozen
    edited = FrozenPlan({**first.content, "primary_claims": []})
    for copies in (results.with_frozen([edited]), replace(results, frozen=(edited,)).with_frozen([first])):
        assert copies.frozen[-1] == first
        assert deviations(plan, copies) == (
            f"A copy of a frozen plan was edited: its SHA-256 {first.digest[:12]} is not that of its content.",
        )
    (sentence,) = deviations(plan, replace(results, frozen=(edited,)))
    assert sentence.startswith("The frozen plan was edited after it was frozen")


def test_results_that_were_done_anew_are_counted(plan: Plan, results: Results) -> None:
    outcomes: list[Outcome] = ["superseded", "counted", "failed"]
    runs = tuple(AccountedRun(name, "trial", name, 1.0, 1) for name in outcomes)
    (sentence,) = deviations(plan, replace(results, computing=Computing(runs)))
    assert sentence.startswith("1 run of these studies was done anew")


def test_a_look_knows_its_scale() -> None:
    scales = set()
    for preset in ("smoke", "quick"):
        plan = whole_plan(preset, "temperature", seeds=3)
        (look,) = looks_at(plan, made_up_results(plan), 1.0)
        scales.add(look.scale)
    assert len(scales) == 2


@pytest.mark.parametrize(("seeds", "count"), [(3, 1), (5, 0)])
def test_a_report_on_an_earlier_look_than_the_last_is_a_deviation(seeds: int, count: int) -> None:
    plan = whole_plan("smoke", "temperature", seeds=3)
    rule = StoppingRule(20)
    planned = replace(plan, request=replace(plan.request, stopping=rule))
    reported = replace(planned, request=replace(planned.request, seeds_by_study={"temperature": seeds}))
    results = made_up_results(plan)
    last = Look("temperature", "last", LATER, 5, 40, 40, plan.request.scale)
    results = results.with_looks([last]).with_frozen([frozen_of(planned, results)])
    sentences = [line for line in deviations(reported, results) if "the last look counts" in line]
    assert len(sentences) == count
