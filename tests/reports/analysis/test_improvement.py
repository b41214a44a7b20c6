"""The probability of improvement: counted by hand, its interval against other ways to it, and its coverage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from reports.analysis.improvement import Improvement, over_checkpoints, over_trainings

Pair = tuple[np.ndarray, np.ndarray]


def of_trainings(values: list[float], reference: list[float]) -> Improvement:
    improvement = over_trainings(values, reference)
    assert improvement is not None
    return improvement


def test_pairs_are_counted_with_half_a_tie() -> None:
    """Of nine pairs 3 > 1, 3 > 2, 3 > 2, 2 > 1 are won, 2 = 2 twice and 1 = 1 once are tied, and the others lost."""
    improvement = of_trainings([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    assert improvement.probability == pytest.approx((4 + 3 / 2) / 9)
    assert not improvement.same_checkpoints


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_u_statistic_of_scipy(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values, reference = draw.integers(0, 6, 7).astype(float), draw.integers(0, 6, 4).astype(float)
    expected = stats.mannwhitneyu(values, reference).statistic / 28
    assert of_trainings(list(values), list(reference)).probability == pytest.approx(expected)


@pytest.mark.parametrize(("m", "n"), [(2, 2), (3, 3), (5, 3), (9, 9)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_ends_are_those_of_a_search_over_all_probabilities(m: int, n: int, level: float) -> None:
    theta = np.linspace(0, 1, 400_001)
    terms = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    half = stats.t.ppf((1 + level) / 2, m + n - 2) * np.sqrt(theta * (1 - theta) * terms / (m * n))
    for won in range(m + 1):
        values = [2.0] * won + [0.0] * (m - won)
        improvement = over_trainings(values, [1.0] * n, level)
        assert improvement is not None
        inside = theta[np.abs(improvement.probability - theta) <= half]
        # At 0 and 1 the variance is zero, so that the search finds the estimate itself as well.
        assert improvement.low == pytest.approx(inside.min(), abs=1e-5)
        assert improvement.high == pytest.approx(inside.max(), abs=1e-5)


def test_the_other_row_has_the_rest() -> None:
    values, reference = [3.0, 5.0, 9.0, 4.0], [4.0, 2.0, 1.0]
    there, back = of_trainings(values, reference), of_trainings(reference, values)
    assert (there.probability, there.low, there.high) == pytest.approx(
        (1 - back.probability, 1 - back.high, 1 - back.low)
    )
    assert there.low < there.probability < there.high


def normal(draw: np.random.Generator, shape: tuple[int, int], shift: float) -> Pair:
    return draw.normal(size=shape) + shift, draw.normal(size=shape)


def threefold(draw: np.random.Generator, shape: tuple[int, int], shift: float) -> Pair:
    return 3 * draw.normal(size=shape) + shift, draw.normal(size=shape)


def skewed(draw: np.random.Generator, shape: tuple[int, int], shift: float) -> Pair:
    return shift - draw.exponential(size=shape), -draw.exponential(size=shape)


def of_one_seed(draw: np.random.Generator, shape: tuple[int, int], shift: float) -> Pair:
    shared = draw.normal(size=shape)
    return shared + draw.normal(size=shape) + shift, shared + draw.normal(size=shape)


@pytest.mark.parametrize(("pair", "least"), [(normal, 0.94), (threefold, 0.94), (skewed, 0.91), (of_one_seed, 0.96)])
@pytest.mark.parametrize("n", [3, 5, 9, 20])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_coverage(pair: Callable[..., Pair], least: float, n: int, shift: float) -> None:
    draw = np.random.default_rng(0)
    values, reference = pair(draw, (10_000, n), shift)
    # The truth is about trainings under seeds of their own, so that no pair is of one seed.
    truth = float((values[:, :1] > np.roll(reference, 1, axis=0)).mean())
    won = (values[:, :, None] > reference[:, None, :]).sum((1, 2))
    covered = 0
    # An interval depends on the count of pairs that are won alone, so that one repetition stands for all of a count.
    for first, count in zip(*np.unique(won, return_index=True, return_counts=True)[1:], strict=True):
        improvement = of_trainings(list(values[first]), list(reference[first]))
        covered += count * (improvement.low <= truth <= improvement.high)
    # Two standard errors of 10,000 repetitions are 0.4 points at 95 %.
    assert covered / 10_000 >= least - 0.004


def test_checkpoints_are_pairs_of_their_own() -> None:
    improvement = over_checkpoints([1.0, -1.0, 0.0, 2.0])
    assert improvement is not None
    assert improvement.probability == pytest.approx(2.5 / 4)
    assert improvement.same_checkpoints


@pytest.mark.parametrize("n", [2, 3, 9, 20])
def test_their_interval_is_that_of_statsmodels(n: int) -> None:
    for successes in range(n + 1):
        improvement = over_checkpoints([1.0] * successes + [-1.0] * (n - successes))
        assert improvement is not None
        expected = proportion_confint(successes, n, method="beta")
        assert (improvement.low, improvement.high) == pytest.approx(expected)


@pytest.mark.parametrize("n", [3, 5, 9, 20])
def test_it_covers_every_probability(n: int) -> None:
    """Exact: the chance of each count of wins, summed over those whose interval holds the truth."""
    intervals = [over_checkpoints([1.0] * k + [-1.0] * (n - k)) for k in range(n + 1)]
    for truth in np.linspace(0.01, 0.99, 99):
        covered = [k for k, item in enumerate(intervals) if item and item.low <= truth <= item.high]
        assert np.sum(stats.binom.pmf(covered, n, truth)) >= 0.95


def test_one_value_leaves_nothing_to_say() -> None:
    assert over_trainings([1.0], [1.0, 2.0]) is None
    assert over_trainings([1.0, 2.0], []) is None
    assert over_checkpoints([1.0]) is None
