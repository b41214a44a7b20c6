"""This module computes the front of a search and the means over its repeats from the table of its trials. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations.planning.search import pareto_front
from reports.analysis.statistics import Estimate, estimate
from reports.collect.search import SearchResults


@dataclass(frozen=True)
class FrontMember:
    """One of the best trials of a search.

    Attributes:
        top1: Accuracy by which it came to the front: the highest of many, and so likely flattered.
        repeats: Accuracy under other seeds, by repeat.
    """

    slot: int
    values: Mapping[str, Any]
    top1: float
    multiply_adds: float
    parameters: float
    repeats: tuple[float, ...]

    @property
    def estimate(self) -> Estimate | None:
        """Mean and interval over the repeats alone, or `None` without any."""
        if not self.repeats:
            return None
        return estimate(self.repeats)


def front_of(results: SearchResults) -> list[FrontMember]:
    """Return the trials that no other beats in accuracy and multiply-adds, the cheapest first."""
    rows = results.complete
    points = list(zip(rows["top1"], rows["multiply_adds"], strict=True))
    chosen = rows.iloc[pareto_front(points)]
    measured = chosen[["slot", "top1", "multiply_adds", "parameters"]].itertuples(index=False, name=None)
    front = []
    for (slot, top1, cost, parameters), values in zip(measured, results.values(chosen), strict=True):
        repeats = _repeats(results.trials, int(slot))
        front.append(FrontMember(int(slot), values, float(top1), float(cost), float(parameters), repeats))
    return front


def _repeats(trials: pd.DataFrame, slot: int) -> tuple[float, ...]:
    rows = trials[(trials["slot"] == slot) & (trials["repeat"] > 0)].dropna(subset=["top1"]).sort_values("repeat")
    return tuple(map(float, rows["top1"]))


def still_in_front(front: Sequence[FrontMember]) -> list[bool]:
    """Return for each member True if no other beats it by the means over repeats; without repeats, always True."""
    points = []
    for member in front:
        # A member without repeats keeps the accuracy that brought it to the front.
        accuracy = member.top1
        if member.estimate is not None:
            accuracy = member.estimate.mean
        points.append((accuracy, member.multiply_adds))
    in_front = set(pareto_front(points))
    return [index in in_front for index in range(len(front))]
