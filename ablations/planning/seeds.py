"""This module computes the number of seeds with which a difference can be significant in a paired t test."""

from __future__ import annotations

import math

ALPHA = 0.05
"""Level of significance, as in `reports.analysis.statistics`."""

LARGE = 2.0
"""A difference of so many of its standard deviations over seeds is one that any study should be able to show."""


def smallest_effect(seeds: int, comparisons: int) -> float:
    """Return the smallest difference that a t test finds significant, in its own standard deviations over seeds.

    The level is that of the first step of Holm's correction. One seed has no spread: no difference is large enough.
    """
    if seeds < 2:
        return math.inf
    # The critical value of t, by bisection.
    low, high = 0.0, 1.0
    while _p_value(high, seeds - 1) > ALPHA / comparisons:
        low, high = high, 2 * high
    # Sixty halvings leave nothing between the ends of an interval that doubling found.
    for _ in range(60):
        middle = (low + high) / 2
        if _p_value(middle, seeds - 1) > ALPHA / comparisons:
            low = middle
        else:
            high = middle
    # t is the mean difference over its standard error, which is the standard deviation over the root of the seeds.
    return high / math.sqrt(seeds)


def _p_value(t: float, df: int) -> float:
    """Return the two-sided p-value of Student's t with a whole number of degrees of freedom.

    A plan must not wait for scipy, which takes as long to import as planning does. Source: Abramowitz and Stegun,
    26.7.3 and 26.7.4.
    """
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
