"""This module builds the tables and figures of a search: its front with repeats, and the importance of its factors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from ablations.vocabulary import slug
from reports.analysis.importance import METHODS, Importance
from reports.analysis.search_front import FrontMember, still_in_front
from reports.collect.search import SearchResults
from reports.content.blocks import Column, Figure, Missing, Note, Number, Table, TableCell, Text
from reports.content.formatting import number
from reports.tables.cells import TableRow, columns_of, text_cells, value_words

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
    rows = []
    for member, is_kept in zip(front, in_front, strict=True):
        rows.append(_front_row(results, member, is_kept))
    notes = []
    # A note explains a mark, so that there is one only if some row has the mark.
    if not all(in_front):
        notes.append(Note(_BEATEN_NOTE, BEATEN))
    return Table(
        title="Pareto front",
        caption=(
            f"Of {len(results.complete)} trials those that no other beats in {_ACCURACY} and multiply-adds. “Found” is "
            "the accuracy that brought a trial here, the best of many and so likely too high; “again” is mean and 95 % "
            "interval over further seeds alone."
        ),
        columns=(
            *columns_of("mark", *map(_heading, results.search.factors)),
            *columns_of("number", "multiply-adds (M)", "parameters (M)", "found", "again"),
            *columns_of("mark", "95 % interval", "seeds"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _front_row(results: SearchResults, member: FrontMember, is_kept: bool) -> TableRow:
    # In the order of the columns, which is that of the search, not of the proposal.
    values = [value_words(member.values[name]) for name in results.search.factors]
    return (
        *text_cells(*values),
        Number(member.multiply_adds / _MILLION),
        Number(member.parameters / _MILLION),
        Number(member.top1),
        *_repeated(member, is_kept),
        Text(str(len(member.repeats))),
    )


def _repeated(member: FrontMember, is_kept: bool) -> tuple[TableCell, TableCell]:
    """Return the mean over repeats and its interval; the mean is marked where another member beats it."""
    estimate = member.estimate
    if estimate is None:
        return Missing("not repeated"), Text("–")
    marks = () if is_kept else (BEATEN,)
    interval = "–"
    if estimate.has_interval:
        interval = f"{number(estimate.low)} to {number(estimate.high)}"
    return Number(estimate.mean, marks=marks), Text(interval)


def importance_table(results: SearchResults, importances: Sequence[Importance]) -> Table:
    """Return the share of importance of each factor by both methods, with interval and the level of chance."""
    by_factor_and_method = {(importance.factor, importance.method): importance for importance in importances}
    rows = []
    notes: tuple[Note, ...] = ()
    for name in results.search.factors:
        cells = [Text(_heading(name))]
        for method in METHODS:
            importance = by_factor_and_method[name, method]
            marks: tuple[str, ...] = ()
            if importance.is_beyond_chance:
                marks = (BEYOND,)
                # The note explains a mark, and is there only with one.
                notes = (Note(_BEYOND_NOTE, BEYOND),)
            cells += [
                Text(f"{importance.value:.2f}", marks),
                Text(f"{importance.low:.2f} to {importance.high:.2f}"),
                Text(f"{importance.chance:.2f}"),
            ]
        rows.append(tuple(cells))
    columns = [Column("factor")]
    for method in METHODS:
        columns += columns_of("mark", "share", "interval", "chance", group=method)
    return Table(
        title="What decides about accuracy",
        caption=(
            f"Share of the importance of all factors, from {len(results.complete)} trials. Interval: 95 %, over "
            "resampled trials and seeds of the method. Chance: what 95 of 100 shuffled searches stay below."
        ),
        columns=tuple(columns),
        rows=tuple(rows),
        notes=notes,
    )


def pareto_data(results: SearchResults, front: Sequence[FrontMember]) -> pd.DataFrame:
    """Return every complete trial: `PARETO_COLUMNS`; mean and interval over repeats for members of the front."""
    members = {member.slot: member for member in front}
    rows = []
    complete = results.complete
    for slot, top1, cost in zip(complete["slot"], complete["top1"], complete["multiply_adds"], strict=True):
        member = members.get(int(slot))
        # Outside the front a trial is shown without a mean, repeated or not.
        mean = low = high = math.nan
        if member is not None and member.estimate is not None:
            mean, low, high = member.estimate.mean, member.estimate.low, member.estimate.high
        rows.append((int(slot), top1, cost, member is not None, mean, low, high))
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
    data = pd.DataFrame(map(vars, importances), columns=list(IMPORTANCE_COLUMNS))
    return data.assign(factor=data["factor"].map(_heading))


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
