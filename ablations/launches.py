"""This module defines the record of a launch, with its estimated and its actual time, and prints lengths of time.

It computes from its arguments alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ENDLESS = 1e11
"""Seconds beyond which no time makes sense, be it a length or since 1970."""

_MOST_JOULES = 1e18


@dataclass(frozen=True)
class Range:
    """Seconds: a likely number between a low and a high one."""

    low: float
    likely: float
    high: float

    def scaled(self, factor: float) -> Range:
        """Return the range times a factor."""
        return Range(self.low * factor, self.likely * factor, self.high * factor)


@dataclass(frozen=True)
class Record:
    """A launch with its estimated and its actual time.

    Attributes:
        began: Its start in seconds since 1970.
        nodes: Number of trainings, evaluations and counts that it carried out.
        workers: Number of these at once.
        estimated: Seconds, or `None` if there was no estimate.
        actual: Seconds.
        raw: The likely seconds before they were corrected by earlier launches; later launches learn from these.
        is_learned: Whether `raw` was computed from whole trainings; an estimate from a few steps errs in other ways.
        is_whole: Whether it ended as planned, neither failed nor stopped, so that both times are about the same work.
        energy: Joules that the machine counted meanwhile, of other work too; `None` if it does not tell them.
        energy_of: The parts of the machine that were counted: `processors`, `GPUs`, `processors and GPUs`.
    """

    launch: str
    began: float
    studies: tuple[str, ...]
    nodes: int
    workers: int
    estimated: Range | None
    actual: float
    raw: float = 0.0
    is_whole: bool = True
    is_learned: bool = False
    energy: float | None = None
    energy_of: str = ""

    @property
    def ratio(self) -> float:
        """Actual over estimated time; NaN where there is no such ratio."""
        if self.estimated is None or not self.is_whole:
            return math.nan
        return self.actual / self.estimated.likely

    def as_mapping(self) -> dict[str, Any]:
        """Return the record as plain data."""
        estimated = [self.estimated.low, self.estimated.likely, self.estimated.high] if self.estimated else None
        values = {**vars(self), "studies": list(self.studies), "estimated": estimated}
        if self.energy is None:
            # Left out, so that records of machines without it keep their layout.
            del values["energy"], values["energy_of"]
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Record:
        """Return the record of which `as_mapping` made the values.

        Raises:
            TypeError, KeyError, ValueError: If the values are no record.
        """
        estimated, energy = values.get("estimated"), values.get("energy")
        record = cls(
            launch=str(values["launch"]),
            began=float(values["began"]),
            studies=tuple(map(str, values["studies"])),
            nodes=int(values["nodes"]),
            workers=int(values["workers"]),
            estimated=Range(*map(float, estimated)) if estimated else None,
            actual=float(values["actual"]),
            raw=float(values["raw"]),
            is_whole=bool(values["is_whole"]),
            is_learned=bool(values["is_learned"]),
            energy=None if energy is None else float(energy),
            energy_of=str(values.get("energy_of", "")),
        )
        # Records are read back from places where anyone may have edited them.
        ends = vars(record.estimated).values() if record.estimated else ()
        if not all(0 <= seconds < _ENDLESS for seconds in (record.began, record.actual, record.raw, *ends)):
            raise ValueError(f"launch {record.launch!r} has a time that cannot be")
        if not 0 <= (record.energy or 0) < _MOST_JOULES:
            raise ValueError(f"launch {record.launch!r} has an energy that cannot be")
        return record


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def duration(seconds: float) -> str:
    """Return a length of time with about two digits: `0.4 s`, `45 s`, `12 min`, `3 h 20 min`, `9 days`."""
    # Each bound is where rounding would give a third digit: 9.95 s would print as 10.0 s, 99.5 min as 100 min.
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 9.92 * _HOUR:
        hours, minutes = divmod(round(seconds / _MINUTE / 10) * 10, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds / _HOUR:.0f} h" if seconds < 3 * _DAY else f"{seconds / _DAY:.0f} days"


def measured_duration(seconds: float) -> str:
    """Return a measured length of time in its two largest units: `42 s`, `3 min 05 s`, `2 h 10 min`.

    Reports add such times up, where the two digits of `duration` would look like an error in the sum.
    """
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    minutes, remainder = divmod(total, 60)
    if minutes < 60:
        return f"{minutes} min {remainder:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def range_words(seconds: Range) -> str:
    """Return a range as `12 min (9 min to 16 min)`."""
    return f"{duration(seconds.likely)} ({duration(seconds.low)} to {duration(seconds.high)})"
