"""This module reads the paper's numbers, each with its table, its confidence and the setting it was measured in.

The numbers are in `published.yaml`. A report prints them beside ours, with a footnote on those that were not read off
the paper itself; nothing computes with them.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from ablations.errors import UnknownNameError
from ablations.spec.parts import Frozen

Confidence = Literal["A", "B", "C"]

CONFIDENCE_NOTES: dict[Confidence, str] = {
    "A": "read off the paper or found in two independent sources",
    "B": "from one second-hand source",
    "C": "digitised from a figure (about ±0.15)",
}

SOURCE = "Chen et al., Dynamic Convolution: Attention over Convolution Kernels, CVPR 2020 (arXiv:1912.03458v2)"


class PublishedValue(Frozen):
    """A published number and how sure we are of having it right."""

    value: float
    confidence: Confidence


class PublishedTable(Frozen):
    """A published table: rows by key, in each row values by column (`top1` and `top5` in per cent)."""

    name: str
    title: str
    setting: str
    rows: dict[str, dict[str, PublishedValue]]

    def get(self, row: str, column: str) -> PublishedValue | None:
        """Return the value in a cell, or `None` where nothing was published."""
        return self.rows.get(row, {}).get(column)


@cache
def published_tables() -> dict[str, PublishedTable]:
    """Return every published table by name."""
    # Read as a resource, so that it is found in an installed package too.
    text = resources.files("ablations").joinpath("published.yaml").read_text(encoding="utf-8")
    return {name: _table(name, raw) for name, raw in yaml.safe_load(text).items()}


def get_published(name: str) -> PublishedTable:
    """Return the published table called `name`.

    Raises:
        UnknownNameError: If there is none, with the nearest names.
    """
    tables = published_tables()
    if name not in tables:
        raise UnknownNameError("published table", name, tables)
    return tables[name]


def _table(name: str, raw: dict[str, Any]) -> PublishedTable:
    rows = {}
    for row, cells in raw["rows"].items():
        rows[str(row)] = {column: _value(cell, raw["confidence"]) for column, cell in cells.items()}
    return PublishedTable(name=name, title=raw["title"], setting=raw["setting"], rows=rows)


def _value(cell: Any, confidence: Confidence) -> PublishedValue:
    # A cell is a number, or a number with a confidence other than its table's.
    if isinstance(cell, list):
        return PublishedValue(value=float(cell[0]), confidence=cell[1])
    return PublishedValue(value=float(cell), confidence=confidence)
