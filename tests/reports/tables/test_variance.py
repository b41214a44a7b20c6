"""The table of a study of variances and its words, and what a report leaves out for such a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ablations.planning.plan import Plan
from reports.analysis.summary import StudySummary, summarize_study
from reports.content.blocks import Missing, Section, Table, Text
from reports.content.formatting import set_rows
from reports.document.study_report import build_document
from reports.tables.p_values import comparisons_table
from reports.tables.summary_rows import summary_rows
from reports.tables.variance.table import variance_table
from reports.tables.variance.words import variance_reading, width_words
from tests.reports.everything import made_up_results, results_of, whole_plan

VALUES = {
    "everything": (80.0, 82.0, 84.0),
    "weights": (80.0, 81.0, 82.0),
    "order": (83.0, 83.0, 86.0),
    "split": (80.0, 80.5, 81.0),
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return whole_plan("quick", "variance", seeds=3)


def summary_of(plan: Plan, values: Mapping[str, Sequence[float | None]]) -> StudySummary:
    return summarize_study(plan.studies[0], plan, results_of(plan, values))


def table_of(plan: Plan, values: Mapping[str, Sequence[float | None]]) -> Table:
    return variance_table(plan.studies[0], plan, summary_of(plan, values))


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in set_rows(table)]


def test_rows_by_hand(plan: Plan) -> None:
    """Variances 4, 1, 3 and 1/4, and F(2, 2) of 39."""
    rows = texts(table_of(plan, VALUES))
    assert [row[0] for row in rows] == [*(v.title for v in plan.studies[0].variants), "sum of the single sources"]
    assert rows[0][1:3] == ["82.00 ± 2.00", "3"]
    assert rows[0][3].startswith("2.000 [1.041, 12.5")
    assert [row[4] for row in rows[:4]] == ["reference", "0.25 [0.01, 9.75]", "0.75 [0.02, 29.25]", "0.06 [0.00, 2.44]"]
    assert rows[4][1:4] == ["", "", ""]
    assert rows[4][4].startswith("1.06 [")
    assert table_of(plan, VALUES).rules == (4,)


def test_a_missing_repeat_leaves_a_gap_and_no_sum(plan: Plan) -> None:
    table = table_of(plan, {**VALUES, "order": (83.0, None, 86.0)})
    assert len(table.rows) == 4
    assert table.rows[2][1:] == (Missing("n = 2/3"), Text("2/3"), Missing(), Missing())
    assert any(note.text.startswith("order and augmentation alone: seed 1 missing") for note in table.notes)
    assert table.rules == ()


def test_repeats_that_are_all_the_same_are_marked(plan: Plan) -> None:
    table = table_of(plan, {**VALUES, "split": (80.0, 80.0, 80.0)})
    assert texts(table)[3][3:] == ["0.000", "0.00"]
    assert [note.mark for note in table.notes if note.mark] == ["†"]


def test_a_note_says_how_little_few_repeats_know() -> None:
    assert width_words(3).startswith("With 3 repeats per row a share of 1 has the interval [0.03, 39.00]:")


def test_the_reading_names_the_widest_and_the_narrowest(plan: Plan) -> None:
    words = variance_reading(plan.studies[0], summary_of(plan, VALUES))
    largest = "“order and augmentation alone” has the largest share of the variance of “everything varies”, 0.75"
    assert words.startswith(f"{largest} [0.02, 29.25]; ")
    assert "“validation split alone” the smallest, 0.06 [0.00, 2.44]." in words
    assert "No interval excludes that a source alone spreads as widely" in words
    assert "which is in line with sources that act independently" in words


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        (1e-3, ["excludes an equal variance for “initial weights alone”, “order", "less than the whole: they vary"]),
        (1e3, ["excludes an equal variance for “initial weights alone”, “order", "more than the whole: the sources"]),
    ],
)
def test_the_reading_of_clear_cases(plan: Plan, spread: float, words: list[str]) -> None:
    row = tuple(80 + spread * value for value in (0.0, 1.0, 2.0))
    values = {"everything": (79.0, 80.0, 81.0), "weights": row, "order": row, "split": row}
    reading = variance_reading(plan.studies[0], summary_of(plan, values))
    assert [part for part in words if part not in reading] == []


def test_nothing_known_is_said(plan: Plan) -> None:
    values = {**VALUES, "everything": (80.0, None, 84.0)}
    reading = variance_reading(plan.studies[0], summary_of(plan, values))
    assert reading == "No share of the variance of “everything varies” can be given yet."


def test_means_of_its_rows_are_not_compared(plan: Plan) -> None:
    results = made_up_results(plan)
    study, summary = plan.studies[0], summarize_study(plan.studies[0], plan, results)
    assert [row.delta for row in summary.variants] == [None] * 4
    assert not summary.tested
    assert comparisons_table([(study, summary)]) is None
    tracked = list(summary_rows(study, plan, results, summary))
    assert [row.texts["Δ to the reference"] for row in tracked] == ["reference", "—", "—", "—"]
    assert not [name for row in tracked for name in row.metrics if name.startswith("delta.")]


def test_a_report_has_its_table_and_its_method(plan: Plan) -> None:
    results = made_up_results(plan)
    summary = summarize_study(plan.studies[0], plan, results)
    document = build_document(plan, results, [summary])
    tables = [block for block in document.sections[0].blocks if isinstance(block, Table)]
    assert tables == [variance_table(plan.studies[0], plan, summary)]
    method = document.appendix[1]
    assert isinstance(method, Section)
    assert "Variances" in [getattr(block, "lead", "") for block in method.blocks]
    assert "Probability of improvement" not in [getattr(block, "lead", "") for block in method.blocks]
