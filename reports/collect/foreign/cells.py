"""This module puts foreign measurements into the cells of a study: one repeat per variant and seed, or its absence.

Of a cell that was measured twice, equal values are one. Different values contradict each other, and nobody can tell
which counts: the cell has none then, and so its row has no mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ablations.errors import ResultsError
from ablations.foreign_study import PER_CENT, SHARE, ForeignStudy
from reports.collect.correctness import Correctness
from reports.collect.foreign.measurements import ForeignResults, Measurement
from reports.collect.results import MISSING, Repeat
from reports.collect.tracked_runs import FINISHED

_LISTED = 6
_MOST_PER_CENT = 100.0
_MANY_TIMES = 10.0
"""A value of at most 1 beside one this large may be a share among percentages."""

Cells = Mapping[str, Mapping[int, Repeat]]


@dataclass(frozen=True)
class ForeignCells:
    """The cells of a foreign study.

    Attributes:
        repeats: By variant and seed; every variant has every seed, those that were not measured as missing.
        measured: The measurement behind each cell that has one, by variant and seed.
        checkpoints: The network of each cell, by variant and seed: its own training unless the source says otherwise.
        correctness: The images that were right, by variant and seed, as far as the source has them.
        notes: Sentences that a reader must know.
    """

    repeats: Cells
    measured: Mapping[str, Mapping[int, Measurement]]
    checkpoints: Mapping[str, Mapping[int, str]]
    correctness: Mapping[str, Mapping[int, Correctness]]
    notes: tuple[str, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the study."""
        return tuple(next(iter(self.repeats.values())))

    @property
    def finished(self) -> int:
        """The number of cells that have a value."""
        return sum(repeat.finished for repeats in self.repeats.values() for repeat in repeats.values())

    @property
    def count(self) -> int:
        """The number of cells."""
        return sum(map(len, self.repeats.values()))


def cells_of(study: ForeignStudy, results: ForeignResults) -> ForeignCells:
    """Return the cells of a study.

    Raises:
        ResultsError: If a value is out of the range of its unit, or a seed that should count was never measured.
    """
    names = [variant.name for variant in study.variants]
    counted = [item for item in results.measurements if item.variant in names]
    notes = [*results.notes, *_left_out(names, results), *_spelled_alike(results)]
    measured_seeds = sorted({item.seed for item in counted})
    seeds: Sequence[int] = measured_seeds
    if study.kept_seeds:
        seeds = sorted(set(study.kept_seeds))
        _check_seeds(seeds, measured_seeds, results)
        others = [seed for seed in measured_seeds if seed not in seeds]
        if others:
            notes.append(f"The study counts seeds {_numbers(seeds)}; those of seeds {_numbers(others)} are left out.")
        counted = [item for item in counted if item.seed in seeds]
    _check_range(counted, results, study.unit)
    notes += _suspicious(counted, study.unit)
    notes += _unlike_seeds(study.reference, counted)
    grouped: dict[str, dict[int, list[Measurement]]] = {name: {seed: [] for seed in seeds} for name in names}
    for item in counted:
        grouped[item.variant][item.seed].append(item)
    repeats: dict[str, dict[int, Repeat]] = {}
    measured: dict[str, dict[int, Measurement]] = {}
    repeated: list[str] = []
    for name, by_seed in grouped.items():
        repeats[name], measured[name] = {}, {}
        for seed, items in by_seed.items():
            repeats[name][seed] = _repeat(items)
            chosen = _chosen(items)
            if chosen is not None:
                measured[name][seed] = chosen
            if repeats[name][seed].finished and len(_finished(items)) > 1:
                repeated.append(f"{name}, seed {seed}")
    if repeated:
        listed = "; ".join(repeated[:_LISTED])
        if len(repeated) > _LISTED:
            listed += f" and {len(repeated) - _LISTED} more"
        notes.append(f"Measured more than once, with the same value, which counts once: {listed}.")
    return ForeignCells(repeats, measured, _checkpoints(measured), _correctness(measured), tuple(notes))


def _left_out(names: Sequence[str], results: ForeignResults) -> Iterator[str]:
    others = [name for name in results.variants if name not in names]
    if others:
        listed = ", ".join(f"“{name}”" for name in others[:_LISTED])
        if len(others) > _LISTED:
            listed += f" and {len(others) - _LISTED} more"
        yield f"The results have variants that are not of this study, which are left out: {listed}."


def _spelled_alike(results: ForeignResults) -> Iterator[str]:
    """Yield a caution for each set of names that differ in capitals and white space alone."""
    spellings: dict[str, list[str]] = {}
    for name in results.variants:
        spellings.setdefault(" ".join(name.casefold().split()), []).append(name)
    for names in spellings.values():
        if len(names) > 1:
            listed = ", ".join(f"“{name}”" for name in names)
            yield f"These variants differ in capitals or spaces alone, and are told apart: {listed}."


def _check_seeds(seeds: Sequence[int], measured: Sequence[int], results: ForeignResults) -> None:
    for seed in seeds:
        if seed not in measured:
            raise ResultsError(
                f"the study counts seed {seed}, and {results.source.title} has none of it. It has {_numbers(measured)}."
            )


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _check_range(measurements: Sequence[Measurement], results: ForeignResults, unit: str) -> None:
    """Raise for a share that is none."""
    if unit != SHARE:
        return
    for item in measurements:
        if abs(item.value) > 1.0:
            raise ResultsError(
                f"{results.source.title}, {item.origin}: {results.metric} of “{item.variant}”, seed {item.seed}, is "
                f"{item.value:g}, and a share lies from 0 to 1. Say unit: per cent in the study file, or divide by 100."
            )


def _suspicious(measurements: Sequence[Measurement], unit: str) -> Iterator[str]:
    """Yield a caution where percentages look like shares."""
    values = [abs(item.value) for item in measurements if not math.isnan(item.value)]
    largest = max(values, default=0.0)
    small = [item for item in measurements if 0.0 < abs(item.value) <= 1.0]
    # A latency of 0.5 beside one of 20 is nothing odd.
    may_be_per_cent = unit in (PER_CENT, "") and largest <= _MOST_PER_CENT
    if small and may_be_per_cent and largest >= _MANY_TIMES:
        listed = "; ".join(f"{item.variant}, seed {item.seed}: {item.value:g}" for item in small[:_LISTED])
        yield (
            f"Values of at most 1 stand beside values up to {largest:g}. If they are shares among percentages, this "
            f"report is wrong: {listed}."
        )
    elif unit == PER_CENT and 0.0 < largest <= 1.0:
        yield (
            f"The unit is per cent, and no value is above {largest:g}. If these are shares from 0 to 1, say unit: "
            "share in the study file."
        )


def _unlike_seeds(reference: str, measurements: Sequence[Measurement]) -> Iterator[str]:
    """Yield a caution where a variant has no seed of the reference, so that no difference can be taken."""
    seeds: dict[str, set[int]] = {}
    for item in measurements:
        seeds.setdefault(item.variant, set()).add(item.seed)
    apart = [name for name in seeds if not seeds[name] & seeds.get(reference, set())]
    if apart and reference in seeds:
        listed = ", ".join(f"“{name}”" for name in apart[:_LISTED])
        yield (
            f"{listed} and the reference “{reference}” have no seed in common, and differences are taken seed by seed. "
            "If seeds stand for nothing that variants share, number the repeats of each variant 0, 1, 2, …"
        )


def _finished(items: Sequence[Measurement]) -> list[Measurement]:
    return [item for item in items if item.status == FINISHED]


def _chosen(items: Sequence[Measurement]) -> Measurement | None:
    """Return the measurement that a cell rests on: the first with a value, else the first of all."""
    return next(iter([*_finished(items), *items]), None)


def _repeat(items: Sequence[Measurement]) -> Repeat:
    finished = _finished(items)
    values = list(dict.fromkeys(item.value for item in finished))
    if len(values) > 1:
        listed = " and ".join(f"{value:.10g}" for value in values[:_LISTED])
        return Repeat(f"measured {len(finished)} times with different values ({listed})", math.nan)
    if values:
        return Repeat.of(FINISHED, values[0])
    # Without a value, the first run or row says why.
    return Repeat(items[0].status if items else MISSING, math.nan)


def _checkpoints(measured: Mapping[str, Mapping[int, Measurement]]) -> dict[str, dict[int, str]]:
    checkpoints: dict[str, dict[int, str]] = {}
    for name, by_seed in measured.items():
        checkpoints[name] = {}
        for seed, item in by_seed.items():
            # A training of its own, as nobody says otherwise.
            checkpoints[name][seed] = f"checkpoint {item.checkpoint}" if item.checkpoint else f"{name}, seed {seed}"
    return checkpoints


def _correctness(measured: Mapping[str, Mapping[int, Measurement]]) -> dict[str, dict[int, Correctness]]:
    correctness: dict[str, dict[int, Correctness]] = {}
    for name, by_seed in measured.items():
        correctness[name] = {}
        for seed, item in by_seed.items():
            if item.correctness is not None:
                correctness[name][seed] = item.correctness
    return correctness
