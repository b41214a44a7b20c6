"""This module subtracts rows of a study: paired by repeat, and image by image where they share checkpoints.

Tables, claims and seed advice all take their differences from here, so that one comparison has one interval. The
statistics are in `reports.analysis.statistics`. Legend: S seeds, I test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reports.analysis.statistics import Estimate, contrast_interval, estimate, over_images, two_level, unknown
from reports.collect.correctness import Correctness

_PER_CENT = 100.0

_Training = tuple[tuple[str, float], ...]
"""By seed, a checkpoint and its value: the same for rows of one and the same training."""


class ComparableRow(Protocol):
    """A row that can be compared: a variant's repeats."""

    @property
    def values(self) -> Mapping[int, float]:
        """The deciding metric by seed, for the repeats that finished."""

    @property
    def complete(self) -> bool:
        """True if every repeat of the plan finished."""

    @property
    def checkpoints(self) -> Mapping[int, str]:
        """By seed, the training whose checkpoint is measured."""

    @property
    def correctness(self) -> Mapping[int, Correctness]:
        """By seed, the test images that were right, as far as that was tracked."""

    @property
    def trained_elsewhere(self) -> bool:
        """True if its network was trained elsewhere, so that it has no repeats."""

    @property
    def unlearned(self) -> Mapping[int, str]:
        """By seed, the reason why the training that is measured counts as one that never learned."""


def difference(
    better: Sequence[ComparableRow], worse: Sequence[ComparableRow], metric: str, table: Sequence[ComparableRow] = ()
) -> Estimate:
    """Return the mean over seeds of the mean of some rows minus that of others, with its interval.

    Rows of separate trainings get an interval over seeds, whose width the rest of their table shares in
    (`statistics.contrast_interval`). Rows that measure the same checkpoints get one over seeds and test images, if the
    metric is a share of images and these were tracked, else one of their own over seeds. Rows of one network that was
    trained elsewhere get one over test images alone. A row with a missing repeat leaves nothing but the number of
    pairs, `n`.

    Args:
        better: The rows that are subtracted from, at least one.
        worse: The rows that are subtracted; without any, zero is.
        table: All rows of the same study and inspected network, the compared ones among them. Without, a difference
            stands on its own.
    """
    rows = (*better, *worse)
    seeds = common_seeds(rows)
    if not all(row.complete for row in rows):
        # A mean over the seeds at hand would change with every repeat that comes in.
        return unknown(len(seeds))
    over_seeds = estimate([_mean(better, seed) - _mean(worse, seed) for seed in seeds])
    is_single = all(row.trained_elsewhere for row in rows) and len(seeds) == 1
    if is_single and len(rows) > 1 and compare_by_image(rows, metric):
        return over_images(_images(better, seeds[0], metric) - _images(worse, seeds[0], metric))
    # Two evaluations of one checkpoint differ image by image, which says more than their means do.
    if over_seeds.has_interval and len(rows) > 1 and compare_by_image(rows, metric):
        return two_level([_images(better, seed, metric) - _images(worse, seed, metric) for seed in seeds])
    weighted_rows = [(row, 1.0 / len(better)) for row in better]
    weighted_rows += [(row, -1.0 / len(worse)) for row in worse]
    return _sharing(weighted_rows, table, seeds, over_seeds)


def weighted_sum(weighted_rows: Sequence[tuple[ComparableRow, float]], table: Sequence[ComparableRow]) -> Estimate:
    """Return the mean over seeds of a weighted sum of rows that are trained apart, with its interval over seeds.

    The interval is that of `statistics.contrast_interval`, whose width the rest of the table shares in. A row with a
    missing repeat leaves nothing but the number of seeds that all rows have, `n`.

    Args:
        weighted_rows: Rows with their weights, which sum to zero; at least one.
        table: All rows of the study, the weighted ones among them.
    """
    rows = [row for row, _ in weighted_rows]
    seeds = common_seeds(rows)
    if not all(row.complete for row in rows):
        # A mean over the seeds at hand would change with every repeat that comes in.
        return unknown(len(seeds))
    over_seeds = estimate([sum(weight * row.values[seed] for row, weight in weighted_rows) for seed in seeds])
    return _sharing(weighted_rows, table, seeds, over_seeds)


def _sharing(
    weighted_rows: Sequence[tuple[ComparableRow, float]],
    table: Sequence[ComparableRow],
    seeds: Sequence[int],
    over_seeds: Estimate,
) -> Estimate:
    """Return a weighted sum of rows with an interval that the table shares in, or `over_seeds` where none can."""
    pool = _equal_footing(table, seeds)
    weights = dict.fromkeys(pool, 0.0)
    for row, weight in weighted_rows:
        training = _training(row, seeds)
        # A compared row outside the pool stands on its own: the table says nothing of its spread.
        if training not in weights:
            return over_seeds
        # Several compared rows may be one training, whose weight is then their sum.
        weights[training] += weight
    seed_values = []
    for training in pool:
        seed_values.append([value for _, value in training])
    return contrast_interval(seed_values, list(weights.values()))


def _equal_footing(table: Sequence[ComparableRow], seeds: Sequence[int]) -> list[_Training]:
    """Return the trainings of a table that say something of each other's spread: learned, complete, trained apart.

    Several rows of one and the same training are one. There are none if rows are evaluations of one checkpoint: these
    move together in any way. Rows that never learned spread as guessing does, and rows whose checkpoints are not
    known could be anything.
    """
    pool: dict[_Training, None] = {}
    for row in table:
        measured = row.values.keys() & row.checkpoints.keys()
        if row.complete and not row.unlearned and measured >= set(seeds):
            pool[_training(row, seeds)] = None
    checkpoints: set[str] = set()
    for training in pool:
        checkpoints.update(dict(training))
    # A checkpoint that occurs twice with two values was evaluated twice, and its rows move together.
    if len(checkpoints) < len(pool) * len(seeds):
        return []
    return list(pool)


def _training(row: ComparableRow, seeds: Sequence[int]) -> _Training:
    """Return by seed the checkpoint and the value of a row."""
    return tuple((row.checkpoints.get(seed, ""), row.values[seed]) for seed in seeds)


def common_seeds(rows: Sequence[ComparableRow]) -> list[int]:
    """Return the seeds of which every row has a value, in order."""
    seeds = set(rows[0].values)
    for row in rows[1:]:
        seeds.intersection_update(row.values)
    return sorted(seeds)


def share_checkpoints(rows: Sequence[ComparableRow]) -> bool:
    """Return True if all rows measure one checkpoint at each of their common seeds, and there is a common seed."""
    seeds = common_seeds(rows)
    for seed in seeds:
        checkpoints = {row.checkpoints.get(seed) for row in rows}
        if len(checkpoints) > 1 or None in checkpoints:
            return False
    return bool(seeds)


def compare_by_image(rows: Sequence[ComparableRow], metric: str) -> bool:
    """Return True if rows can be compared by image: one checkpoint per seed, the same images, all of them tracked."""
    if not share_checkpoints(rows):
        return False
    image_orders = set()
    for seed in common_seeds(rows):
        for row in rows:
            correctness = row.correctness.get(seed)
            # An interval takes two images.
            if correctness is None or metric not in correctness.packed or correctness.images < 2:
                return False
            image_orders.add((correctness.images, correctness.data))
    # One count and one digest of the data make the order of the images the same.
    return len(image_orders) == 1


def _mean(rows: Sequence[ComparableRow], seed: int) -> float:
    if not rows:
        return 0.0
    return sum(row.values[seed] for row in rows) / len(rows)


def _images(rows: Sequence[ComparableRow], seed: int, metric: str) -> npt.NDArray[np.float64]:
    """Return for each image the share of the rows that are right, in per cent, (I,); a single 0 without rows."""
    if not rows:
        return np.zeros(1)
    bits = [row.correctness[seed].of(metric).astype(np.float64) for row in rows]
    return np.asarray(_PER_CENT * np.mean(bits, axis=0))
