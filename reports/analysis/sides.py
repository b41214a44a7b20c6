"""This module compares two sides: it pairs their rows and runs and returns the differences. Pure.

How a side is read is in `reports.collect.side`; the document is made in `reports.document.comparison_report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.errors import ReportError
from reports.analysis.differences import difference as difference_of_rows
from reports.analysis.statistics import Estimate, paired_difference, paired_differences, unknown, unpaired_difference

if TYPE_CHECKING:
    from reports.collect.side_results import Side, SideRow

PAIRED, UNPAIRED, SAME, SHARED = "paired", "unpaired", "same runs", "share runs"
"""The ways in which two rows are compared."""


@dataclass(frozen=True)
class Pair:
    """A row on both sides.

    Attributes:
        left: Its name on the left, empty if it is not there.
        right: Its name on the right, empty if it is not there.
    """

    left: str
    right: str


def pair_up(left: Side, right: Side, matched: Mapping[str, str]) -> tuple[Pair, ...]:
    """Return the rows of both sides in pairs: those of one name, and those that are matched.

    Raises:
        ReportError: If a row that is matched is not there.
    """
    for name, side in (*((key, left) for key in matched), *((key, right) for key in matched.values())):
        if name not in side.rows:
            raise ReportError(f"{side.study} has no row {name!r}. It has {', '.join(side.rows)}.")
    matched_names = set(matched.values())
    pairs = []
    for key in left.rows:
        # A row that another one is matched with does not also stand beside the row of its own name.
        partner = matched.get(key, key if key in right.rows and key not in matched_names else "")
        pairs.append(Pair(key, partner))
    right_names = {pair.right for pair in pairs}
    return (*pairs, *(Pair("", key) for key in right.rows if key not in right_names))


def difference(left: SideRow, right: SideRow) -> tuple[Estimate, str]:
    """Return right minus left with its interval, and the way of comparison; no mean where they cannot be compared."""
    comparison = how_compared(left, right)
    if comparison in (SAME, SHARED) or not (left.complete and right.complete):
        return unknown(min(len(left.values), len(right.values))), comparison
    return _apart(left.values, right.values, comparison), comparison


def _apart(left: Mapping[int, float], right: Mapping[int, float], how: str) -> Estimate:
    if how == PAIRED:
        return paired_difference(right, left)
    return unpaired_difference(tuple(right.values()), tuple(left.values()))


def how_compared(left: SideRow, right: SideRow) -> str:
    """Return the way to compare two rows: the same runs, some shared, the same trainings by seed, or none of these."""
    left_runs, right_runs = ({seed: run.run_id for seed, run in row.repeats.items()} for row in (left, right))
    if left_runs == right_runs:
        return SAME
    # A run on both sides makes them dependent, which no interval here allows for.
    if set(left_runs.values()) & set(right_runs.values()):
        return SHARED
    fingerprints = [{seed: run.fingerprint for seed, run in row.repeats.items()} for row in (left, right)]
    # Equal fingerprints at every seed are the same trainings made twice, so that their seeds pair them.
    return PAIRED if fingerprints[0] == fingerprints[1] else UNPAIRED


def effects(left: Side, right: Side, pair: Pair) -> tuple[Estimate, Estimate, Estimate] | None:
    """Return a row's difference to its side's reference on the left, on the right, and right minus left.

    `None` where a side has no such row or reference, where a repeat is missing, for a reference itself, and where both
    sides are the same runs.
    """
    if not (pair.left and pair.right) or pair.left in left.references or pair.right in right.references:
        return None
    left_row, right_row = left.rows[pair.left], right.rows[pair.right]
    left_reference, right_reference = _reference(left, pair.left), _reference(right, pair.right)
    if (
        left_reference is None
        or right_reference is None
        or not all(some_row.complete for some_row in (left_row, right_row, left_reference, right_reference))
    ):
        return None
    # Effects are paired only if the rows and their references are; one shared run makes the sides dependent.
    kinds = {how_compared(left_row, right_row), how_compared(left_reference, right_reference)}
    left_effect, right_effect = (
        paired_differences(left_row.values, left_reference.values),
        paired_differences(right_row.values, right_reference.values),
    )
    if kinds & {SAME, SHARED} or not left_effect or not right_effect:
        return None
    side_difference = _apart(left_effect, right_effect, PAIRED if kinds == {PAIRED} else UNPAIRED)
    return _effect(left, pair.left, left_reference), _effect(right, pair.right, right_reference), side_difference


def _effect(side: Side, key: str, reference: SideRow) -> Estimate:
    """Return a row's difference to its reference, whose spread the side's table shares if all of it is trainings."""
    network = key.rpartition(": ")[0]
    table = [row for name, row in side.rows.items() if name.rpartition(": ")[0] == network]
    # Evaluations of one checkpoint move together, so that their spreads say nothing of each other.
    if any(run.kind != "trial" for row in table for run in row.repeats.values()):
        table = []
    return difference_of_rows((side.rows[key],), (reference,), side.metric, table=table)


def _reference(side: Side, key: str) -> SideRow | None:
    """Return the reference that a row is held against: that of its own network."""
    network = key.rpartition(": ")[0]
    return next((side.rows[name] for name in side.references if name.rpartition(": ")[0] == network), None)
