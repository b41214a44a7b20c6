"""This module writes the data of a report for other programs: tidy rows as CSV files, and all of it as one JSON file.

Numbers are exact, and what is missing is missing: empty in CSV, `null` in JSON. `docs/report-formats.md` has it all.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.vocabulary import slug
from reports.content.blocks import Document, Interval, Missing, Number, Records, RecordValue, Table, TableCell, Text
from reports.evidence.contents import finite, harmless
from reports.render.files import TABLES, document_path, ensure_folder, write_atomically

_CELL_COLUMNS = (
    *("section", "table", "row", "label", "group", "column"),
    *("value", "spread", "low", "high", "text", "missing", "marks"),
)


def render_csv(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.csv` with the rows of all studies, and the other records beside it under `tables/`.

    A document without records, such as a comparison, has the cells of its tables in the one file.
    """
    ensure_folder(folder)
    cells = cell_records(document)
    first, *others = (*document.records, cells)
    if others:
        ensure_folder(folder / TABLES)
    for records in others:
        path = folder / TABLES / f"{slug(stem)}-{records.name}.csv"
        write_atomically(path, csv_text(records).encode("utf-8", "replace"))
    return write_atomically(document_path(folder, stem, "csv"), csv_text(first).encode("utf-8", "replace"))


def render_json(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.json`: the records by name, and each table with its words and its cells."""
    ensure_folder(folder)
    content: dict[str, Any] = {"title": document.title, "subtitle": document.subtitle}
    for records in document.records:
        content[records.name] = _objects(records)
    content["tables"] = list(_tables(document))
    text = json.dumps(content, indent=1, allow_nan=False)
    return write_atomically(document_path(folder, stem, "json"), f"{text}\n".encode())


def csv_text(records: Records) -> str:
    """Return records as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(records.columns)
    for row in records.rows:
        writer.writerow(map(_spelled, row))
    return buffer.getvalue()


def _spelled(value: RecordValue) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return harmless(value)


def _objects(records: Records) -> list[dict[str, RecordValue]]:
    return [dict(zip(records.columns, row, strict=True)) for row in records.rows]


def cell_records(document: Document) -> Records:
    """Return every cell of every table of a document, a row per cell; empty texts are left out."""
    rows: list[tuple[RecordValue, ...]] = []
    for section in document.all_sections:
        for block in section.blocks:
            if isinstance(block, Table):
                rows += [(section.title, block.title, *cell) for cell in _cells(block)]
    return Records("cells", _CELL_COLUMNS, tuple(rows))


def _tables(document: Document) -> Iterator[dict[str, Any]]:
    """Yield each table of a document with its section, its words and its cells."""
    for section in document.all_sections:
        for block in section.blocks:
            if isinstance(block, Table):
                yield {"section": section.title, **table_data(block)}


def table_data(table: Table) -> dict[str, Any]:
    """Return a table with its words and its cells, as JSON can hold it."""
    return {
        "title": table.title,
        "caption": table.caption,
        "notes": [{"mark": note.mark, "text": note.text} for note in table.notes],
        "cells": _objects(Records("cells", _CELL_COLUMNS[2:], tuple(_cells(table)))),
    }


def _cells(table: Table) -> Iterator[tuple[RecordValue, ...]]:
    for number, row in enumerate(table.rows, start=1):
        label = _label(row)
        for column, cell in zip(table.columns, row, strict=True):
            values = _values(cell)
            if any(value is not None for value in values):
                marks = ",".join(cell.marks) or None
                yield (number, label, column.group or None, column.heading, *values, marks)


def _label(row: tuple[TableCell, ...]) -> str | None:
    """Return the first words of a row, which say what it is about."""
    for cell in row:
        if isinstance(cell, Text) and cell.text:
            return cell.text
    return None


def _values(cell: TableCell) -> tuple[RecordValue, ...]:
    """Return a cell's value, spread, ends of its interval, text, and the reason why it is missing."""
    match cell:
        case Number():
            return (finite(cell.value), finite(cell.spread), None, None, None, None)
        case Interval():
            return (finite(cell.value), None, finite(cell.low), finite(cell.high), None, None)
        case Missing():
            return (None, None, None, None, None, cell.reason or "missing")
        case Text():
            return (None, None, None, None, cell.text or None, None)
