"""This module lays a study's variants out in two directions: rows, and the values of one column side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablations.study import Study, Variant

Place = tuple[tuple[str, ...], str]
"""The cells that describe a row, and the value of the column that lies across."""


@dataclass(frozen=True)
class Grid:
    """The variants of a study by row and level.

    Attributes:
        across: The heading of the column whose values are the levels.
        headings: The headings of the other columns.
        levels: Its values, in their order.
        rows: The cells of each row, in the order of the study.
    """

    across: str
    headings: tuple[str, ...]
    levels: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    variants: Mapping[Place, Variant]

    def level_title(self, level: str) -> str:
        """Return the heading of a level: `K = 4`; a word needs no column in front of it."""
        return f"{self.across} = {level}" if _is_number(level) else level

    def row_title(self, row: tuple[str, ...]) -> str:
        """Return the cells of a row with their headings, for example `depth 0.5, width ×0.35`."""
        return ", ".join(f"{heading} {cell}" for heading, cell in zip(self.headings, row, strict=True))


def grid_of(study: Study) -> Grid | None:
    """Return the layout of a study, or `None` if each of its variants is a row."""
    across = study.laid_across
    if across is None:
        return None
    index = study.columns.index(across)
    variants: dict[Place, Variant] = {}
    levels: dict[str, None] = {}
    rows: dict[tuple[str, ...], None] = {}
    for variant in study.variants:
        row = (*variant.cells[:index], *variant.cells[index + 1 :])
        level = variant.cells[index]
        variants[row, level] = variant
        levels[level] = rows[row] = None
    headings = (*study.columns[:index], *study.columns[index + 1 :])
    return Grid(across, headings, tuple(levels), tuple(rows), variants)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
