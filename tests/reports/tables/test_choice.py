"""A table for a paper: its columns and rows by the names that users have, its digits, and what is said below it."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import OptionError, UnknownNameError
from reports.content.blocks import Document, Interval, Note, Number, Section, Table, TableCell, Text
from reports.content.table_names import named_tables
from reports.render.one_table import table_text
from reports.tables.export.choice import TableChoice, choose
from tests.command_line import Invoke
from tests.reports.made_up import STUDIES, TOP1, hostile_document

EXAMPLE = Path(__file__).parents[3] / "examples" / "results"


def _chosen(document: Document, name: str = "aggregation", **choice: Any) -> Table:
    return choose(document, STUDIES, TableChoice(name, **choice))


def _mean(name: str) -> float:
    return statistics.mean(value for value in TOP1[name] if value is not None)


def _texts(cells: tuple[TableCell, ...]) -> list[str]:
    return [cell.text for cell in cells if isinstance(cell, Text)]


def _labels(table: Table) -> list[str]:
    return [_texts(row)[0] for row in table.rows]


def test_variants_as_columns(document: Document) -> None:
    table = _chosen(document, columns=("average", "attention"), digits=1)
    assert [column.heading for column in table.columns] == ["", "average", "attention"]
    rows = {_texts(row)[0]: row[1:] for row in table.rows}
    average, attention = rows["τ = 30: top-1 (%)"]
    assert isinstance(average, Number)
    assert isinstance(attention, Number)
    assert (average.value, average.decimals) == (round(_mean("tau_30/average"), 1), 1)
    assert attention.value == round(_mean("tau_30"), 1)
    # The number of repeats is not always the same here, so that it is told.
    assert _texts(rows["τ = 20: n"]) == ["2/3", "2/3"]
    published = rows["published: top-1"]
    assert [cell.value for cell in published if isinstance(cell, Number)] == [36.0, 69.4]


def test_columns_and_rows_in_the_order_of_their_names(document: Document) -> None:
    table = _chosen(document, columns=("published", "tau_30 Δ", "tau_30 top-1"), rows=("max", "average"))
    headings = [(column.group, column.heading) for column in table.columns]
    # Those of a group stay beside each other, under one heading.
    assert headings == [("", "variant"), ("published", "top-1"), ("published", "Δ"), *_of("τ = 30", "Δ", "top-1 (%)")]
    assert _labels(table) == ["max", "average"]
    means = [row[4] for row in table.rows]
    assert [cell.value for cell in means if isinstance(cell, Number)] == [10.0, _mean("tau_30/average")]


def _of(group: str, *headings: str) -> list[tuple[str, str]]:
    return [(group, heading) for heading in headings]


def test_names_as_they_are_written_elsewhere(document: Document) -> None:
    by_title = _chosen(document, "temperature", rows=("τ = 30", "static"), columns=("TOP-1 (%)",))
    assert by_title == _chosen(document, "temperature", rows=("tau_30", "Static"), columns=("top-1",))
    # Of every group that has such a column.
    assert len(_chosen(document, columns=("delta",)).columns) == 4


def test_without_intervals_nothing_is_said_of_them(document: Document) -> None:
    whole = _chosen(document, "temperature")
    assert "95 %" in whole.caption
    assert any(isinstance(cell, Interval) for row in whole.rows for cell in row)
    plain = _chosen(document, "temperature", with_intervals=False, with_spread=False)
    assert "95 %" not in plain.caption
    assert "±" not in plain.caption
    assert "Δ is the paired difference by seed to “τ = 30”." in plain.caption
    numbers = [cell for row in plain.rows for cell in row if isinstance(cell, Number)]
    assert -2.0 in [cell.value for cell in numbers if cell.signed]
    assert all(cell.spread is None for cell in numbers)
    assert not any(isinstance(cell, Interval) for row in plain.rows for cell in row)


def test_without_differences_nothing_is_said_of_them(document: Document) -> None:
    table = _chosen(document, "temperature", columns=("top-1 (%)",))
    text = " ".join([table.caption, *(note.text for note in table.notes)])
    assert "Δ" not in text
    assert "star" not in text
    assert "Published" not in text
    # What the report says elsewhere is not beside a table in a paper.
    assert "appendix" not in text
    assert "seed 1" in text


def test_digits_never_exceed_those_that_were_published(document: Document) -> None:
    table = _chosen(document, "temperature", rows=("tau_30",), digits=4)
    numbers = {column.group: cell for column, cell in zip(table.columns, table.rows[0], strict=True)}
    published = numbers["published"]
    assert all(isinstance(cell, Text | Number) for cell in numbers.values())
    assert "reference" in _texts((published,)) or (isinstance(published, Number) and published.decimals == 1)
    text = table_text(table, "temperature", "md")
    assert "69.4 |" in text
    assert "84.0000 ± 2.0000" not in text.partition("published")[0]
    assert "2.0000" in text


def test_stars_stand_on_their_difference(document: Document) -> None:
    section = next(section for section in document.sections if section.name == "temperature")
    main = next(block for block in section.blocks if isinstance(block, Table) and block.title == section.title)
    starred = _with_stars(main)
    changed = replace(document, sections=(Section(section.title, (starred,), section.name),))
    table = _chosen(changed, "temperature")
    assert "stars" not in [column.heading for column in table.columns]
    marks = [cell.marks for cell in table.rows[0] if isinstance(cell, Interval)]
    assert marks == [("**",)]
    assert any(note.text.startswith("* p < 0.05") for note in table.notes)
    without = _chosen(changed, "temperature", rows=("tau_30",))
    assert not any(note.text.startswith("* p < 0.05") for note in without.notes)


def _with_stars(table: Table) -> Table:
    """The table as it is where its first row has a star."""
    place = next(place for place, column in enumerate(table.columns) if column.heading == "Δ")
    column = replace(table.columns[place], heading="stars", kind="mark")
    columns = (*table.columns[: place + 1], column, *table.columns[place + 1 :])
    rows = []
    for index, row in enumerate(table.rows):
        rows.append((*row[: place + 1], Text("" if index else "**"), *row[place + 1 :]))
    notes = (Note("* p < 0.05, ** p < 0.01: from the intervals. The p-values are in the appendix."),)
    return replace(table, columns=columns, rows=tuple(rows), notes=notes)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"columns": ("averge",)}, r"no column or row 'averge'. Did you mean 'average'"),
        ({"rows": ("averge",)}, r"Its rows: attention; average; max\."),
        ({"columns": ("top-1", "bottom")}, r"Its columns: top-1; n; Δ.* of τ = 30; τ = 20; published"),
        ({"columns": ("average", "Δ")}, "some are columns and some are rows"),
        ({"columns": ("average",), "rows": ("max",)}, "no column 'max'"),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(document: Document, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        _chosen(document, **choice)


def test_rows_in_groups_are_called_by_both_their_names(document: Document) -> None:
    table = _chosen(document, "comparisons", columns=("p",))
    assert [column.heading for column in table.columns][-1] == "p"
    assert all(all(isinstance(cell, Text) and cell.text for cell in row[:2]) for row in table.rows)
    rows = {" ".join(_texts(row[:2])) for row in table.rows}
    assert len(rows) == len(table.rows) > 1
    one = _chosen(document, "comparisons", columns=("p",), rows=(sorted(rows)[0],))
    assert len(one.rows) == 1


def test_a_group_is_taken_without_the_columns_that_say_nothing(document: Document) -> None:
    headings = [column.heading for column in _chosen(document, "aggregation", columns=("tau_30",)).columns]
    # Here some rows have fewer repeats, so that their number is told.
    assert headings == ["variant", "top-1 (%)", "n", "Δ"]


def test_a_table_that_is_not_there(document: Document) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown table 'agregation'. Did you mean 'aggregation'"):
        _chosen(document, "agregation")


def test_every_table_of_a_report_can_be_chosen_in_every_format(document: Document) -> None:
    for name in named_tables(document):
        table = _chosen(document, name)
        for format_name in ("tex", "md", "html", "csv", "json"):
            assert table_text(table, name, format_name).endswith("\n")


def test_formats(document: Document) -> None:
    table = _chosen(document, "temperature", columns=("top-1 (%)", "ours Δ"), rows=("static",), digits=1)
    tex = table_text(table, "temperature", "tex")
    assert r"static & 82.0 \ensuremath{\pm} 2.6 & \ensuremath{-}2.0 [" in tex
    assert r"\label{tab:temperature}" in tex
    (row,) = list(csv.DictReader(io.StringIO(table_text(table, "t", "csv"))))
    assert (row["variant"], float(row["ours: top-1 (%)"]), float(row["ours: top-1 (%) sd"])) == ("static", 82.0, 2.6)
    assert float(row["ours: Δ ci_low"]) < float(row["ours: Δ"]) == -2.0 < float(row["ours: Δ ci_high"])
    cells = json.loads(table_text(table, "t", "json"))["cells"]
    assert [cell["value"] for cell in cells if cell["column"] == "top-1 (%)"] == [82.0]
    assert "| static | 82.0 ± 2.6 |" in table_text(table, "t", "md")


def test_plain_html_shows_names_and_no_filling() -> None:
    (table,) = (block for block in hostile_document().sections[0].blocks if isinstance(block, Table))
    text = table_text(table, "t", "html")
    assert "<script" not in text
    assert "<i>" not in text
    assert "&lt;script&gt;" in text
    with pytest.raises(OptionError, match="not as pdf"):
        table_text(table, "t", "pdf")


def test_the_command_prints_one_table_or_writes_it(invoke: Invoke, tmp_path: Path) -> None:
    source = ("report", EXAMPLE / "study.yaml", "--results", EXAMPLE / "results.csv")
    code, out, _ = invoke.apart(*source, "--table", "study", "--columns", "sgd,adam", "--format", "tex")
    assert code == 0
    # Nothing but the table, so that it can go into a file.
    assert out.startswith(r"% \usepackage{")
    assert out.endswith("\\end{table}\n")
    assert re.search(r"^ & .*SGD.* & .*Adam.* \\\\$", out, re.MULTILINE)
    code, out = invoke(*source, "--table", "study", "--output", tmp_path / "paper.md")
    assert code == 0, out
    assert out.split() == ["table", "(md):", str(tmp_path / "paper.md")]
    assert "| Adam |" in (tmp_path / "paper.md").read_text()
    code, out = invoke(*source, "--table", "study")
    assert code == 0
    assert "Adam" in out
    assert "\\" not in out
    code, out = invoke(*source, "--columns", "sgd")
    assert (code, "about --table" in out) == (2, True)
    code, out = invoke(*source, "--table", "study", "--format", "pdf")
    assert code != 0
    assert "a single table is made as tex, md, html, csv, json, not as pdf" in out
