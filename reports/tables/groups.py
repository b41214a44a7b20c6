"""This module puts the rows of a table into groups: the name of a group stands in its first row, a rule above it."""

from __future__ import annotations

from collections.abc import Iterable

from reports.content.blocks import Cell, Text

Rows = tuple[tuple[Cell, ...], ...]


def grouped(rows: Iterable[tuple[str, tuple[Cell, ...]]]) -> tuple[Rows, tuple[int, ...]]:
    """Return rows with the name of their group in the first of each, and the indices of the later groups."""
    all_rows: list[tuple[Cell, ...]] = []
    rules, previous_name = [], None
    for name, cells in rows:
        # The first group needs no rule above it: the head of the table is there.
        if name != previous_name and all_rows:
            rules.append(len(all_rows))
        all_rows.append((Text(name if name != previous_name else ""), *cells))
        previous_name = name
    return tuple(all_rows), tuple(rules)
