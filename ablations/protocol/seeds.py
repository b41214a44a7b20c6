"""This module computes with Student's t before anything is trained: seeds for significance, and seeds for a claim.

It needs no scipy, which takes as long to import as planning does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from ablations.protocol.spending import share_of_error

ALPHA = 0.05
"""Level of significance, as in `reports.analysis.statistics`."""

POWER = 0.8
"""The chance of a verdict that likely seeds are for, as in `reports.analysis.statistics`."""

LARGE = 2.0
"""A difference of so many of its standard deviations over seeds is one that any study should be able to show."""

MOST_LIKELY_SEEDS = 200
"""Beyond this number, likely seeds are not told: nobody trains so often."""

_FEWEST_ROWS = 4
"""Rows of a table from which on they share their spread, as in `reports.analysis.statistics`."""

_INTERVALS = 300
_FAR = 9.0
"""Intervals of an integral by Simpson's rule, and the standard deviations beyond which a normal has no mass."""


def smallest_effect(seeds: int, comparisons: int) -> float:
    """Return the smallest difference that a t test finds significant, in its own standard deviations over seeds.

    The level is that of the first step of Holm's correction. One seed has no spread: no difference is large enough.
    """
    if seeds < 2:
        return math.inf
    # t is the mean difference over its standard error, which is the standard deviation over the root of the seeds.
    return critical_t(seeds - 1, ALPHA / comparisons) / math.sqrt(seeds)


@cache
def critical_t(df: int, alpha: float) -> float:
    """Return the value that Student's t exceeds, on either side together, with a probability of `alpha`."""
    low, high = 0.0, 1.0
    # Doubling brackets the root: with one degree of freedom and a small α it lies in the hundreds.
    while _p_value(high, df) > alpha:
        low, high = high, 2 * high
    # Sixty halvings leave nothing between the ends of an interval that doubling found.
    for _ in range(60):
        middle = (low + high) / 2
        if _p_value(middle, df) > alpha:
            low = middle
        else:
            high = middle
    return high


def _p_value(t: float, df: int) -> float:
    """Return the two-sided p-value of Student's t with a whole number of degrees of freedom.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    # With whole degrees of freedom the distribution is a finite sum in this angle: no incomplete beta is needed.
    angle = math.atan2(t, math.sqrt(df))
    square = math.cos(angle) ** 2
    is_odd = df % 2 == 1
    term = math.cos(angle) if is_odd else 1.0
    total = 0.0
    for k in range(df // 2):
        total += term
        term *= square * ((2 * k + 2) / (2 * k + 3) if is_odd else (2 * k + 1) / (2 * k + 2))
    within = math.sin(angle) * total
    if is_odd:
        within = 2 / math.pi * (angle + within)
    return 1.0 - within


def seeds_needed(comparisons: int) -> int:
    """Return the fewest seeds with which a difference of `LARGE` of its standard deviations is significant."""
    # The smallest effect falls as seeds are added, so the first number that suffices is the fewest.
    return next(seeds for seeds in range(2, 1000) if smallest_effect(seeds, comparisons) <= LARGE)


def likely_seeds(above: float, below: float, *, rows: int, alpha: float, looks: Sequence[int] = ()) -> int | None:
    """Return the fewest seeds that reproduce a contrast with a power of `POWER`, `None` beyond `MOST_LIKELY_SEEDS`.

    A table of rows that are trained apart shares its spread: the more alike its rows spread, the more. Of equal spreads
    the squared p-value of Bartlett's test, its weight, is a third on average, and that is what is counted on here
    (`reports.analysis.statistics.shared_variance`).

    Args:
        above: The true difference minus the bound that its interval must lie above, in standard deviations of the
            paired difference over seeds.
        below: The upper bound minus the true difference, likewise; infinite where there is none.
        rows: Rows of the table that share their spread; fewer than four share nothing.
        alpha: The error of the interval, over all looks together.
        looks: Numbers of seeds at which the claim is looked at. The answer is then one of them, at whose own level the
            power is reached, or `None`.
    """
    for seeds in looks or range(2, MOST_LIKELY_SEEDS + 1):
        df = seeds - 1
        if rows >= _FEWEST_ROWS:
            # A two-way table leaves (rows − 2)(seeds − 1) beside the contrast, of which a third counts on average.
            df += (rows - 2) * (seeds - 1) // 3
        error = alpha
        if looks:
            error *= share_of_error(looks, seeds)
        root = math.sqrt(seeds)
        if power(df, error, above * root, below * root) >= POWER:
            return seeds
    return None


def power(df: int, alpha: float, above: float, below: float = math.inf) -> float:
    """Return the chance that a two-sided t interval lies between two bounds.

    With the estimated over the true standard error S, whose square is a chi-square over its df, the interval has a half
    width of c S, and the mean must lie by so much within the bounds: E max(0, Φ(above − c S) − Φ(c S − below)). Without
    an upper bound that is the power of a noncentral t.

    Args:
        df: Degrees of freedom of the interval's standard error, at least 1.
        alpha: One minus the level of the interval.
        above: The true difference minus the lower bound, in standard errors.
        below: The upper bound minus the true difference, in standard errors.
    """
    critical = critical_t(df, alpha)
    # Beyond `high` the half width leaves nothing, or S has no mass; its deviation is about 1 / √(2 df).
    reach = (_FAR + 1) / math.sqrt(2 * df)
    low, high = max(0.0, 1 - reach), min(1 + reach, (min(above, below) + _FAR) / critical)
    if high <= low:
        return 0.0
    # The density of S, up to powers of S: √df times that of a chi variable.
    constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    step = (high - low) / _INTERVALS
    total = 0.0
    for index in range(_INTERVALS + 1):
        ratio = low + index * step
        if ratio == 0.0:
            # The density ends there, except with one degree of freedom.
            density = math.exp(constant) if df == 1 else 0.0
        else:
            density = math.exp(constant + (df - 1) * math.log(ratio) - df * ratio**2 / 2)
        within = _normal(above - critical * ratio) - _normal(critical * ratio - below)
        # Simpson's rule weighs 1, 4, 2, 4, …, 4, 1, which needs an even number of intervals.
        weight = 4 if index % 2 else 2
        if index in (0, _INTERVALS):
            weight = 1
        total += weight * density * max(0.0, within)
    # The rule may overshoot a certain event by its own error.
    return min(1.0, total * step / 3)


def _normal(value: float) -> float:
    """Return the standard normal distribution function."""
    return math.erfc(-value / math.sqrt(2)) / 2
