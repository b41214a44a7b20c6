"""Rows of a study subtracted from each other: paired by repeat, and image by image where they share checkpoints.

Tables, claims and seed advice all take their differences from here, so that one comparison has one interval. The
statistics are in `reports.statistics`. Legend: S seeds, I test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reports.correctness import PER_IMAGE, Correctness
from reports.statistics import Estimate, estimate, two_level, unknown

_PER_CENT = 100.0


class Row(Protocol):
    """What is compared: a variant's repeats."""

    @property
    def values(self) -> Mapping[int, float]:
        """The deciding metric by seed, for the repeats that finished."""

    @property
    def complete(self) -> bool:
        """Whether every repeat of the plan finished."""

    @property
    def checkpoints(self) -> Mapping[int, str]:
        """By seed, the training whose checkpoint is measured."""

    @property
    def correctness(self) -> Mapping[int, Correctness]:
        """By seed, which test images were right, as far as that was tracked."""


def difference(better: Sequence[Row], worse: Sequence[Row], metric: str) -> Estimate:
    """Returns the mean over seeds of the mean of some rows minus that of others, with its interval.

    Rows of separate trainings get an interval over seeds. Rows that measure the same checkpoints get one over seeds
    and test images, if the metric is a share of images and these were tracked. A row with a missing repeat leaves
    nothing but the number of pairs, `n`.

    Args:
        better: What is subtracted from, at least one row.
        worse: What is subtracted; none is zero.
        metric: The deciding metric.
    """
    rows = (*better, *worse)
    seeds = common_seeds(rows)
    if not all(row.complete for row in rows):
        return unknown(len(seeds))
    over_seeds = estimate([_mean(better, seed) - _mean(worse, seed) for seed in seeds])
    if over_seeds.has_interval and len(rows) > 1 and compare_by_image(rows, metric):
        return two_level([_images(better, seed, metric) - _images(worse, seed, metric) for seed in seeds])
    return over_seeds


def common_seeds(rows: Iterable[Row]) -> list[int]:
    """Returns the seeds of which every row has a value, in order."""
    return sorted(set.intersection(*(set(row.values) for row in rows)))


def share_checkpoints(rows: Sequence[Row]) -> bool:
    """Whether all rows measure one and the same checkpoint at each of their common seeds, and there is one."""
    seeds = common_seeds(rows)
    measured = [{row.checkpoints.get(seed) for row in rows} for seed in seeds]
    return bool(seeds) and all(len(found) == 1 and None not in found for found in measured)


def compare_by_image(rows: Sequence[Row], metric: str) -> bool:
    """Whether rows can be compared image by image: one checkpoint per seed, the same images everywhere, all tracked."""
    if metric not in PER_IMAGE or not share_checkpoints(rows):
        return False
    known = [row.correctness.get(seed) for row in rows for seed in common_seeds(rows)]
    there = [found for found in known if found is not None and metric in found.packed]
    return len(there) == len(known) and len({(found.images, found.data) for found in there}) == 1 < there[0].images


def _mean(rows: Sequence[Row], seed: int) -> float:
    return sum(row.values[seed] for row in rows) / len(rows) if rows else 0.0


def _images(rows: Sequence[Row], seed: int, metric: str) -> npt.NDArray[np.float64]:
    """Returns per image in how many per cent of the rows it is right, (I,); a single 0 without rows."""
    bits = [row.correctness[seed].of(metric).astype(np.float64) for row in rows]
    return np.asarray(_PER_CENT * np.mean(bits, axis=0)) if bits else np.zeros(1)
