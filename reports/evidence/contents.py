"""This module turns a document into plain data: every cell exactly, by table, row and column, and all other words.

A manifest carries it, so that a number or a sentence that differs can be named. No markup and no layout.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Container
from typing import Any

from ablations.spec.fingerprint import digest
from ablations.visible import visible
from reports.content.blocks import Block, Document, Figure, Interval, Missing, Number, Paragraph, Table, TableCell, Text

Json = dict[str, Any]
_LABELS = 2
"""Number of leading cells of words that name a row."""

_FORMULA = tuple("=+-@|%\uff1d\uff0b\uff0d\uff20")
"""Signs at the beginning of a cell that some spreadsheet computes; the last four are full-width."""


def contents(document: Document) -> Json:
    """Return the cells of each table by section and title, all other words by place, and the digest of all that."""
    tables: Json = {}
    texts: Json = {"title": [document.title, document.subtitle, document.running_head, document.timestamp]}
    figures: Json = {}
    for section in document.all_sections:
        for block in section.blocks:
            if isinstance(block, Table):
                tables[_unused(f"{section.title}: {block.title}", tables)] = _table(block)
                # Cells are compared one by one; the title, caption and notes of a table are words.
                texts[_unused(f"{section.title}: words of table {block.title}", texts)] = _words_of(block)
            elif isinstance(block, Figure):
                figures[block.name] = {"data": data_digest(block), "words": _words_of(block)}
            else:
                name = f"{section.title}: {type(block).__name__.lower()}"
                if isinstance(block, Paragraph) and block.lead:
                    name += f" {block.lead}"
                texts[_unused(name, texts)] = _words_of(block)
    content: Json = {"tables": tables, "words": texts, "figures": figures}
    if document.brief:
        # Whoever makes the document again must know that it was shortened.
        content["brief"] = True
    return {**content, "sha256": digest(content)}


def _unused(name: str, names: Container[str]) -> str:
    """Return a name that is in no use: two blocks may have one, for example two paragraphs without a lead."""
    unused, number = name, 1
    while unused in names:
        number += 1
        unused = f"{name} ({number})"
    return unused


def _words_of(block: Block) -> Any:
    """Return a block as plain data, without the cells of a table and the data of a figure, which stand elsewhere."""
    words = {}
    for field in dataclasses.fields(block):
        if field.name not in ("rows", "data"):
            words[field.name] = _plain(getattr(block, field.name))
    return words


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(map(_plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    return value


def _table(table: Table) -> Json:
    names: list[str] = []
    for column in table.columns:
        heading = column.heading
        if column.group:
            heading = f"{column.group}: {heading}"
        names.append(_unused(heading, names))
    rows: Json = {}
    for number, row in enumerate(table.rows, start=1):
        labels = [cell.text for cell in row if isinstance(cell, Text) and cell.text][:_LABELS]
        key = f"row {number}"
        if labels:
            key += f" ({', '.join(labels)})"
        rows[key] = dict(zip(names, map(_cell, row), strict=True))
    return rows


def _cell(cell: TableCell) -> Any:
    """Return a cell's exact values: text, a number, a number and its spread, or a difference and its ends."""
    content: Any
    match cell:
        case Text():
            content = cell.text
        case Missing():
            content = {"missing": cell.reason}
        case Interval():
            content = [finite(cell.value), finite(cell.low), finite(cell.high)]
        case Number(spread=None):
            content = finite(cell.value)
        case Number():
            content = [finite(cell.value), finite(cell.spread)]
    if cell.marks:
        # The key is part of the manifest's format.
        return {"told": content, "marks": list(cell.marks)}
    return content


def finite(value: float | None) -> float | None:
    """Return a number as JSON can hold it: `None` for one that is unknown."""
    return float(value) if value is not None and math.isfinite(value) else None


def data_csv(figure: Figure) -> str:
    """Return the data behind a figure as CSV, exact numbers included, for a spreadsheet too: texts are `harmless`."""
    harmless_data = figure.data.map(harmless).rename(columns=harmless)
    return str(harmless_data.to_csv(index=False, lineterminator="\n"))


def harmless(value: Any) -> Any:
    """Return a value for a cell of CSV: a text that a spreadsheet would take for a formula begins with an apostrophe.

    Numbers stay numbers, negative ones too.
    """
    if not isinstance(value, str):
        return value
    # A return in the middle would begin a row, and so a cell.
    text = visible(value, lines=False)
    if text.lstrip(' \u00a0"').startswith(_FORMULA):
        return f"'{text}"
    return text


def data_digest(figure: Figure) -> str:
    """Return the SHA-256 of the data behind a figure."""
    exact = figure.data.to_csv(index=False, lineterminator="\n")
    # A name may hold half of a surrogate pair, which plain UTF-8 refuses.
    return hashlib.sha256(exact.encode("utf-8", "surrogatepass")).hexdigest()
