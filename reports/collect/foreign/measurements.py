"""This module defines measurements that were read from elsewhere, and the checks that every source makes of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ablations.errors import ResultsError
from reports.collect.correctness import Correctness

LONGEST_NAME = 200
"""Characters of a variant's name; longer ones are refused, as a study refuses them."""
LARGEST = 1e100
"""Values beyond it are no results: their squares, which every spread is made of, would not be finite."""
_LONGEST_SEED = 18
"""Digits of a seed: a longer number would not fit into 64 bits."""
_LISTED = 12

SourceKind = Literal["csv", "mlflow"]


@dataclass(frozen=True)
class Columns:
    """The names under which results hold what a study needs: columns of a file, or tags, params and metrics of runs.

    Attributes:
        metric: `None` for the only one that there is.
    """

    variant: str = "variant"
    seed: str = "seed"
    metric: str | None = None


@dataclass(frozen=True)
class Source:
    """The place that results were read from, as a report names it.

    Attributes:
        title: The name of the file, or the experiment and its store.
        digest: SHA-256 of the file's bytes; of an experiment, of what was read from it.
        ended: When the newest run ended, in milliseconds since 1970; 0 where nobody has said it.
    """

    kind: SourceKind
    title: str
    digest: str
    ended: int = 0


@dataclass(frozen=True)
class Measurement:
    """One value of the metric: a row of a file, or a run.

    Attributes:
        status: `tracked_runs.FINISHED`, or the reason why it has no value, in words.
        value: NaN unless it has finished.
        origin: The line of a file (`line 7`), or the id of a run.
        checkpoint: The network that was evaluated, if the source says it: rows with one checkpoint share it.
        correctness: The test images that were right, if the source has them.
    """

    variant: str
    seed: int
    status: str
    value: float
    origin: str
    checkpoint: str = ""
    correctness: Correctness | None = None


@dataclass(frozen=True)
class ForeignResults:
    """The measurements of a source, in its order.

    Attributes:
        metric: The name of the column or tracked metric that was read.
        columns: The names that were asked for.
        notes: Sentences about anything in the source that a reader must know.
    """

    source: Source
    columns: Columns
    metric: str
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants in the order of their first measurement."""
        return tuple(dict.fromkeys(measurement.variant for measurement in self.measurements))

    @property
    def values(self) -> tuple[float, ...]:
        """All values that there are."""
        values = [measurement.value for measurement in self.measurements]
        # NaN equals nothing, itself neither.
        return tuple(value for value in values if value == value)


def checked_variant(text: str, place: str) -> str:
    """Return the name of a variant.

    Raises:
        ResultsError: If it is empty, too long, or holds characters that cannot be shown; `place` begins the message.
    """
    name = text.strip()
    if not name:
        raise ResultsError(f"{place}: the variant has no name. Give each row one.")
    if len(name) > LONGEST_NAME:
        raise ResultsError(
            f"{place}: the name of the variant has {len(name)} characters, {LONGEST_NAME} are the most: {name[:40]!r}…"
        )
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ResultsError(
                f"{place}: the variant {name[:40]!r} holds the control character U+{ord(character):04X}."
            )
    return name


def checked_seed(text: str, place: str) -> int:
    """Return a seed: a whole number from 0 on, also as pandas writes one beside missing values, `3.0`.

    Raises:
        ResultsError: If it is none; `place` begins the message.
    """
    digits = text.strip()
    whole, point, zeros = digits.partition(".")
    if point and not zeros.strip("0"):
        digits = whole
    # `isdecimal` alone would let digits of other scripts pass, and a minus not.
    if digits.isascii() and digits.isdecimal() and len(digits) <= _LONGEST_SEED:
        return int(digits)
    raise ResultsError(
        f"{place}: the seed is {text[:40]!r}, which is no whole number from 0 on. Seeds number the repeats of a "
        "variant: equal ones are compared with each other."
    )


def no_such_name(kind: str, name: str, candidates: Sequence[str], place: str, option: str) -> ResultsError:
    """Return the error that a source has no such column, tag or metric; `option` is the one that names another."""
    listed = ", ".join(map(repr, candidates[:_LISTED])) or "none"
    if len(candidates) > _LISTED:
        listed += f" and {len(candidates) - _LISTED} more"
    return ResultsError(f"{place} has no {kind} {name!r}. It has {listed}. Name the right one with {option}.")


def the_only_metric(candidates: Mapping[str, object], place: str) -> str:
    """Return the only metric that there is.

    Raises:
        ResultsError: If there is none, or several.
    """
    names = list(candidates)
    if len(names) == 1:
        return names[0]
    if not names:
        raise ResultsError(f"{place} has no metric: no numbers beside variant and seed.")
    listed = ", ".join(map(repr, names[:_LISTED]))
    if len(names) > _LISTED:
        listed += f" and {len(names) - _LISTED} more"
    raise ResultsError(
        f"{place} has several metrics: {listed}. Say which one with --metric NAME, or metric: in a study file."
    )
