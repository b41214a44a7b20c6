"""This module writes a single table: for a paper, a page, a spreadsheet or another program."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from ablations.errors import OptionError
from reports.content.blocks import Column, Interval, Number, Table, TableCell, Text
from reports.evidence.contents import finite, harmless
from reports.render import TABLE_FORMATS
from reports.render.data_files import table_data
from reports.render.html import table_html
from reports.render.latex.tables import table_file
from reports.render.markdown import table_markdown


def table_text(table: Table, name: str, format_name: str) -> str:
    """Return a table as a text that ends with a line break; `name` is that of its label in LaTeX.

    Raises:
        OptionError: If a single table cannot be had in that format.
    """
    if format_name == "tex":
        return table_file(table, name)
    if format_name == "md":
        return f"{table_markdown(table)}\n"
    if format_name == "html":
        return table_html(table)
    if format_name == "csv":
        return _csv_text(table)
    if format_name == "json":
        return f"{json.dumps(table_data(table), indent=1, allow_nan=False, ensure_ascii=False)}\n"
    raise OptionError(f"a single table is made as {', '.join(TABLE_FORMATS)}, not as {format_name}.")


def _csv_text(table: Table) -> str:
    """Return a table as CSV: what stands in one cell of it, a number and its interval, has columns of its own."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = list(zip(*table.rows, strict=True))
    parts = [_parts(cells) for cells in columns]
    headings: list[str] = []
    for column, names in zip(table.columns, parts, strict=True):
        headings += [" ".join(filter(None, (_heading(column), name))) for name in names]
    writer.writerow(map(harmless, headings))
    for row in table.rows:
        values: list[Any] = []
        for cell, names in zip(row, parts, strict=True):
            values += [_value(cell, name) for name in names]
        writer.writerow(map(harmless, values))
    return buffer.getvalue()


def _heading(column: Column) -> str:
    return f"{column.group}: {column.heading}" if column.group else column.heading


def _parts(cells: tuple[TableCell, ...]) -> tuple[str, ...]:
    """Return the names of what the cells of a column consist of: a value, and its spread or its interval."""
    parts = [""]
    if any(isinstance(cell, Number) and cell.spread is not None for cell in cells):
        parts.append("sd")
    if any(isinstance(cell, Interval) and cell.low is not None for cell in cells):
        parts += ["ci_low", "ci_high"]
    return tuple(parts)


def _value(cell: TableCell, part: str) -> Any:
    match cell, part:
        case ((Number() | Interval()), ""):
            return finite(cell.value)
        case Number(), "sd":
            return finite(cell.spread)
        case Interval(), "ci_low":
            return finite(cell.low)
        case Interval(), "ci_high":
            return finite(cell.high)
        case Text(), "":
            return cell.text
    # A missing value, and what a cell does not consist of.
    return None
