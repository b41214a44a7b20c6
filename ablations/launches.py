"""The record of a launch: what was estimated of it and what it took, and words for lengths of time. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ENDLESS = 1e11
"""Seconds beyond which no time makes sense, be it a length or since 1970."""


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
    """A launch: what was estimated of it and what it took.

    Attributes:
        launch: Names it.
        began: In seconds since 1970.
        studies: What it was for.
        nodes: How many trainings, evaluations and counts it carried out.
        workers: How many at once.
        estimated: Seconds, or `None` if nothing could be said.
        actual: Seconds.
        raw: The likely seconds before earlier launches were heeded, from which later ones learn.
        is_learned: Whether that was computed from whole trainings; a few steps err in other ways.
        is_whole: Whether it ended as planned: neither failed nor stopped, so that both times are about the same work.
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

    @property
    def ratio(self) -> float:
        """Actual over estimated time; NaN where there is no such ratio."""
        return self.actual / self.estimated.likely if self.estimated and self.is_whole else math.nan

    def as_mapping(self) -> dict[str, Any]:
        """Return the record as plain data."""
        estimated = [self.estimated.low, self.estimated.likely, self.estimated.high] if self.estimated else None
        return {**vars(self), "studies": list(self.studies), "estimated": estimated}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Record:
        """Return the record that `as_mapping` gave.

        Raises:
            TypeError, KeyError, ValueError: If it is none.
        """
        estimated = values.get("estimated")
        found = cls(
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
        )
        ends = vars(found.estimated).values() if found.estimated else ()
        if not all(0 <= seconds < _ENDLESS for seconds in (found.began, found.actual, found.raw, *ends)):
            raise ValueError(f"launch {found.launch!r} has a time that cannot be")
        return found


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def duration(seconds: float) -> str:
    """Return a length of time with about two digits: `0.4 s`, `45 s`, `12 min`, `3 h 20 min`, `9 days`."""
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


def range_words(seconds: Range) -> str:
    """Return a range as `12 min (9 min to 16 min)`."""
    return f"{duration(seconds.likely)} ({duration(seconds.low)} to {duration(seconds.high)})"
