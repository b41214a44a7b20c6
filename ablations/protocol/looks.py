"""This module defines the record of a look: the state of a study's results when somebody saw what they say.

A report is a look, and so is each step of `run --until-decided`. Looking twice at the same results is one look, as
nothing can be learned from the second one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Look:
    """A look at the results of a study.

    Attributes:
        digest: Digest of the results that it saw: two looks with the same one saw the same.
        when: Seconds since 1970, by the clock of the machine.
        seeds: The number of seeds that the study's plan asked for.
        finished: Number of the study's cells that had a result, of so many `planned`.
        scale: Digest of preset, data set and overrides (`Request.scale`): at another scale it is another study's look.
    """

    study: str
    digest: str
    when: float
    seeds: int
    finished: int
    planned: int
    scale: str = ""

    @property
    def is_complete(self) -> bool:
        """True if every planned cell had its result."""
        return self.finished >= self.planned

    def as_mapping(self) -> dict[str, Any]:
        """Return the look as plain data."""
        return dict(vars(self))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Look:
        """Return the look of which `as_mapping` made the values.

        Raises:
            TypeError, KeyError, ValueError: If the values are no look.
        """
        when = float(values["when"])
        # Records are read back from places where anyone may have edited them.
        if not math.isfinite(when):
            raise ValueError(f"a look at {when} cannot be")
        return cls(
            study=str(values["study"]),
            digest=str(values["digest"]),
            when=when,
            seeds=int(values["seeds"]),
            finished=int(values["finished"]),
            planned=int(values["planned"]),
            scale=str(values.get("scale", "")),
        )


def in_order(looks: Iterable[Look]) -> tuple[Look, ...]:
    """Return looks by their time, each state of a study's results once: its first look counts."""
    first_looks: dict[tuple[str, str, str], Look] = {}
    # Study and digest decide between equal times, so that two stores with the same looks list them alike.
    for look in sorted(looks, key=lambda look: (look.when, look.study, look.digest)):
        first_looks.setdefault((look.study, look.scale, look.digest), look)
    return tuple(first_looks.values())
