"""The interval of a contrast of separate trainings, which its table shares in, and intervals at any level."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from reports.analysis import statistics
from reports.analysis.statistics import (
    Array,
    Estimate,
    bartlett_p_value,
    contrast_interval,
    equal_spread_p_value,
    estimate,
    excluded_beyond,
    paired_difference,
    power_better,
    power_narrow,
    power_same,
    seeds_for_better,
    seeds_for_same,
    seeds_to_decide,
    spread_range,
    two_level,
    unpaired_difference,
)

UNHURRIED = settings(deadline=None, max_examples=40)


def _table(rows: int, seeds: int, state: int = 0) -> Array:
    draw = np.random.default_rng(state)
    return np.asarray(80 + draw.normal(size=(rows, 1)) + draw.normal(size=(1, seeds)) + draw.normal(size=(rows, seeds)))


def _contrast(rows: int, better: tuple[int, ...] = (1,), worse: tuple[int, ...] = (0,)) -> Array:
    weights = np.zeros(rows)
    for row in better:
        weights[row] += 1 / len(better)
    for row in worse:
        weights[row] -= 1 / len(worse)
    return weights


def _same(one: Estimate, other: Estimate) -> bool:
    numbers = [(each.mean, each.low, each.high, each.df, each.error) for each in (one, other)]
    return bool(np.allclose(*numbers, rtol=1e-9, atol=1e-9, equal_nan=True))


# ------------------------------------------------------------------------------------------------ intervals and levels


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.975, 0.999])
def test_an_interval_at_another_level_is_the_one_that_was_made_at_it(level: float) -> None:
    table = _table(5, 4)
    images = np.random.default_rng(1).integers(-1, 2, size=(4, 60)) + 0.3
    assert _same(estimate((1.0, 2.0, 4.0)).at(level), estimate((1.0, 2.0, 4.0), level))
    assert _same(two_level(images).at(level), two_level(images, level))
    assert _same(contrast_interval(table, _contrast(5)).at(level), contrast_interval(table, _contrast(5), level))
    one, other = (1.0, 2.0, 4.0), (2.0, 2.5)
    assert _same(unpaired_difference(one, other).at(level), unpaired_difference(one, other, level))
    turned = estimate((1.0, 2.0, 4.0)).turned.at(level)
    assert _same(turned, estimate((-1.0, -2.0, -4.0), level))


def test_without_an_interval_there_is_none_at_any_level() -> None:
    for nothing in (estimate((1.0,)), estimate((2.0, 2.0)), estimate(())):
        assert not nothing.at(0.5).has_interval
        assert math.isnan(nothing.df)
        assert math.isnan(nothing.p_value)


def test_the_p_value_of_a_t_interval_is_scipys() -> None:
    values = (0.3, 1.1, -0.2, 0.9)
    assert estimate(values).p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    one, other = (1.0, 2.0, 4.0), (2.0, 2.5, 5.5, 7.0)
    assert unpaired_difference(one, other).p_value == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)


@UNHURRIED
@given(st.integers(2, 6), st.integers(2, 50), st.integers(0, 10_000), st.sampled_from([0.0, 5.0, 400.0]))
def test_an_interval_at_one_minus_p_just_touches_zero(seeds: int, images: int, state: int, shift: float) -> None:
    draw = np.random.default_rng(state)
    both = two_level(shift + 100.0 * draw.integers(-1, 2, size=(seeds, images)))
    if not both.has_interval:
        return
    p_value = both.p_value
    assert 0 <= p_value <= 1
    assert both.excludes_zero == (p_value < 0.05)
    assert both.turned.p_value == pytest.approx(p_value)
    if 1e-9 < p_value < 1:
        touching = both.at(1 - p_value)
        nearest = touching.low if both.mean > 0 else touching.high
        assert nearest == pytest.approx(0.0, abs=1e-5 * (touching.high - touching.low))


def test_p_values_of_any_size_are_numbers() -> None:
    assert Estimate(0.0, 1.0, -1.0, 1.0, 3, True, 2.0, 0.5, 0.5).p_value == 1.0
    assert Estimate(1e9, 1.0, 1e9 - 1, 1e9 + 1, 90, True, 89.0, 0.001, 0.5).p_value == pytest.approx(0.0, abs=1e-300)
    assert Estimate(1e-9, 1.0, -1.0, 1.0, 3, True, 2.0, 0.5, 0.5).p_value == pytest.approx(1.0, abs=1e-6)


# -------------------------------------------------------------------------------------------------------- the contrast


@pytest.mark.parametrize(("rows", "seeds"), [(4, 3), (5, 2), (8, 3), (4, 9)])
@pytest.mark.parametrize("groups", [((1,), (0,)), ((1, 2), (0,))], ids=["two rows", "mean of two"])
def test_rows_that_share_all_have_the_interval_of_an_analysis_of_variance(
    rows: int, seeds: int, groups: tuple[tuple[int, ...], tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import statsmodels.formula.api as smf

    monkeypatch.setattr(statistics, "_ALIKE_EXPONENT", 0.0)
    table, weights = _table(rows, seeds), _contrast(rows, *groups)
    ours = contrast_interval(table, weights)
    frame = pd.DataFrame(
        [(r, s, table[r, s]) for r in range(rows) for s in range(seeds)], columns=["row", "seed", "value"]
    )
    fitted = smf.ols("value ~ C(row) + C(seed) - 1", frame).fit()
    names = [f"C(row)[{row}]" for row in range(rows)]
    vector = pd.Series(0.0, index=fitted.params.index)
    vector[names] = weights
    theirs = fitted.t_test(vector.to_numpy())
    assert ours.df == fitted.df_resid == (rows - 1) * (seeds - 1)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.conf_int()[0]))
    assert ours.p_value == pytest.approx(float(theirs.pvalue))


@pytest.mark.parametrize("rows", [2, 3])
def test_two_rows_and_three_are_a_paired_difference(rows: int) -> None:
    table = _table(rows, 4)
    first, second = (dict(enumerate(row)) for row in table[:2])
    assert _same(contrast_interval(table, _contrast(rows)), paired_difference(second, first))
    assert contrast_interval(_table(4, 4), _contrast(4)).df > 3


@pytest.mark.parametrize(("rows", "seeds"), [(4, 3), (4, 9), (8, 5)])
@pytest.mark.parametrize("wild", [100.0, 1000.0])
def test_a_wild_row_leaves_the_others_to_their_own_spread(rows: int, seeds: int, wild: float) -> None:
    """One row that varies much more must not widen the comparisons of the others, nor lend them a spread."""
    widths = []
    for state in range(40):
        table = _table(rows, seeds, state)
        table[-1] = 80 + wild * np.random.default_rng(1000 + state).normal(size=seeds)
        alone = estimate(tuple(table[1] - table[0]))
        shared = contrast_interval(table, _contrast(rows))
        widths.append((shared.high - shared.low) / (alone.high - alone.low))
    assert np.median(widths) == pytest.approx(1.0, abs=0.02)
    assert np.mean(widths) < 1.3


def test_equal_spreads_are_tested_as_bartlett_does() -> None:
    table = np.random.default_rng(3).normal(size=(5, 7)) * np.array([1, 2, 1, 3, 1])[:, None]
    ours = bartlett_p_value(table.var(1, ddof=1), 6)
    assert float(ours) == pytest.approx(stats.bartlett(*table).pvalue)


def test_equal_spreads_are_found_equal_and_a_wild_row_is_found() -> None:
    draw = np.random.default_rng(1)
    tables = draw.normal(size=(4000, 5, 9))
    alike = equal_spread_p_value(tables - tables.mean(-1, keepdims=True))
    assert 0.05 <= float((alike < 0.05).mean()) <= 0.12
    tables[:, 2] *= 4
    assert float((equal_spread_p_value(tables - tables.mean(-1, keepdims=True)) < 0.05).mean()) > 0.9


@UNHURRIED
@given(st.integers(4, 8), st.integers(2, 9), st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_what_must_not_matter_does_not(rows: int, seeds: int, state: int, scale: float, shift: float) -> None:
    """The order of rows and of seeds, a row that is better by a constant, a seed that is better everywhere."""
    draw = np.random.default_rng(state)
    table, weights = draw.normal(size=(rows, seeds)), _contrast(rows)
    ours = contrast_interval(table, weights)
    order = draw.permutation(rows)
    assert _same(contrast_interval(table[order], weights[order]), ours)
    assert _same(contrast_interval(table[:, draw.permutation(seeds)], weights), ours)
    assert _same(contrast_interval(table + shift * draw.normal(size=(1, seeds)), weights), ours)
    moved = table.copy()
    moved[2] += shift
    assert _same(contrast_interval(moved, weights), ours)
    scaled, negative = contrast_interval(scale * table, weights), contrast_interval(table, -weights)
    assert (scaled.low, scaled.high) == pytest.approx((scale * ours.low, scale * ours.high), rel=1e-6, abs=1e-6)
    assert _same(negative, ours.turned)
    assert seeds - 1 <= ours.df <= (rows - 1) * (seeds - 1) + 1e-9


def test_where_nothing_is_to_be_shared_a_contrast_stands_on_its_own() -> None:
    table = _table(5, 3)
    alone = estimate(tuple(table[1] - table[0]))
    constant = np.vstack([table[:3], np.full(3, 10.0)])
    assert _same(contrast_interval(constant, _contrast(4)), alone)
    assert _same(contrast_interval(table, [1.0, 0, 0, 0, 0]), estimate(tuple(table[0])))
    # A row that never varies has nothing from the others either.
    flat = np.vstack([table, np.full(3, 10.0)])
    assert _same(contrast_interval(flat, [0, 1, 0, 0, 0, -1.0]), estimate(tuple(table[1] - 10.0)))
    assert not contrast_interval(table[:, :1], _contrast(5)).has_interval
    assert not contrast_interval(table[:1] + np.arange(5.0)[:, None], _contrast(5)).has_interval, "no row is apart"


def test_differences_that_are_all_alike_have_an_interval_where_the_table_has_a_spread() -> None:
    table = _table(5, 3)
    table[1] = table[0] + 2.0
    shared = contrast_interval(table, _contrast(5))
    assert (shared.sd, shared.no_spread) == (0.0, False)
    assert shared.low < 2.0 < shared.high
    assert contrast_interval(table[:2], [-1.0, 1.0]).no_spread


# --------------------------------------------------------------------------------------------- exclusion and the seeds


def test_a_table_excludes_what_lies_beyond_its_farthest_end() -> None:
    ends = [Estimate(0.0, 1.0, -2.1, 1.0, 3), Estimate(0.0, 1.0, -0.5, 1.7, 3)]
    assert excluded_beyond(ends) == 2.1
    assert math.isnan(excluded_beyond([*ends, estimate((1.0,))]))
    assert math.isnan(excluded_beyond([]))


def _by_quadrature(inside: object, df: float) -> float:
    """Return the mean over the estimated spread s / σ by QUADPACK."""

    def weighted(ratio: float) -> float:
        return float(stats.chi.pdf(ratio * math.sqrt(df), df)) * math.sqrt(df) * inside(ratio)  # type: ignore[operator]

    total, _ = integrate.quad(weighted, 0, 1 + 12 / math.sqrt(df), limit=500, points=(0.25, 0.5, 1.0), epsabs=1e-10)
    return float(total)


@pytest.mark.parametrize("seeds", [2, 3, 5, 9, 20])
@pytest.mark.parametrize("df_per_seed", [1.0, 2.5])
@pytest.mark.parametrize("truth", [0.0, 0.4])
def test_the_power_to_show_that_nothing_differs_is_the_integral(seeds: int, df_per_seed: float, truth: float) -> None:
    df = df_per_seed * (seeds - 1)
    for sd in (0.1, 0.5, 1.0):
        half = float(stats.t.ppf(0.975, df)) * sd / math.sqrt(seeds)
        error = sd / math.sqrt(seeds)

        def inside(ratio: float, half: float = half, error: float = error) -> float:
            upper, lower = 1 - truth - half * ratio, -1 - truth + half * ratio
            return max(0.0, float(stats.norm.cdf(upper / error) - stats.norm.cdf(lower / error)))

        ours = power_same(seeds, sd, 1.0, truth=truth, df_per_seed=df_per_seed)
        assert ours == pytest.approx(_by_quadrature(inside, df), abs=2e-4)


@pytest.mark.parametrize("df_per_seed", [1.0, 4.0])
def test_the_advised_seeds_have_the_power_in_simulated_studies(df_per_seed: float) -> None:
    draw = np.random.default_rng(4)
    counts = {
        "better": seeds_for_better(1.0, 1.0, df_per_seed=df_per_seed),
        "same": seeds_for_same(1.0, 1.0, df_per_seed=df_per_seed),
        "decided": seeds_to_decide(1.0, 1.0, df_per_seed=df_per_seed),
    }
    for kind, count in counts.items():
        assert count is not None
        shares = []
        for seeds in (count - 1, count):
            df = df_per_seed * (seeds - 1)
            mean = draw.normal(size=50_000) / math.sqrt(seeds)
            spread = np.sqrt(draw.chisquare(df, 50_000) / df / seeds)
            half = float(stats.t.ppf(0.975, df)) * spread
            reached = {"better": mean + 1 > half, "same": np.abs(mean) + half < 1, "decided": 2 * half < 1}[kind]
            shares.append(float(reached.mean()))
        assert shares[0] < 0.81
        assert shares[1] > 0.79


@pytest.mark.parametrize("image_error", [0.1, 0.2])
def test_test_images_limit_what_seeds_can_show(image_error: float) -> None:
    """Simulated: the mean moves with seeds and with images, and the half width is √((t s)² / n + (z e)²)."""
    draw, seeds, sd = np.random.default_rng(6), 6, 0.5
    error = math.hypot(sd / math.sqrt(seeds), image_error)
    mean = error * draw.normal(size=100_000)
    spread = sd * np.sqrt(draw.chisquare(seeds - 1, 100_000) / (seeds - 1))
    half = np.hypot(stats.t.ppf(0.975, seeds - 1) * spread / math.sqrt(seeds), 1.95996 * image_error)
    better, same = float((mean + 1 > half).mean()), float((np.abs(mean) + half < 1).mean())
    assert power_better(seeds, sd, 1.0, image_error=image_error) == pytest.approx(better, abs=0.006)
    assert power_same(seeds, sd, 1.0, image_error=image_error) == pytest.approx(same, abs=0.006)
    narrow = float((2 * half < 1.2).mean())
    assert power_narrow(seeds, sd, 1.2, image_error=image_error) == pytest.approx(narrow, abs=0.006)
    assert power_better(seeds, sd, 1.0, image_error=1e-9) == pytest.approx(power_better(seeds, sd, 1.0), abs=1e-5)


def test_no_number_of_seeds_makes_up_for_few_images() -> None:
    assert seeds_for_better(0.5, 1.0, image_error=0.6) is None
    assert seeds_for_same(0.5, 1.0, image_error=0.6) is None
    assert seeds_to_decide(0.5, 1.0, image_error=0.6) is None
    few, more = (seeds_for_same(0.5, 1.0, image_error=error) for error in (0.0, 0.2))
    assert few is not None
    assert more is not None
    assert few < more


@UNHURRIED
@given(st.integers(2, 3000), st.floats(0.02, 60), st.floats(0.01, 30), st.floats(1.0, 8.0))
def test_powers_are_probabilities_that_rise_with_seeds(seeds: int, sd: float, size: float, df_per_seed: float) -> None:
    for power in (
        lambda n: power_better(n, sd, size, df_per_seed=df_per_seed),
        lambda n: power_same(n, sd, size, df_per_seed=df_per_seed),
        lambda n: power_narrow(n, sd, size, df_per_seed=df_per_seed),
    ):
        assert -1e-12 <= power(seeds) <= 1 + 1e-12
        # Two seeds estimate a spread near zero now and then: three do worse, but neither has the power that is advised.
        assert power(seeds) < 0.5 or power(seeds) <= power(seeds + 1) + 1e-6


def test_a_wish_beyond_reason_has_no_number_of_seeds() -> None:
    assert seeds_to_decide(1.0, 1e-5) is None
    assert seeds_for_same(1.0, 1e-5) is None
    assert seeds_to_decide(1e-9, 1.0) == 2


def test_the_range_of_a_spread_by_hand() -> None:
    low, high = spread_range(2.0, 9.0)
    assert (low, high) == pytest.approx((2 * (9 / 19.0228) ** 0.5, 2 * (9 / 2.7004) ** 0.5), rel=1e-4)
