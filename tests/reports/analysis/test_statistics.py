"""Statistics against hand-computed answers, scipy's own functions, and what must hold for any values."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from reports.analysis.statistics import (
    estimate,
    holm,
    mcnemar_p_value,
    paired_difference,
    paired_differences,
    power_better,
    seeds_for_better,
    two_level,
    unpaired_difference,
)

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=8)


def test_estimate_by_hand() -> None:
    """Mean 82, sd √((4+0+4)/2) = 2, half width 4.302653 · 2 / √3."""
    found = estimate((80.0, 82.0, 84.0))
    assert (found.mean, found.n) == (82.0, 3)
    assert found.sd == pytest.approx(2.0)
    assert found.high - 82.0 == pytest.approx(4.302652729911275 * 2 / math.sqrt(3))
    assert found.low == pytest.approx(82.0 - (found.high - 82.0))


def test_estimate_is_scipys_interval() -> None:
    values = (71.3, 70.2, 74.9, 73.3, 70.0)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (estimate(values).low, estimate(values).high) == pytest.approx((expected.low, expected.high))


def test_difference_is_paired() -> None:
    """Seeds that vary far more than the variants: unpaired, the interval would be forty times as wide."""
    values, reference = {0: 11.0, 1: 51.5, 2: 91.5}, {0: 10.0, 1: 50.0, 2: 90.0}
    found = paired_difference(values, reference)
    expected = stats.ttest_rel([11.0, 51.5, 91.5], [10.0, 50.0, 90.0]).confidence_interval(0.95)
    assert found.mean == pytest.approx(4 / 3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.high - found.low < 2


def test_difference_uses_common_seeds_only() -> None:
    assert paired_differences({2: 5.0, 0: 3.0}, {1: 1.0, 2: 1.0, 0: 1.0}) == {0: 2.0, 2: 4.0}
    assert paired_difference({0: 1.0}, {1: 1.0}).n == 0


@pytest.mark.parametrize("values", [(), (3.0,)])
def test_too_few_values_have_no_interval(values: tuple[float, ...]) -> None:
    found = estimate(values)
    assert not found.has_interval
    assert math.isnan(found.sd)
    assert not found.excludes_zero


def test_no_spread_claims_no_certainty() -> None:
    found = estimate((10.0, 10.0, 10.0))
    assert (found.mean, found.sd, found.no_spread, found.has_interval) == (10.0, 0.0, True, False)
    assert not found.excludes_zero
    assert paired_difference({0: 70.3, 1: 71.3}, {0: 69.2, 1: 70.2}).no_spread


def test_excludes_zero() -> None:
    assert estimate((1.0, 1.1, 0.9)).excludes_zero
    assert estimate((-1.0, -1.1, -0.9)).excludes_zero
    assert not estimate((-1.0, 1.1, 0.9)).excludes_zero


@given(VALUES, st.floats(-50, 50))
def test_shift_moves_the_interval(values: list[float], shift: float) -> None:
    assume(estimate(values).sd > 1e-3)
    here, there = estimate(values), estimate([value + shift for value in values])
    assert there.low - here.low == pytest.approx(shift, abs=1e-6)
    assert there.sd == pytest.approx(here.sd, rel=1e-6)


@given(VALUES, st.randoms(use_true_random=False))
def test_order_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert estimate(shuffled).mean == pytest.approx(estimate(values).mean)
    assert estimate(shuffled).high == pytest.approx(estimate(values).high, nan_ok=True)


@given(VALUES, VALUES)
def test_difference_is_antisymmetric(values: list[float], reference: list[float]) -> None:
    one, other = dict(enumerate(values)), dict(enumerate(reference))
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert there.mean == pytest.approx(-back.mean)
    assert there.low == pytest.approx(-back.high, nan_ok=True)


@given(VALUES)
def test_seed_effects_cancel(values: list[float]) -> None:
    """Adding anything per seed to both variants changes nothing."""
    reference = {seed: 0.25 * seed**2 for seed in range(len(values))}
    lifted = {seed: value + 7.0 * seed for seed, value in enumerate(values)}
    found = paired_difference(lifted, {seed: value + 7.0 * seed for seed, value in reference.items()})
    assert found.mean == pytest.approx(paired_difference(dict(enumerate(values)), reference).mean, abs=1e-9)


def test_holm_by_hand() -> None:
    """Of 0.01, 0.04, 0.03: three times the smallest, twice the next, and none below the one before it."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.4, 0.9]) == pytest.approx((0.8, 0.9))
    assert holm([]) == ()


def test_holm_leaves_frozen_objects_frozen_and_others_not() -> None:
    counts = []
    for prepare in (gc.unfreeze, gc.freeze):
        prepare()
        holm([0.4, 0.9])
        counts.append(gc.get_freeze_count() > 0)
    gc.unfreeze()
    assert counts == [False, True]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_step_by_step(p_values: list[float]) -> None:
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    worst, expected = 0.0, [0.0] * len(p_values)
    for rank, index in enumerate(order):
        worst = max(worst, (len(p_values) - rank) * p_values[index])
        expected[index] = min(1.0, worst)
    assert holm(p_values) == pytest.approx(tuple(expected))


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_a_sign_test(first: int, second: int) -> None:
    """Exactly, it asks whether the images that one alone gets right are shared as by a coin: scipy's binomial test."""
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_p_value(first, second) == pytest.approx(expected)


def _mean_squares(table: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean squares of seeds, images and rest as statsmodels' analysis of variance has them."""
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    seeds, images = np.indices(table.shape)
    frame = pd.DataFrame({"d": table.ravel(), "seed": seeds.ravel(), "image": images.ravel()})
    found = anova_lm(ols("d ~ C(seed) + C(image)", frame).fit())
    squares = found["sum_sq"] / found["df"]
    return squares["C(seed)"], squares["C(image)"], squares["Residual"]


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_two_levels_are_statsmodels_variance_components(seeds: int) -> None:
    draw = np.random.default_rng(seeds)
    images = 40
    noise = draw.normal(size=(seeds, 1)) + 4 * draw.normal(size=(1, images))
    table = draw.integers(-1, 2, size=(seeds, images)) + noise
    of_seeds, of_images, rest = _mean_squares(table)
    assert of_images > rest
    t, z = stats.t.ppf(0.975, seeds - 1), stats.norm.ppf(0.975)
    half = math.sqrt((t**2 * of_seeds + z**2 * (of_images - rest)) / (seeds * images))
    found = two_level(table)
    assert (found.n, found.covers_images) == (seeds, True)
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))


def test_two_levels_by_hand() -> None:
    """Seeds at 0 and 2, images at −1 and 3 about them: means 1, 3 (seeds) and 0, 4 (images), no rest.

    Seed square 2 · 2 = 4, image square 2 · 8 = 16, half width √(12.7062² · 4 / 4 + 1.95996² · 16 / 4).
    """
    found = two_level([[-1.0, 3.0], [1.0, 5.0]])
    assert found.mean == 2.0
    assert found.sd == pytest.approx(math.sqrt(2))
    assert found.high - 2.0 == pytest.approx(math.sqrt(12.706204736**2 + 1.959963985**2 * 4))


def test_without_an_effect_of_images_seeds_alone_remain() -> None:
    """Where images differ by less than chance has it, the interval is that of the seeds."""
    table = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]])
    alone = estimate(tuple(table.mean(1)))
    found = two_level(table)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


def test_checkpoints_that_differ_by_the_same_have_no_interval() -> None:
    found = two_level([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert found.no_spread
    assert not found.has_interval
    assert two_level(np.zeros((3, 5))).mean == 0.0


@pytest.mark.parametrize(("effect", "seeds"), [(1.0, 10), (0.8, 15), (0.5, 34), (0.2, 199)])
def test_seeds_for_better_are_the_usual_ones(effect: float, seeds: int) -> None:
    """R's power.t.test(type = "paired") and G*Power give these for 80 % at 5 %, two-sided."""
    assert seeds_for_better(1.0, effect) == seeds
    assert seeds_for_better(3.0, 3.0 * effect) == seeds


@pytest.mark.parametrize(("sd", "size", "seeds"), [(1.0, 1e9, 2), (1.0, 12.0, 2), (1.0, 3.0, 4), (1.0, 1e-4, None)])
def test_seed_advice_at_its_ends(sd: float, size: float, seeds: int | None) -> None:
    assert seeds_for_better(sd, size) == seeds


@pytest.mark.parametrize("seeds", [2, 3, 8, 50])
def test_power_is_that_of_the_noncentral_t(seeds: int) -> None:
    from scipy.stats import nct

    bound = stats.t.ppf(0.975, seeds - 1)
    expected = nct.sf(bound, seeds - 1, 0.7 * math.sqrt(seeds))
    assert power_better(seeds, 2.0, 1.4) == pytest.approx(float(expected))


def test_unpaired_differences_are_welchs() -> None:
    """The example of Welch's test in R's documentation of `t.test(extra ~ group, data = sleep)`."""
    one = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
    other = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
    found = unpaired_difference(one, other)
    assert (found.low, found.high) == pytest.approx((-3.3654832, 0.2054832))
    assert (found.mean, found.n, found.covers_images) == (pytest.approx(-1.58), 10, False)
    turned = unpaired_difference(other, one)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_unpaired_differences_without_a_spread_have_no_interval() -> None:
    assert not unpaired_difference((1.0,), (2.0, 3.0)).has_interval
    same = unpaired_difference((1.0, 1.0), (3.0, 3.0))
    assert (same.mean, same.no_spread, same.has_interval) == (-2.0, True, False)
    # One side that varies is enough; its spread is then all there is.
    one_sided = unpaired_difference((1.0, 1.0, 1.0), (2.0, 3.0, 4.0))
    assert (one_sided.low, one_sided.high) == pytest.approx((-2 - 4.30265273 / 3**0.5, -2 + 4.30265273 / 3**0.5))
