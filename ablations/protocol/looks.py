"""This module defines the record of a look: the state of the results when somebody saw what they say of the claims.

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
    """A look at the results of a plan.

    Attributes:
        digest: Digest of the runs that it saw: two looks with the same one saw the same.
        when: Seconds since 1970, by the clock of the machine.
        seeds: The number of seeds that each study of the plan asked for.
        finished: Number of the cells that had a result, of so many `planned`.
    """

    digest: str
    when: float
    seeds: Mapping[str, int]
    finished: int
    planned: int

    @property
    def is_complete(self) -> bool:
        """True if every planned cell had its result."""
        return self.finished >= self.planned

    def as_mapping(self) -> dict[str, Any]:
        """Return the look as plain data."""
        return {**vars(self), "seeds": dict(self.seeds)}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Look:
        """Return the look of which `as_mapping` made the values.

        Raises:
            TypeError, KeyError, ValueError: If the values are no look.
        """
        seeds = {str(study): int(count) for study, count in values["seeds"].items()}
        when = float(values["when"])
        # Records are read back from places where anyone may have edited them.
        if not math.isfinite(when):
            raise ValueError(f"a look at {when} cannot be")
        return cls(str(values["digest"]), when, seeds, int(values["finished"]), int(values["planned"]))


def in_order(looks: Iterable[Look]) -> tuple[Look, ...]:
    """Return looks by their time, each state of the results once: its first look counts."""
    by_digest: dict[str, Look] = {}
    for look in sorted(looks, key=lambda look: (look.when, look.digest)):
        by_digest.setdefault(look.digest, look)
    return tuple(by_digest.values())
