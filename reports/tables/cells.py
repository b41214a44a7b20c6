"""This module makes what several tables share: cells, the columns of a group, and rows in groups."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import compress
from typing import Any

from ablations.published import PublishedValue
from ablations.study import Variant
from reports.content.blocks import Column, ColumnKind, Missing, Number, TableCell, Text
from reports.content.published import decimals_of, marks_of

TableRow = tuple[TableCell, ...]
TableRows = tuple[TableRow, ...]
Columns = tuple[Column, ...]


def text_cells(*texts: str) -> tuple[Text, ...]:
    """Return a cell for each text."""
    return tuple(map(Text, texts))


def labels_of(variant: Variant) -> tuple[str, ...]:
    """Return the texts that describe a variant's row: one per column of its study, or its title."""
    return variant.cells or (variant.title,)


def number_cell(value: float, decimals: int, *, signed: bool = False, marks: tuple[str, ...] = ()) -> TableCell:
    """Return a number as a cell, and NaN as a missing one."""
    if math.isnan(value):
        return Missing()
    return Number(value, decimals, signed=signed, marks=marks)


def published_cell(value: PublishedValue | None, *, least: int = 1, signed: bool = False) -> TableCell:
    """Return a published number with its mark and all its decimals, but at least `least`."""
    if value is None:
        return Missing()
    # Its own decimals: fewer would round it, and more would claim what was not published.
    decimals = decimals_of(value.value, least)
    return Number(value.value, decimals, signed=signed, marks=marks_of(value), tone="aside")


def published_marks(values: Iterable[PublishedValue | None]) -> list[str]:
    """Return the marks that occur among published numbers, sorted."""
    marks: set[str] = set()
    for value in values:
        marks.update(marks_of(value))
    return sorted(marks)


def value_words(value: Any) -> str:
    """Return a value of a setting: a float in four significant digits, anything else as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def columns_of(kind: ColumnKind, *headings: str, group: str = "") -> tuple[Column, ...]:
    """Return columns of one kind, under one heading if they have a group."""
    return tuple(Column(heading, kind, group) for heading in headings)


def visible_columns(
    visible: Mapping[str, bool], columns: Columns, rows: Iterable[TableRow]
) -> tuple[Columns, TableRows]:
    """Return columns and the cells in them without those that `visible` hides by their heading."""
    selectors = [visible.get(column.heading, True) for column in columns]
    visible_rows = [tuple(compress(row, selectors)) for row in rows]
    return tuple(compress(columns, selectors)), tuple(visible_rows)


def grouped(rows: Iterable[tuple[str, TableRow]]) -> tuple[TableRows, tuple[int, ...]]:
    """Return rows with the name of their group in the first of each, and the indices of the later groups."""
    all_rows: list[TableRow] = []
    rules, previous_name = [], None
    for name, cells in rows:
        label = ""
        if name != previous_name:
            label = name
            # The first group needs no rule above it: the head of the table is there.
            if all_rows:
                rules.append(len(all_rows))
        all_rows.append((Text(label), *cells))
        previous_name = name
    return tuple(all_rows), tuple(rules)
