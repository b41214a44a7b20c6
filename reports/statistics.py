"""Pure statistics over repeats of a training. Numbers in, numbers out; what they are called and printed is elsewhere.

Every interval here measures one uncertainty: what another set of training seeds (initial weights and data order)
would have given, on the same test images. None of them covers the sampling of the test images, the choice of the data
set, or the other comparisons in a table: nothing is corrected for their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Confidence level of every interval in a report."""

_SAME = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its spread.

    Attributes:
        mean: Arithmetic mean, NaN if there is no value.
        sd: Standard deviation over seeds with n − 1 in the denominator, NaN below two values.
        low: Lower end of the interval for the mean, NaN where there is none.
        high: Upper end.
        n: Number of values, or of pairs for a difference.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval: at least two values that are not all the same."""
        return not math.isnan(self.low)

    @property
    def no_spread(self) -> bool:
        """Whether several seeds gave one and the same value, so that an interval would claim certainty."""
        return self.n > 1 and self.sd == 0.0

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero; false without an interval."""
        return self.has_interval and (self.low > 0 or self.high < 0)


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Returns the mean over seeds with its two-sided Student t interval, mean ± t · sd / √n.

    The interval is about training seeds, not about the sampling of test images. One value has no interval; values
    that are all the same have none either, because a width of zero would claim a certainty that few seeds cannot give.

    Args:
        values: One finite value per seed.
        level: Confidence level.
    """
    n = len(values)
    array = np.asarray(values, dtype=float)
    mean = float(array.mean()) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, n)
    if float(np.ptp(array)) <= _SAME * max(1.0, float(np.abs(array).max())):
        return Estimate(mean, 0.0, math.nan, math.nan, n)
    sd = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(mean, sd, mean - half, mean + half, n)


def paired_differences(values: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Returns value − reference for each seed that both have, in the order of the seeds."""
    return {seed: values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())}


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float], level: float = LEVEL) -> Estimate:
    """Returns the mean paired difference to the reference with the t interval of the differences.

    Repeats are paired by seed: the r-th repeat of every variant has the same initial seed and data order, so what a
    seed does to both cancels. The interval is about training seeds, not about the sampling of test images.

    Args:
        values: Value by seed of the variant.
        reference: Value by seed of the reference variant.
        level: Confidence level.
    """
    return estimate(tuple(paired_differences(values, reference).values()), level)
