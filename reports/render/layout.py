"""What every renderer asks of a table before setting it: spans of the group headings, size, columns that must wrap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from reports.content.blocks import Cell, Table, Text

_LONG_TEXT = 40
_LONG_TABLE = 28


@dataclass(frozen=True)
class Span:
    """A heading over the columns from `start` to before `end`; without text it is a gap."""

    text: str
    start: int
    end: int


def spans(table: Table) -> tuple[Span, ...]:
    """Returns the group headings of a table from left to right, gaps included; none if no column has a group."""
    found, start = [], 0
    for group, columns in groupby(table.columns, key=lambda column: column.group):
        end = start + len(list(columns))
        found.append(Span(group, start, end))
        start = end
    return tuple(found) if any(span.text for span in found) else ()


def is_long(table: Table) -> bool:
    """Whether a table has to run over several pages, in small print."""
    return len(table.rows) > _LONG_TABLE


def has_numbers(table: Table) -> bool:
    """Whether a table is about numbers and stays in one piece, rather than a list whose text may wrap freely."""
    kinds = [column.kind for column in table.columns]
    return "interval" in kinds or kinds.count("number") > 1


def wrapping(table: Table) -> tuple[bool, ...]:
    """Returns, per column, whether its text is so long that it has to wrap."""
    return tuple(
        column.kind in ("text", "code") and any(_length(row[index]) > _LONG_TEXT for row in table.rows)
        for index, column in enumerate(table.columns)
    )


def _length(cell: Cell) -> int:
    return len(cell.text) if isinstance(cell, Text) else 0
