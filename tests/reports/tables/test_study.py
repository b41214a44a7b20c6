"""The tables of the made-up studies: hand-computed numbers, missing repeats, published marks, alignment."""

from __future__ import annotations

import pandas as pd
import pytest

from ablations.planning.plan import Plan
from ablations.study import Study
from reports import summarize
from reports.analysis.summary import summarize_study
from reports.collect.results import CELL_COLUMNS, CURVE_COLUMNS, MISSING, RUN_COLUMNS, Results
from reports.collect.runs import collect
from reports.content.blocks import Column, Interval, Missing, Number, Table, Text
from reports.content.formatting import number, printable, set_rows
from tests.reports.made_up import AGGREGATION, TEMPERATURE, Store, plan_of, table_of


@pytest.fixture
def table(plan: Plan, results: Results) -> Table:
    return table_of(TEMPERATURE, plan, results)


@pytest.fixture
def grouped(plan: Plan, results: Results) -> Table:
    return table_of(AGGREGATION, plan, results)


def _texts(table: Table, row: int) -> list[str]:
    return [cell.text for cell in set_rows(table)[row]]


def test_numbers_by_hand(table: Table) -> None:
    """Static: 82 ± √7 over seeds; differences −2, −3, −1 to the reference: −2 ± 4.302653 · 1 / √3 = 2.48.

    Of 80, 81 and 85 only the last is better than some of 82, 84 and 86: two of nine pairs.
    """
    assert _texts(table, 0) == ["static", "82.00 ± 2.65", "3", "−2.00 [−4.48, +0.48]", "0.22", "65.4", "−4.0"]
    assert _texts(table, 2) == ["τ = 30", "84.00 ± 2.00", "3", "reference", "", "69.4", "reference"]


def test_a_missing_repeat_is_not_averaged_over(table: Table) -> None:
    cells = table.rows[1]
    assert cells[1] == Missing("n = 2/3")
    assert cells[2] == Text("2/3")
    assert isinstance(cells[3], Missing)
    assert "τ = 20: seed 1 failed. Measured: 83.00 (seed 0), 87.00 (seed 2); not averaged." in _notes(table)


def test_nothing_measured_is_missing(grouped: Table) -> None:
    assert grouped.rows[2][5:9] == (Missing("missing"), Text("0/3"), Missing(), Text(""))


def test_incomplete_reference_has_no_differences(grouped: Table) -> None:
    assert [row[7] for row in grouped.rows] == [Text("reference"), Missing("n = 2/3"), Missing()]


def test_no_spread_is_marked(grouped: Table) -> None:
    """Maximum gives 10.0 for every seed; its differences −72, −74, −76 do spread."""
    mean, _, delta = grouped.rows[2][1:4]
    assert isinstance(mean, Number)
    assert (mean.value, mean.spread, mean.marks) == (10.0, 0.0, ("†",))
    assert isinstance(delta, Interval)
    assert (delta.value, delta.marks) == (-74.0, ())
    assert any(note.mark == "†" for note in grouped.notes)


def test_networks_are_column_groups(grouped: Table) -> None:
    assert [column.group for column in grouped.columns] == ["", *["τ = 30"] * 4, *["τ = 20"] * 4, *["published"] * 2]


def test_published_marks(table: Table, grouped: Table) -> None:
    tau_20, tau_30 = table.rows[1][5], table.rows[2][5]
    assert isinstance(tau_20, Number)
    assert isinstance(tau_30, Number)
    assert (tau_20.value, tau_20.marks, tau_30.marks) == (69.4, ("B",), ())
    assert [note.mark for note in grouped.notes if note.mark] == ["B", "†"]
    assert "Published number from one second-hand source." in _notes(grouped)


def test_the_difference_to_the_paper_is_said(table: Table) -> None:
    said = _notes(table)
    assert "Data set, network and schedule differ" in said
    assert "Fashion-MNIST (mini)" in said
    assert "DY-MobileNetV2 ×0.35 depth 0.5 K=4, 2 epochs" in said
    assert "ImageNet" in said


def test_at_the_papers_scale_only_the_schedule_differs() -> None:
    plan = plan_of(TEMPERATURE, preset="paper")
    said = _notes(table_of(TEMPERATURE, plan, _nothing_measured(plan)))
    assert "Schedule differs" in said
    assert "Data set" not in said


def test_a_study_judged_by_loss_has_no_published_column(plan: Plan, results: Results) -> None:
    study = TEMPERATURE.model_copy(update={"metric": "test/loss"})
    found = table_of(study, plan, results)
    assert [column.heading for column in found.columns] == ["variant", "loss", "n", "Δ"]
    assert _texts(found, 0)[1] == "0.5000 ± 0.0000"
    assert "Nothing was published" in _notes(found)


def test_columns_of_a_study_replace_the_label(plan: Plan, results: Results) -> None:
    cells = (("✓", "–"), ("–", "✓"), ("✓", "✓"))
    rows = tuple(v.model_copy(update={"cells": c}) for v, c in zip(TEMPERATURE.variants, cells, strict=True))
    found = table_of(TEMPERATURE.model_copy(update={"columns": ("14²", "7²"), "variants": rows}), plan, results)
    assert found.columns[:2] == (Column("14²", "mark", "attention at"), Column("7²", "mark", "attention at"))
    assert _texts(found, 1)[:2] == ["–", "✓"]


def test_one_seed_has_no_interval(store: Store) -> None:
    plan = plan_of(TEMPERATURE, seeds=1)
    found = table_of(TEMPERATURE, plan, collect(plan, store.uri))
    assert _texts(found, 0)[1:4] == ["80.00", "1", "−2.00"]
    assert "one seed" in found.caption
    assert "interval" not in found.caption


def test_pieces_of_a_column_are_equally_wide() -> None:
    cells = (Interval(-12.5, -20.25, 1.0), Interval(3.0, 0.5, 105.125), Interval(0.0, None, None), Missing("n = 1/3"))
    rows = set_rows(Table("", "", (Column("Δ", "interval"),), tuple((cell,) for cell in cells)))
    padded = [["".join((piece.pad, piece.text)) for piece in row[0].pieces] for row in rows[:3]]
    assert padded[0] == ["−12.50", " [", "−20.25", ", ", "00+1.00", "]"]
    assert padded[1] == ["0+3.00", " [", "0+0.50", ", ", "+105.12", "]"]
    assert [len(piece) for piece in padded[2]] == [len(piece) for piece in padded[0]]
    assert rows[2][0].text == "0.00"
    assert (len(rows[2][0].visible), rows[2][0].filler) == (1, " [+20.25, +105.12]")


def test_points_align_where_decimals_differ() -> None:
    """Published numbers keep the decimals they have: 1810, 312.9 and −66.25 share their decimal point."""
    cells = (Number(1810, 0), Number(312.9, 1), Number(-66.25, 2), Missing())
    rows = [row[0] for row in set_rows(Table("", "", (Column("M", "number"),), tuple((cell,) for cell in cells)))]
    assert [cell.text for cell in rows] == ["1810", "312.9", "−66.25", "—"]
    assert [cell.filler for cell in rows] == [".00", "0", "", ""]
    assert [cell.pieces[0].pad for cell in rows[:3]] == ["+", "+0", "00"]


@pytest.mark.parametrize(
    ("value", "signed", "text"), [(-0.001, True, "0.00"), (-0.005001, False, "−0.01"), (2.0, True, "+2.00")]
)
def test_numbers_have_true_signs(value: float, signed: bool, text: str) -> None:
    assert number(value, 2, signed) == text


def test_printable_hides_nothing() -> None:
    assert printable("a\n\tb\x07\u202ec\ud800") == "a b[U+0007][U+202E]c[U+D800]"


def test_summary_for_tracking(plan: Plan, results: Results) -> None:
    aggregation, temperature = summarize(plan, results)
    row = temperature.get("", "static")
    assert (row.key, row.expected, row.estimate.n) == ("static", 3, 3)
    assert row.as_metrics("test/top1") == pytest.approx(
        {
            "test/top1.mean": 82.0,
            "test/top1.sd": 7**0.5,
            "test/top1.ci_low": 75.4276,
            "test/top1.ci_high": 88.5724,
            "test/top1.n": 3.0,
            "delta.test/top1.mean": -2.0,
            "delta.test/top1.sd": 1.0,
            "delta.test/top1.ci_low": -4.4841,
            "delta.test/top1.ci_high": 0.4841,
            "delta.test/top1.n": 3.0,
            "delta.test/top1.p": 0.0742,
            "delta.test/top1.p_holm": 0.0742,
            "delta.test/top1.p_better": 2 / 9,
        },
        abs=1e-3,
    )
    assert temperature.get("", "tau_20").as_metrics("test/top1") == {"test/top1.n": 2.0, "delta.test/top1.n": 2.0}
    assert aggregation.get("tau_20", "max").as_metrics("test/top1") == {"test/top1.n": 0.0, "delta.test/top1.n": 0.0}
    assert (temperature.get("", "tau_20").absent, aggregation.missing) == ({1: "failed"}, 5)


def test_paired_by_seed_not_by_place(plan: Plan, results: Results) -> None:
    """A cell table in another order gives the same differences."""
    shuffled = Results(results.cells.iloc[::-1], results.curves, results.runs)
    for study in (AGGREGATION, TEMPERATURE):
        here, there = (summarize_study(study, plan, found) for found in (results, shuffled))
        assert {row.key: row.delta for row in here.variants if row.delta and row.delta.has_interval} == {
            row.key: row.delta for row in there.variants if row.delta and row.delta.has_interval
        }


def test_study_without_published_table(plan: Plan, results: Results) -> None:
    study: Study = TEMPERATURE.model_copy(update={"published": None})
    found = table_of(study, plan, results)
    assert [column.group for column in found.columns] == ["", "ours", "ours", "ours", "ours"]
    assert "Published" not in _notes(found)


def _notes(table: Table) -> str:
    return " ".join(note.text for note in table.notes)


def _nothing_measured(plan: Plan) -> Results:
    rows = [(c.study, c.network, c.variant, c.seed, c.fingerprint, "", MISSING) for c in plan.cells]
    cells = pd.DataFrame(rows, columns=list(CELL_COLUMNS))
    return Results(cells, pd.DataFrame(columns=list(CURVE_COLUMNS)), pd.DataFrame(columns=list(RUN_COLUMNS)))
