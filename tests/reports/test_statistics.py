"""Statistics against hand-computed answers, scipy's own functions, and what must hold for any values."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import estimate, paired_difference, paired_differences

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
