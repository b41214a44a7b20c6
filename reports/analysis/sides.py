"""Two sides of a comparison: their rows and runs, which rows stand beside each other, their differences. Pure.

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
"""How two rows are compared."""


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
    """Returns the rows of both sides, those of one name and those that are matched beside each other.

    Raises:
        ReportError: If a row that is matched is not there.
    """
    for name, side in (*((key, left) for key in matched), *((key, right) for key in matched.values())):
        if name not in side.rows:
            raise ReportError(f"{side.study} has no row {name!r}. It has {', '.join(side.rows)}.")
    taken = set(matched.values())
    pairs = []
    for key in left.rows:
        other = matched.get(key, key if key in right.rows and key not in taken else "")
        pairs.append(Pair(key, other))
    there = {pair.right for pair in pairs}
    return (*pairs, *(Pair("", key) for key in right.rows if key not in there))


def difference(left: SideRow, right: SideRow) -> tuple[Estimate, str]:
    """Returns right minus left with its interval and how they were compared; no mean where they cannot be."""
    how = how_compared(left, right)
    if how in (SAME, SHARED) or not (left.complete and right.complete):
        return unknown(min(len(left.values), len(right.values))), how
    return _apart(left.values, right.values, how), how


def _apart(left: Mapping[int, float], right: Mapping[int, float], how: str) -> Estimate:
    if how == PAIRED:
        return paired_difference(right, left)
    return unpaired_difference(tuple(right.values()), tuple(left.values()))


def how_compared(left: SideRow, right: SideRow) -> str:
    """Returns whether two rows are the same runs, share some, are the same trainings seed by seed, or none of that."""
    one, other = ({seed: run.run_id for seed, run in row.repeats.items()} for row in (left, right))
    if one == other:
        return SAME
    if set(one.values()) & set(other.values()):
        return SHARED
    fingerprints = [{seed: run.fingerprint for seed, run in row.repeats.items()} for row in (left, right)]
    return PAIRED if fingerprints[0] == fingerprints[1] else UNPAIRED


def effects(left: Side, right: Side, pair: Pair) -> tuple[Estimate, Estimate, Estimate] | None:
    """Returns a row's difference to its side's reference on the left, on the right, and right minus left.

    `None` where a side has no such row or reference, where a repeat is missing, for a reference itself, and where both
    sides are the same runs.
    """
    if not (pair.left and pair.right) or pair.left in left.references or pair.right in right.references:
        return None
    row, other = left.rows[pair.left], right.rows[pair.right]
    first, second = _reference(left, pair.left), _reference(right, pair.right)
    if first is None or second is None or not all(each.complete for each in (row, other, first, second)):
        return None
    kinds = {how_compared(row, other), how_compared(first, second)}
    one, two = paired_differences(row.values, first.values), paired_differences(other.values, second.values)
    if kinds & {SAME, SHARED} or not one or not two:
        return None
    apart = _apart(one, two, PAIRED if kinds == {PAIRED} else UNPAIRED)
    return _effect(left, pair.left, first), _effect(right, pair.right, second), apart


def _effect(side: Side, key: str, reference: SideRow) -> Estimate:
    """Return a row's difference to its reference, whose spread the side's table shares if all of it is trainings."""
    network = key.rpartition(": ")[0]
    table = [row for name, row in side.rows.items() if name.rpartition(": ")[0] == network]
    if any(run.kind != "trial" for row in table for run in row.repeats.values()):
        table = []
    return difference_of_rows((side.rows[key],), (reference,), side.metric, table=table)


def _reference(side: Side, key: str) -> SideRow | None:
    """Returns the reference that a row is held against: that of its own network."""
    network = key.rpartition(": ")[0]
    return next((side.rows[name] for name in side.references if name.rpartition(": ")[0] == network), None)
