"""Made-up repeats of known truth, and how often the statistics are right about them.

Tables of trainings are in `benchmarks.verdicts`. Legend: R repetitions of a whole study, S seeds, I test images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reports.analysis.statistics import Estimate, estimate, two_level

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Returns values of mean 0 and standard deviation 1."""
    return draw.normal(size=shape)


def skewed(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Returns values of mean 0, standard deviation 1 and skewness −1.4: mostly good seeds, now and then a bad one."""
    return -(draw.gamma(2.0, size=shape) - 2.0) / np.sqrt(2.0)


def very_skewed(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Returns values of mean 0, standard deviation 1 and skewness −2."""
    return 1.0 - draw.exponential(size=shape)


def paired(draw: np.random.Generator, noise: Draw, repetitions: int, seeds: int) -> Array:
    """Returns paired differences (R, S) of two variants without a difference, each with its own noise."""
    return noise(draw, (repetitions, seeds)) - noise(draw, (repetitions, seeds))


def crossed(draw: np.random.Generator, noise: Draw, seeds: int, images: int, share: float) -> tuple[Array, float]:
    """Returns differences (S, I) of two evaluations of the same checkpoints, each −1, 0 or 1, and their true mean.

    An image is right under one evaluation alone with a probability that moves with the seed and with the image: half
    of the images lean to one of the two whatever the seed. `share` scales what is the seeds'.
    """
    truth, disagreement = -0.03, 0.5
    of_seed = np.clip(0.03 * share * noise(draw, (seeds, 1)), -0.15, 0.15)
    of_image = 0.32 * draw.choice((-1.0, 0.0, 0.0, 1.0), size=(1, images))
    lean = truth + of_seed + of_image
    drawn = draw.random((seeds, images))
    right = (drawn < (disagreement + lean) / 2).astype(float)
    return right - (drawn > 1 - (disagreement - lean) / 2), truth


def coverage(intervals: list[Estimate], truth: float) -> float:
    """Returns how many of the intervals hold the truth, as a share."""
    return float(np.mean([found.low <= truth <= found.high for found in intervals]))


def t_coverage(noise: Draw, seeds: int, repetitions: int, seed: int = 0) -> float:
    """Returns the coverage of the interval of paired differences."""
    table = paired(np.random.default_rng(seed), noise, repetitions, seeds)
    return coverage([estimate(tuple(row)) for row in table], 0.0)


def two_level_coverage(noise: Draw, seeds: int, repetitions: int, share: float = 1.0, seed: int = 0) -> float:
    """Returns the coverage of the two-level interval."""
    draw = np.random.default_rng(seed)
    tables = [crossed(draw, noise, seeds, 300, share) for _ in range(repetitions)]
    return coverage([two_level(table) for table, _ in tables], tables[0][1])
