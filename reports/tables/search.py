"""This module builds the tables and figures of a search: its front with repeats, and the importance of its factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ablations.vocabulary import slug
from reports.analysis.importance import METHODS, Importance
from reports.analysis.search_front import FrontMember, still_in_front
from reports.collect.search import SearchResults
from reports.content.blocks import Cell, Column, Figure, Missing, Note, Number, Table, Text
from reports.content.formatting import number

PARETO_COLUMNS = ("slot", "top1", "multiply_adds", "in_front", "mean", "low", "high")
IMPORTANCE_COLUMNS = ("factor", "method", "value", "low", "high", "chance")

BEATEN, BEYOND = "a", "*"
_BEATEN_NOTE = "By the means over repeats another one is at least as accurate and costs no more."
_BEYOND_NOTE = "More than 95 of 100 searches give in which the accuracies are shuffled, so that nothing matters."
_ACCURACY = "validation top-1 accuracy (%)"
_MILLION = 1e6


def front_table(results: SearchResults, front: Sequence[FrontMember]) -> Table:
    """Return the trials that no other beats, with their proposed values and the accuracy of their repeats."""
    in_front = still_in_front(front)
    any_beaten = any(not is_in_front for is_in_front in in_front)
    rows = [_front_row(results, member, is_in_front) for member, is_in_front in zip(front, in_front, strict=True)]
    return Table(
        title="Pareto front",
        caption=(
            f"Of {len(results.complete)} trials those that no other beats in {_ACCURACY} and multiply-adds. “Found” is "
            "the accuracy that brought a trial here, the best of many and so likely too high; “again” is mean and 95 % "
            "interval over further seeds alone."
        ),
        columns=(
            *(Column(_heading(name), "mark") for name in results.search.factors),
            Column("multiply-adds (M)", "number"),
            Column("parameters (M)", "number"),
            Column("found", "number"),
            Column("again", "number"),
            Column("95 % interval", "mark"),
            Column("seeds", "mark"),
        ),
        rows=tuple(rows),
        notes=(Note(_BEATEN_NOTE, BEATEN),) if any_beaten else (),
    )


def _front_row(results: SearchResults, member: FrontMember, is_kept: bool) -> tuple[Cell, ...]:
    mean_cell, interval = _again(member, is_kept)
    return (
        *(Text(value_words(member.values[name])) for name in results.search.factors),
        Number(member.multiply_adds / _MILLION),
        Number(member.parameters / _MILLION),
        Number(member.top1),
        mean_cell,
        interval,
        Text(str(len(member.repeats))),
    )


def _again(member: FrontMember, is_kept: bool) -> tuple[Cell, Cell]:
    estimate = member.estimate
    if estimate is None:
        return Missing("not repeated"), Text("–")
    ends = f"{number(estimate.low)} to {number(estimate.high)}" if estimate.has_interval else "–"
    return Number(estimate.mean, marks=() if is_kept else (BEATEN,)), Text(ends)


def importance_table(results: SearchResults, importances: Sequence[Importance]) -> Table:
    """Return the share of importance of each factor by both methods, with interval and the level of chance."""
    by_factor_and_method = {(importance.factor, importance.method): importance for importance in importances}
    rows = []
    for name in results.search.factors:
        cells: list[Cell] = [Text(_heading(name))]
        for method in METHODS:
            importance = by_factor_and_method[name, method]
            marks = (BEYOND,) if importance.is_beyond_chance else ()
            cells += [
                Text(f"{importance.value:.2f}", marks),
                Text(f"{importance.low:.2f} to {importance.high:.2f}"),
                Text(f"{importance.chance:.2f}"),
            ]
        rows.append(tuple(cells))
    any_marked = any(importance.is_beyond_chance for importance in importances)
    return Table(
        title="What decides about accuracy",
        caption=(
            f"Share of the importance of all factors, from {len(results.complete)} trials. Interval: 95 %, over "
            "resampled trials and seeds of the method. Chance: what 95 of 100 shuffled searches stay below."
        ),
        columns=(
            Column("factor"),
            *(Column(heading, "mark", method) for method in METHODS for heading in ("share", "interval", "chance")),
        ),
        rows=tuple(rows),
        notes=(Note(_BEYOND_NOTE, BEYOND),) if any_marked else (),
    )


def pareto_data(results: SearchResults, front: Sequence[FrontMember]) -> pd.DataFrame:
    """Return every complete trial: `PARETO_COLUMNS`; mean and interval over repeats for members of the front."""
    members = {member.slot: member for member in front}
    rows = []
    complete = results.complete
    for slot, top1, cost in zip(complete["slot"], complete["top1"], complete["multiply_adds"], strict=True):
        member = members.get(int(slot))
        estimate = member.estimate if member is not None else None
        # Outside the front a trial is shown without a mean, repeated or not.
        ends = (estimate.mean, estimate.low, estimate.high) if estimate is not None else (float("nan"),) * 3
        rows.append((int(slot), top1, cost, member is not None, *ends))
    return pd.DataFrame(rows, columns=list(PARETO_COLUMNS))


def pareto_figure(results: SearchResults, front: Sequence[FrontMember]) -> Figure:
    """Return the figure of all trials and the front."""
    return Figure(
        name=f"search-{slug(results.search.name)}-pareto",
        kind="pareto",
        data=pareto_data(results, front),
        title="Accuracy against cost",
        caption=(
            "Each grey point is one trial; the line joins those that no other beats. Filled points with bars are their "
            "mean and 95 % interval over further seeds. Multiply-adds on a logarithmic scale."
        ),
        alt=f"{len(results.complete)} trials, {len(front)} of them in the front; its table has the numbers.",
        axis=_ACCURACY,
    )


def importance_data(importances: Sequence[Importance]) -> pd.DataFrame:
    """Return the importances: `IMPORTANCE_COLUMNS`."""
    rows = [
        (
            _heading(importance.factor),
            importance.method,
            importance.value,
            importance.low,
            importance.high,
            importance.chance,
        )
        for importance in importances
    ]
    return pd.DataFrame(rows, columns=list(IMPORTANCE_COLUMNS))


def importance_figure(results: SearchResults, importances: Sequence[Importance]) -> Figure:
    """Return the figure of the importances."""
    return Figure(
        name=f"search-{slug(results.search.name)}-importance",
        kind="importance",
        data=importance_data(importances),
        title="What decides about accuracy",
        caption=(
            "Share of the importance of all factors: point and 95 % interval over resampled trials. The tick is what "
            "95 of 100 shuffled searches stay below."
        ),
        alt="The table of importances has the same numbers.",
        axis="share of importance",
    )


def _heading(name: str) -> str:
    """Return a factor's name without the group of its setting, as a reader of a table knows it."""
    return name.rpartition(".")[2].replace("_", " ")


def value_words(value: Any) -> str:
    """Return a proposed value in four significant digits, or as it is if it is no float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
