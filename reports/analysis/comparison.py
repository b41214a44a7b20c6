"""This module compares a study on two sides: it matches their rows and runs and returns the differences. Pure.

`reports.collect.compared_runs` reads a side; `reports.document.comparison_report` makes the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablations.errors import ReportError
from reports.analysis.differences import difference as difference_of_rows
from reports.analysis.statistics import Estimate, paired_difference, paired_differences, unknown, unpaired_difference
from reports.collect.compared_study import ComparedRow, ComparedSide

PAIRED, UNPAIRED, SAME, SHARED = "paired", "unpaired", "same runs", "share runs"
"""The ways in which two rows are compared."""


@dataclass(frozen=True)
class MatchedRow:
    """A row by its name on either side, empty where it is not there."""

    left: str
    right: str


def match_rows(left: ComparedSide, right: ComparedSide, matched: Mapping[str, str]) -> tuple[MatchedRow, ...]:
    """Return the rows of both sides, matched by name or as `matched` says.

    Raises:
        ReportError: If a row that is matched is not there.
    """
    for side, names in ((left, matched.keys()), (right, matched.values())):
        for name in names:
            if name not in side.rows:
                raise ReportError(f"{side.study} has no row {name!r}. It has {', '.join(side.rows)}.")
    rows = []
    unmatched = dict.fromkeys(right.rows)
    for name in left.rows:
        partner = matched.get(name, "")
        # A row that is matched with another name does not also stand beside the row of its own name.
        if not partner and name in right.rows and name not in matched.values():
            partner = name
        rows.append(MatchedRow(name, partner))
        unmatched.pop(partner, None)
    for name in unmatched:
        rows.append(MatchedRow("", name))
    return tuple(rows)


def difference(left: ComparedRow, right: ComparedRow) -> tuple[Estimate, str]:
    """Return right minus left with its interval, and the way of comparison; no mean where they cannot be compared."""
    comparison = way_of_comparison(left, right)
    if comparison in (SAME, SHARED) or not (left.complete and right.complete):
        return unknown(min(len(left.values), len(right.values))), comparison
    return _apart(left.values, right.values, paired=comparison == PAIRED), comparison


def _apart(left: Mapping[int, float], right: Mapping[int, float], *, paired: bool) -> Estimate:
    if paired:
        return paired_difference(right, left)
    return unpaired_difference(tuple(right.values()), tuple(left.values()))


def way_of_comparison(left: ComparedRow, right: ComparedRow) -> str:
    """Return the way to compare two rows: the same runs, some shared, the same trainings by seed, or none of these."""
    if left.has_runs_of(right) or right.has_runs_of(left):
        return SAME
    # A run on both sides makes them dependent, which no interval here allows for.
    if set(left.run_ids.values()) & set(right.run_ids.values()):
        return SHARED
    # Equal fingerprints at every seed are the same trainings made twice, so that their seeds pair them.
    if left.fingerprints == right.fingerprints:
        return PAIRED
    return UNPAIRED


def effects(left: ComparedSide, right: ComparedSide, row: MatchedRow) -> tuple[Estimate, Estimate, Estimate] | None:
    """Return a row's difference to its side's reference on the left, on the right, and right minus left.

    `None` where a side has no such row or reference, where a repeat is missing, for a reference itself, and where both
    sides are the same runs.
    """
    if not (row.left and row.right) or row.left in left.references or row.right in right.references:
        return None
    left_row, right_row = left.rows[row.left], right.rows[row.right]
    left_reference, right_reference = _reference(left, row.left), _reference(right, row.right)
    if left_reference is None or right_reference is None:
        return None
    if not (left_row.complete and right_row.complete and left_reference.complete and right_reference.complete):
        return None
    # Effects are paired only if the rows and their references are; one shared run makes the sides dependent.
    kinds = {way_of_comparison(left_row, right_row), way_of_comparison(left_reference, right_reference)}
    left_effect = paired_differences(left_row.values, left_reference.values)
    right_effect = paired_differences(right_row.values, right_reference.values)
    if kinds & {SAME, SHARED} or not left_effect or not right_effect:
        return None
    side_difference = _apart(left_effect, right_effect, paired=kinds == {PAIRED})
    return _effect(left, row.left, left_reference), _effect(right, row.right, right_reference), side_difference


def _effect(side: ComparedSide, key: str, reference: ComparedRow) -> Estimate:
    """Return a row's difference to its reference, whose spread the side's table shares if all of it is trainings."""
    table = [row for name, row in side.rows.items() if _network(name) == _network(key)]
    # A run that is no training evaluates a checkpoint, and such rows move together: their spreads say nothing of each
    # other.
    if any(len(row.checkpoints) < len(row.runs) for row in table):
        table = []
    return difference_of_rows((side.rows[key],), (reference,), side.metric, table=table)


def _reference(side: ComparedSide, key: str) -> ComparedRow | None:
    """Return the reference that a row is held against: that of its own network."""
    for name in side.references:
        if _network(name) == _network(key):
            return side.rows[name]
    return None


def _network(key: str) -> str:
    """Return the inspected network in front of a row's name, or nothing."""
    return key.rpartition(": ")[0]
