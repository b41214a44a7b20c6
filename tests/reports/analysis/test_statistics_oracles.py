"""Every function of `reports.analysis.statistics` over its whole range, against another way to the same number.

The other ways: quadrature by QUADPACK, scipy's and statsmodels' own functions, counting, simulation. What must rise or
fall with its arguments does so.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from reports.analysis.statistics import (
    MOST_SEEDS,
    estimate,
    holm,
    mcnemar_p_value,
    over_images,
    power_better,
    seeds_for_better,
    spread_range,
    two_level,
    unpaired_difference,
)

SPREADS = st.floats(0.02, 60)
UNHURRIED = settings(deadline=None, max_examples=40)


def power_by_quadrature(seeds: int, effect: float, alpha: float = 0.05) -> float:
    """Return P(T > c) of the noncentral t by QUADPACK, over the chi distribution of the estimated spread."""
    df, shift = seeds - 1, effect * math.sqrt(seeds)
    bound = float(stats.t.isf(alpha / 2, df))
    # The density of the chi distribution and the normal one, written out: scipy's take fifty times as long for one
    # number, and there are hundreds of thousands.
    constant = math.log(2) * (1 - df / 2) - math.lgamma(df / 2) + math.log(df) / 2

    def integrand(ratio: float) -> float:
        spread = ratio * math.sqrt(df)
        density = math.exp(constant + (df - 1) * math.log(spread) - spread**2 / 2)
        return density * 0.5 * math.erfc((bound * ratio - shift) / math.sqrt(2))

    middle, width = 1.0, 6 / math.sqrt(2 * df)
    step = min(max(shift / bound, 1e-9), 1 + 2 * width)
    points = sorted({max(1e-9, middle - width), step, middle, middle + width})
    total, _ = integrate.quad(integrand, 0, 1 + 2 * width + 4 / df, points=points, limit=400, epsabs=1e-11)
    return float(total)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 7, 10, 16, 33, 100, 392, 1564, 20_000])
@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.001])
def test_power_is_the_integral(seeds: int, alpha: float) -> None:
    for effect in np.geomspace(0.3 / math.sqrt(seeds), 30 / math.sqrt(seeds), 14):
        expected = power_by_quadrature(seeds, float(effect), alpha)
        assert power_better(seeds, 1.0, float(effect), 1 - alpha) == pytest.approx(expected, abs=1e-8)


def test_power_is_scipys_noncentral_t_wherever_that_is_a_number() -> None:
    """On a grid of 2,000; where scipy has no number, ours is one between those of one seed less and one more."""
    for seeds in (2, 3, 5, 8, 9, 10, 11, 12, 20, 50, 196, 782, 1564, 3126, 6251, 12501, 50_000):
        bound = stats.t.isf(0.025, seeds - 1)
        for sd in np.geomspace(0.05, 40, 120):
            ours = power_better(seeds, float(sd), 1.0)
            theirs = float(stats.nct.sf(bound, seeds - 1, math.sqrt(seeds) / sd))
            if math.isfinite(theirs):
                assert ours == pytest.approx(theirs, abs=2e-9)
            else:
                assert power_better(max(2, seeds - 1), float(sd), 1.0) <= ours + 1e-12
                assert ours <= power_better(seeds + 1, float(sd), 1.0) + 1e-12


def test_power_is_how_often_simulated_tests_succeed() -> None:
    draw = np.random.default_rng(3)
    for seeds, effect in ((3, 1.5), (6, 1.0), (11, 0.97), (34, 0.5)):
        sample = draw.normal(effect, 1.0, size=(40_000, seeds))
        p_values = stats.ttest_1samp(sample, 0, axis=1)
        share = np.mean((p_values.pvalue < 0.05) & (p_values.statistic > 0))
        assert power_better(seeds, 1.0, effect) == pytest.approx(share, abs=0.011)


@UNHURRIED
@given(st.integers(2, MOST_SEEDS), SPREADS, st.floats(0.01, 30))
def test_power_is_a_probability_that_rises_with_seeds_and_size(seeds: int, sd: float, size: float) -> None:
    here = power_better(seeds, sd, size)
    assert 0 < here <= 1
    assert here <= power_better(seeds + 1, sd, size) + 1e-12
    assert here <= power_better(seeds, sd, size * 1.01) + 1e-12
    assert here <= power_better(seeds, sd / 1.01, size) + 1e-12
    assert power_better(seeds, sd, size, 0.99) <= here + 1e-12


@pytest.mark.parametrize(("sd", "seeds"), [(1.03, 11), (1.0, 10), (2.0, 34), (0.2, 3), (6.0, 285)])
def test_seed_advice_is_the_right_one(sd: float, seeds: int) -> None:
    """At a spread of 1.03 a search that takes a missing number for too little power says 1,564."""
    assert seeds_for_better(sd, 1.0) == seeds
    assert power_by_quadrature(seeds, 1 / sd) >= 0.8 > power_by_quadrature(seeds - 1, 1 / sd)


def test_seed_advice_over_the_usual_spreads() -> None:
    """Every sixth hundredth from 0.2 to 6 points: enough seeds, and one less is too few."""
    counts = []
    for hundredths in range(20, 601, 6):
        sd = hundredths / 100
        seeds = seeds_for_better(sd, 1.0)
        assert seeds is not None
        counts.append(seeds)
        if hundredths % 4 == 0:
            assert power_by_quadrature(seeds, 1 / sd) >= 0.8 - 1e-9
            assert seeds == 2 or power_by_quadrature(seeds - 1, 1 / sd) < 0.8 + 1e-9
    assert counts == sorted(counts)


@UNHURRIED
@given(st.lists(SPREADS, min_size=2, max_size=2).map(sorted), st.floats(0.05, 10))
def test_a_wider_spread_never_takes_fewer_seeds(spreads: list[float], size: float) -> None:
    fewer, more = (seeds_for_better(sd, size) or math.inf for sd in spreads)
    assert fewer <= more
    assert more <= (seeds_for_better(spreads[1], size / 1.5) or math.inf)


@UNHURRIED
@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=40))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    """Step by step, the k-th smallest of M is held against alpha / (M − k + 1), until one fails."""
    corrected = holm(p_values)
    for alpha in (0.001, 0.01, 0.05, 0.1):
        steps = [p * (len(p_values) - k) for k, p in enumerate(sorted(p_values))]
        if min(abs(step - alpha) for step in steps) < 1e-9:
            continue
        rejected = next((k for k, step in enumerate(steps) if step > alpha), len(steps))
        assert sum(p <= alpha for p in corrected) == rejected
    assert all(plain <= after <= 1 for plain, after in zip(p_values, corrected, strict=True))
    # A larger p-value never ends below a smaller one.
    ordered = sorted(zip(p_values, corrected, strict=True))
    assert [after for _, after in ordered] == sorted(corrected)


@UNHURRIED
@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_mcnemar_is_a_sign_test_of_any_size(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert mcnemar_p_value(first, second) == pytest.approx(mcnemar_p_value(second, first), rel=1e-9)


VALUES = st.lists(st.floats(-200, 200), min_size=2, max_size=30)


@UNHURRIED
@given(VALUES, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_an_estimate_is_scipys(values: list[float], level: float) -> None:
    ours = estimate(values, level)
    assume(ours.sd > 1e-6)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-7, abs=1e-7)
    assert ours.low < ours.mean < ours.high
    assert estimate(values, level / 2).high <= ours.high


@UNHURRIED
@given(VALUES, VALUES, st.sampled_from([0.9, 0.95, 0.999]))
def test_an_unpaired_difference_is_scipys(values: list[float], others: list[float], level: float) -> None:
    # scipy warns of a side that does not vary.
    assume(min(np.std(values), np.std(others)) > 1e-4)
    theirs = stats.ttest_ind(values, others, equal_var=False).confidence_interval(level)
    ours = unpaired_difference(values, others, level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("values", "others"), [((1.0, 2.0), ()), ((), (1.0, 2.0)), ((), ())])
@pytest.mark.filterwarnings("error")
def test_a_side_without_values_has_no_difference(values: tuple[float, ...], others: tuple[float, ...]) -> None:
    nothing = unpaired_difference(values, others)
    assert (nothing.n, nothing.is_known, nothing.has_interval) == (0, False, False)


@UNHURRIED
@given(st.integers(2, 8), st.integers(2, 40), st.integers(0, 10_000))
def test_two_levels_are_never_narrower_than_seeds_alone(seeds: int, images: int, state: int) -> None:
    draw = np.random.default_rng(state)
    table = 100.0 * draw.integers(-1, 2, size=(seeds, images))
    ours, alone = two_level(table), estimate(tuple(table.mean(1)))
    assume(alone.has_interval)
    assert ours.low <= alone.low + 1e-9
    assert ours.high >= alone.high - 1e-9
    assert (ours.low + ours.high) / 2 == pytest.approx(ours.mean, abs=1e-9)
    mixed = two_level(table[:, draw.permutation(images)])
    assert (mixed.low, mixed.high) == pytest.approx((ours.low, ours.high), abs=1e-8)
    turned = two_level(-table)
    assert (turned.low, turned.high) == pytest.approx((-ours.high, -ours.low), abs=1e-8)


@UNHURRIED
@given(st.floats(0.01, 20), st.floats(1, 60))
def test_a_spread_lies_in_its_interval(sd: float, df: float) -> None:
    low, high = spread_range(sd, df)
    assert low < sd < high
    # Chi-square of any degrees of freedom is twice a gamma of half as many.
    tail = stats.gamma.cdf(df / 2 * (sd / high) ** 2, df / 2)
    head = stats.gamma.sf(df / 2 * (sd / low) ** 2, df / 2)
    assert (tail, head) == pytest.approx((0.025, 0.025), rel=1e-6)


def test_the_interval_of_a_spread_covers_it_in_simulation() -> None:
    draw = np.random.default_rng(8)
    spreads = draw.normal(0, 1.5, size=(4000, 4)).std(axis=1, ddof=1)
    ends = np.array([spread_range(float(sd), 3.0) for sd in spreads])
    covered = np.mean((ends[:, 0] <= 1.5) & (ends[:, 1] >= 1.5))
    assert covered == pytest.approx(0.95, abs=0.012)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 2000), st.sampled_from([0.9, 0.95, 0.999]))
@UNHURRIED
def test_the_interval_over_images_follows_from_the_discordant_ones(
    gained: int, lost: int, alike: int, level: float
) -> None:
    """In closed form: of I images b are gained and c lost, so the sum of squares is b + c − (b − c)² / I."""
    images = gained + lost + alike
    squares = gained + lost - (gained - lost) ** 2 / images if images else 0.0
    assume(images > 1 and squares > 1e-6)
    values = np.array([100.0] * gained + [-100.0] * lost + [0.0] * alike)
    found = over_images(np.random.default_rng(0).permutation(values), level)
    mean = 100 * (gained - lost) / images
    half = float(stats.t.isf((1 - level) / 2, images - 1)) * 100 * math.sqrt(squares / (images - 1) / images)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-9)
    expected_p = float(stats.ttest_1samp(values, 0).pvalue)
    assert found.p_value == pytest.approx(expected_p, abs=1e-12)
    # One network: it has no spread over trainings, and it counts as one.
    assert (found.n, math.isnan(found.sd), found.images_alone) == (1, True, True)


def test_evaluations_that_are_right_about_the_same_images_have_no_interval() -> None:
    found = over_images([0.0] * 50)
    assert (found.mean, found.has_interval, found.n, found.images_alone) == (0.0, False, 1, False)
    assert math.isnan(found.p_value)


@pytest.mark.parametrize("images", [100, 1000])
def test_the_interval_over_images_covers_the_network_on_all_such_images(images: int) -> None:
    """Rates of gained and lost images are known, so that the truth is: 100 · (0.15 − 0.06)."""
    generator = np.random.default_rng(5)
    covered, runs = 0, 2000
    for _ in range(runs):
        values = generator.choice([100.0, -100.0, 0.0], size=images, p=[0.15, 0.06, 0.79])
        found = over_images(values)
        covered += found.low <= 9.0 <= found.high
    assert 0.93 <= covered / runs <= 0.97
