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
        slot: Its slot.
        values: The proposed values, by factor.
        top1: Accuracy by which it came to the front: the highest of many, and so likely flattered.
        multiply_adds: Its cost.
        parameters: Number of parameters of the network.
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
        return estimate(self.repeats) if self.repeats else None


def front_of(results: SearchResults) -> list[FrontMember]:
    """Return the trials that no other beats in accuracy and multiply-adds, the cheapest first."""
    rows = results.complete
    points = list(zip(rows["top1"], rows["multiply_adds"], strict=True))
    chosen = rows.iloc[pareto_front(points)]
    return [
        FrontMember(
            slot=int(slot),
            values=values,
            top1=float(top1),
            multiply_adds=float(cost),
            parameters=float(parameters),
            repeats=_repeats(results.trials, int(slot)),
        )
        for slot, values, top1, cost, parameters in zip(
            chosen["slot"],
            results.values(chosen),
            chosen["top1"],
            chosen["multiply_adds"],
            chosen["parameters"],
            strict=True,
        )
    ]


def _repeats(trials: pd.DataFrame, slot: int) -> tuple[float, ...]:
    rows = trials[(trials["slot"] == slot) & (trials["repeat"] > 0)].dropna(subset=["top1"]).sort_values("repeat")
    return tuple(float(value) for value in rows["top1"])


def still_in_front(front: Sequence[FrontMember]) -> list[bool]:
    """Return for each member True if no other beats it by the means over repeats; without repeats, always True."""
    # A member without repeats keeps the accuracy that brought it to the front.
    points = [(member.estimate.mean if member.estimate is not None else member.top1) for member in front]
    costs = [member.multiply_adds for member in front]
    in_front = set(pareto_front(list(zip(points, costs, strict=True))))
    return [index in in_front for index in range(len(front))]
