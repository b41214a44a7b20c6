"""This module computes the probability of improvement: that a repeat of one row beats a repeat of another.

Bouthillier et al. 2021 ("Accounting for variance in machine learning benchmarks") and Agarwal et al. 2021 ("Deep
reinforcement learning at the edge of the statistical precipice", rliable) ask for it beside a difference of means,
which says how far two rows lie apart and not how often one training beats another. Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from reports.analysis.statistics import LEVEL

# The interval's end lies this much away from p at least, so that the root is bracketed at p = 1 as well.
_EDGE = 1e-12


@dataclass(frozen=True)
class Improvement:
    """A probability of improvement with its interval over training seeds.

    Attributes:
        probability: The share of pairs in which the row is better; half of a tie counts.
        same_checkpoints: True if pairs are two evaluations of one checkpoint, else any two trainings.
    """

    probability: float
    low: float
    high: float
    same_checkpoints: bool = False


def over_trainings(values: Sequence[float], reference: Sequence[float], level: float = LEVEL) -> Improvement | None:
    """Return the probability that a training of one row beats one of another under seeds of its own.

    It is Mann and Whitney's U over the number of all pairs. The interval is the fifth of Newcombe 2006 ("Confidence
    intervals for an effect size measure based on the Mann-Whitney statistic, part 2", Statistics in Medicine 25): all
    θ with |p − θ| ≤ c √V(θ) for the variance V of Hanley and McNeil 1982,

        V(θ) = θ (1 − θ) (1 + N ((1 − θ) / (2 − θ) + θ / (1 + θ))) / (m n),  N = (m + n) / 2 − 1.

    With the normal distribution's c it covers 86 % where each row has three repeats, so that c is Student's of
    m + n − 2 degrees of freedom here. From 3 to 20 repeats it then covers 94 % or more where values are normal, also
    with threefold spreads, and 91 % at the worst where they are as skewed as an exponential's; rows that share their
    seeds are covered more often (`tests/reports/analysis/test_improvement.py`).

    Args:
        values: (m,) finite values, higher is better.
        reference: (n,) the same of the other row.

    Returns:
        `None` if a row has fewer than two values, which leave no interval.
    """
    m, n = len(values), len(reference)
    if min(m, n) < 2:
        return None
    better = np.subtract.outer(np.asarray(values, dtype=float), np.asarray(reference, dtype=float))
    # A sign of −1, 0 or 1 becomes 0, ½ or 1: a tie is half a win.
    probability = float((np.sign(better) + 1).mean() / 2)
    critical = -float(special.stdtrit(m + n - 2, (1 - level) / 2))

    def lower_end(p: float) -> float:
        def distance(theta: float) -> float:
            # The variance is taken at θ and not at p, where it would be zero whenever one row always wins.
            terms = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            return p - theta - critical * math.sqrt(theta * (1 - theta) * terms / (m * n))

        # At p itself the distance is negative, but for p = 1, where it is zero; the end lies before that.
        return float(optimize.brentq(distance, 0.0, p - _EDGE)) if p > 0 else 0.0

    # V is the same for θ and 1 − θ, so that the upper end is the lower one of the other row.
    return Improvement(probability, lower_end(probability), 1 - lower_end(1 - probability))


def over_checkpoints(differences: Sequence[float], level: float = LEVEL) -> Improvement | None:
    """Return the probability that an evaluation of a checkpoint beats another evaluation of the same one.

    Each checkpoint is one pair. The interval is Clopper and Pearson's (Biometrika 26, 1934) for the share of pairs,
    with half a success for a tie. It covers at least 95 % with any number of checkpoints, and with few of them more.

    Args:
        differences: (n,) per checkpoint, value − reference, above 0 where the row is better.

    Returns:
        `None` with fewer than two checkpoints, which leave no interval.
    """
    n = len(differences)
    if n < 2:
        return None
    # Ties make half successes, for which the beta quantile is defined as well as for whole ones.
    successes = float((np.sign(differences) + 1).sum() / 2)
    tail = (1 - level) / 2
    # The beta distribution has no quantile where a side has no success at all.
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Improvement(successes / n, low, high, same_checkpoints=True)
