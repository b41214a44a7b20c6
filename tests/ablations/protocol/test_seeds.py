"""Power and likely seeds in pure Python, against scipy's noncentral t and simulated tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from ablations.protocol.seeds import critical_t, likely_seeds, power
from ablations.protocol.spending import level_at
from reports.analysis.statistics import power_same, shared_variance

LOOKS = (3, 5, 8, 12, 20)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 0.05 / 16 * 0.15])
@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 30, 199])
def test_the_critical_value_is_that_of_scipy(df: int, alpha: float) -> None:
    assert critical_t(df, alpha) == pytest.approx(-special.stdtrit(df, alpha / 2), rel=1e-8)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0, 4.0, 12.0, 40.0])
@pytest.mark.parametrize("alpha", [0.05, 0.0075, 0.0005])
@pytest.mark.parametrize("df", [1, 2, 4, 10, 33, 199])
def test_power_is_that_of_a_noncentral_t(df: int, alpha: float, shift: float) -> None:
    exact = stats.nct.sf(-special.stdtrit(df, alpha / 2), df, shift)
    assert power(df, alpha, shift) == pytest.approx(exact, abs=2e-5)


@pytest.mark.parametrize("size", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("truth", [0.0, 0.4, -0.4])
@pytest.mark.parametrize("seeds", [3, 5, 12, 40])
def test_power_within_two_bounds_is_that_of_two_one_sided_tests(seeds: int, truth: float, size: float) -> None:
    root = math.sqrt(seeds)
    within = power(seeds - 1, 0.05, (size + truth) * root, (size - truth) * root)
    assert within == pytest.approx(power_same(seeds, 1.0, size, truth=truth), abs=1e-3)


def test_likely_seeds_are_the_first_with_four_of_five_cases() -> None:
    # The number that tables of t tests give for a difference of one deviation, paired and two-sided.
    assert likely_seeds(1.0, math.inf, rows=2, alpha=0.05) == 10
    assert likely_seeds(0.01, math.inf, rows=2, alpha=0.05) is None
    assert likely_seeds(0.0, math.inf, rows=8, alpha=0.05) is None


@pytest.mark.parametrize("effect", [0.8, 1.5, 3.0])
def test_with_looks_it_is_the_first_look_with_the_power_at_its_own_level(effect: float) -> None:
    look = likely_seeds(effect, math.inf, rows=2, alpha=0.05, looks=LOOKS)
    reached = [
        seeds
        for seeds in LOOKS
        if stats.nct.sf(stats.t.isf((1 - level_at(0.95, LOOKS, seeds)) / 2, seeds - 1), seeds - 1, effect * seeds**0.5)
        >= 0.8
    ]
    assert look == min(reached)


def test_an_effect_that_no_look_shows_has_none() -> None:
    assert likely_seeds(0.3, math.inf, rows=2, alpha=0.05, looks=LOOKS) is None


@pytest.mark.parametrize(("rows", "effect"), [(4, 1.0), (6, 1.2), (9, 0.8)])
def test_tables_that_share_their_spread_have_about_the_power_that_was_promised(rows: int, effect: float) -> None:
    seeds = likely_seeds(effect, math.inf, rows=rows, alpha=0.05)
    assert seeds is not None
    # Two rows of deviation 1 / √2 differ by a deviation of 1.
    tables = np.random.default_rng(rows).normal(size=(20_000, rows, seeds)) / math.sqrt(2)
    weights = np.array([1.0, -1.0, *[0.0] * (rows - 2)])
    variance, df = shared_variance(tables, weights)
    mean = effect + (tables[:, 0] - tables[:, 1]).mean(-1)
    shown = mean + special.stdtrit(df, 0.025) * np.sqrt(variance / seeds) > 0
    assert 0.76 < shown.mean() < 0.92
