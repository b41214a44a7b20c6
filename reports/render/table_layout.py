"""This module decides what all formats share in a table's layout: group headings, long tables, columns that wrap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from reports.content.blocks import Interval, Number, Table, TableCell, Text
from reports.content.formatting import set_rows

_LONG_TEXT = 40
"""Longest text in characters that stands in one line."""
_LONG_TABLE = 28
"""Most rows that fit on a page together with a caption and notes."""
_WRAPPED = 24
"""Characters of a line to which a long text can be wrapped."""
_BETWEEN = 2
"""Room between two columns, in characters."""
_DENSE = 120
"""Characters in a line of a table from which on it takes smaller print to fit a window of 1280 px."""


@dataclass(frozen=True)
class Span:
    """A heading over the columns from `start` to before `end`; without text it is a gap."""

    text: str
    start: int
    end: int


def spans(table: Table) -> tuple[Span, ...]:
    """Return the group headings of a table from left to right, gaps included; none if no column has a group."""
    if not any(column.group for column in table.columns):
        return ()
    headings, start = [], 0
    # Neighbours of one group share a heading; the same group further right has one of its own.
    for group, columns in groupby(table.columns, key=lambda column: column.group):
        end = start + len(list(columns))
        headings.append(Span(group, start, end))
        start = end
    return tuple(headings)


def is_long(table: Table) -> bool:
    """Return True if a table has to run over several pages, in small print."""
    return len(table.rows) > _LONG_TABLE


def is_dense(table: Table) -> bool:
    """Return True if the columns of a table take so much room that a window needs them in smaller print."""
    return characters_across(table) > _DENSE


def characters_across(table: Table) -> int:
    """Return the room that the columns of a table take beside each other, in characters, with long texts wrapped."""
    total = 0
    columns = zip(table.columns, wrapping(table), zip(*set_rows(table), strict=True), strict=False)
    for column, wraps, cells in columns:
        longest = max((len(cell.text) + len(",".join(cell.marks)) for cell in cells), default=0)
        if wraps:
            longest = min(longest, _WRAPPED)
        # The words of a heading may stand below each other.
        words = max(map(len, column.heading.split()), default=0)
        total += max(longest, words) + _BETWEEN
    return total


def has_numbers(table: Table) -> bool:
    """Return True if a table is about numbers and stays in one piece, rather than a list whose text may wrap freely."""
    kinds = [column.kind for column in table.columns]
    if "interval" in kinds or kinds.count("number") > 1:
        return True
    return any(isinstance(cell, Number | Interval) for row in table.rows for cell in row[-1:])


def wrapping(table: Table) -> tuple[bool, ...]:
    """Return for each column True if its text is so long that it has to wrap."""
    wraps = []
    for index, column in enumerate(table.columns):
        # Numbers, intervals and marks stay in one line, however long they are.
        has_words = column.kind in ("text", "code")
        wraps.append(has_words and any(_is_long_text(row[index]) for row in table.rows))
    return tuple(wraps)


def _is_long_text(cell: TableCell) -> bool:
    return isinstance(cell, Text) and len(cell.text) > _LONG_TEXT
