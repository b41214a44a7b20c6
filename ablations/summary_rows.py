"""This module holds the rows of a study's summary: reports make them, and the tracking of summary runs writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SummaryRepeat:
    """One repeat of a row: its seed, its run (empty if there is none), its value or the reason why it has none."""

    seed: int
    run_id: str
    text: str


@dataclass(frozen=True)
class SummaryRow:
    """One row of a study's table.

    Attributes:
        key: The variant's name, with the inspected network in front if there is one.
        metrics: Mean, spread, interval and difference under the names of the vocabulary.
        title: The row as a table prints it.
        texts: Its numbers in words, by their heading.
        repeats: Its repeats.
        tuned: Settings that it was tuned to.
    """

    key: str
    metrics: Mapping[str, float]
    title: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    repeats: Sequence[SummaryRepeat] = ()
    tuned: Mapping[str, Any] = field(default_factory=dict)
