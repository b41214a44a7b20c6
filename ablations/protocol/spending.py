"""This module says how much of the error of a claim each look may spend, so that looking several times stays valid.

A verdict is made from an interval. At each look it is taken at a nominal level of its own, and these are so strict that
all the intervals of a run together miss the truth with at most the error α of the claim: repeated confidence intervals
(Jennison and Turnbull, Journal of the Royal Statistical Society B 51, 1989). Until a look at n of at most N seeds, the
error α(n) = α n / N may be spent (Lan and DeMets, Biometrika 70, 1983; this one is linear), and the interval of the
k-th look misses with what has been added since the look before: a_k = α (n_k − n_(k−1)) / N.

The a_k sum to α, so that the promise holds by the union bound: however looks depend on each other, and whatever makes
the interval, be it Student's t of three seeds, a spread that a table shares, or test images beside seeds. The recursive
integration for a Gaussian random walk (Armitage, McPherson and Rowe 1969) makes narrower intervals, but it takes the
spread for known: with paired t intervals, looks at 3, 5, 8, 12 and 20 seeds missed in 5.6 % instead of 5 %, and those
of this module in 4.2 % (`benchmarks.verdicts.looks`).
"""

from __future__ import annotations

from collections.abc import Sequence


def share_of_error(looks: Sequence[int], seeds: int) -> float:
    """Return the share of a claim's error that the interval of a look may miss with, above 0 and at most 1.

    A number of seeds that is no look is judged as if it were one, after the looks with fewer seeds (Lan and DeMets:
    looks need not be planned, as long as the results do not choose them). More seeds than the last look has stand for
    that look.

    Args:
        looks: The numbers of seeds of all looks, rising.
        seeds: The number of seeds at this look, at least 1.
    """
    most = looks[-1]
    # Seeds beyond the last look have no error left of their own to spend.
    reached = min(seeds, most)
    # Nothing is spent before the first look, whose share is therefore all of its seeds.
    earlier = 0
    for look in looks:
        if look < reached:
            earlier = look
    return (reached - earlier) / most


def level_at(level: float, looks: Sequence[int], seeds: int) -> float:
    """Return the nominal level of the interval at a look, given the level at which all looks hold together."""
    return 1 - (1 - level) * share_of_error(looks, seeds)
