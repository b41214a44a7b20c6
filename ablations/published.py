"""This module reads the paper's numbers, each with its table, its confidence and the setting it was measured in.

The numbers are in `published.yaml`. A report prints them beside ours, with a footnote on those that were not read off
the paper itself; nothing computes with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import Field

from ablations.errors import UnknownNameError
from ablations.spec.parts import Frozen

Confidence = Literal["A", "B", "C"]

CONFIDENCE_NOTES: dict[Confidence, str] = {
    "A": "read off the paper or found in two independent sources",
    "B": "from one second-hand source",
    "C": "digitised from a figure (about ±0.15)",
}

SOURCE = "Chen et al., Dynamic Convolution: Attention over Convolution Kernels, CVPR 2020 (arXiv:1912.03458v2)"


_SOURCE_ROW, _BASELINE_ROW = "row", "over"
"""Keys of a row that stands in another table: the row, and the one that its source compares it with."""


class PublishedValue(Frozen):
    """A published number and how sure we are of having it right."""

    value: float
    confidence: Confidence


Cells = dict[str, PublishedValue]
"""The values of a row by column (`top1` and `top5` in per cent)."""


class PublishedTable(Frozen):
    """A published table: rows by key.

    Attributes:
        baselines: In a table that is put together of several sources, the row that the source of each row compares it
            with. Differences between rows of different sources are differences of their gains over these.
        across: The column of a study beside this table whose values stand side by side in it, as the paper prints it.
    """

    name: str
    title: str
    setting: str
    rows: dict[str, Cells]
    baselines: dict[str, Cells] = Field(default_factory=dict)
    across: str | None = None

    def get(self, row: str, column: str) -> PublishedValue | None:
        """Return the value in a cell, or `None` where nothing was published."""
        return self.rows.get(row, {}).get(column)

    def comparable(self, row: str, column: str) -> PublishedValue | None:
        """Return a value that can be subtracted from those of other rows: as a gain if the table has baselines.

        A gain is as sure as the less sure of its two numbers.
        """
        value, baseline = self.get(row, column), self.baselines.get(row, {}).get(column)
        if value is None or row not in self.baselines:
            return value
        if baseline is None:
            return None
        # Rounded, so that 76.2 − 74.1 is 2.1 and not 2.1000000000000085.
        gain = round(value.value - baseline.value, 6)
        return PublishedValue(value=gain, confidence=max(value.confidence, baseline.confidence))


@cache
def published_tables() -> dict[str, PublishedTable]:
    """Return every published table by name."""
    # Read as a resource, so that it is found in an installed package too.
    text = resources.files("ablations").joinpath("published.yaml").read_text(encoding="utf-8")
    tables: dict[str, PublishedTable] = {}
    for name, raw in yaml.safe_load(text).items():
        tables[name] = _table(name, raw, tables)
    return tables


def get_published(name: str) -> PublishedTable:
    """Return the published table called `name`.

    Raises:
        UnknownNameError: If there is none, with the nearest names.
    """
    tables = published_tables()
    if name not in tables:
        raise UnknownNameError("published table", name, tables)
    return tables[name]


def _table(name: str, raw: dict[str, Any], earlier: Mapping[str, PublishedTable]) -> PublishedTable:
    rows: dict[str, Cells] = {}
    baselines: dict[str, Cells] = {}
    for row, cells in raw["rows"].items():
        if _SOURCE_ROW in cells:
            # Each number is written once: a table that is put together of others names their rows.
            rows[str(row)] = _cells_of(cells[_SOURCE_ROW], earlier)
            baselines[str(row)] = _cells_of(cells[_BASELINE_ROW], earlier)
        else:
            rows[str(row)] = {column: _value(cell, raw["confidence"]) for column, cell in cells.items()}
    words = {"name": name, "title": raw["title"], "setting": raw["setting"], "across": raw.get("across")}
    return PublishedTable(**words, rows=rows, baselines=baselines)


def _cells_of(reference: str, tables: Mapping[str, PublishedTable]) -> Cells:
    table, _, row = reference.partition("/")
    return tables[table].rows[row]


def _value(cell: Any, confidence: Confidence) -> PublishedValue:
    # A cell is a number, or a number with a confidence other than its table's.
    if isinstance(cell, list):
        return PublishedValue(value=float(cell[0]), confidence=cell[1])
    return PublishedValue(value=float(cell), confidence=confidence)
