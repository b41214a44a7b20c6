"""Effects and shares of a factorial study over random tables: orders of all factors, least squares, and coverage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm
from scipy import stats

from ablations.study import Study
from ablations.vocabulary import TEST_TOP1
from reports.analysis.factorial import FactorialSummary, summarize_factorial
from reports.analysis.statistics import contrast_interval, estimate, unknown
from reports.analysis.summary import StudySummary, VariantSummary

Array = npt.NDArray[np.float64]

SETTINGS: list[dict[str, Any]] = [
    {"model.num_kernels": 2},
    {"train.epochs": 3},
    {"model.width": 0.5},
    {"train.label_smoothing": 0.1},
    {"train.batch_size": 32},
]
HALVES = {3: "c = -a*b", 4: "d = a*b*c", 5: "e = -a*b*c*d"}
DESIGNS = [(2, False), (3, False), (4, False), (5, False), (3, True), (4, True), (5, True)]


def study_of(count: int, is_half: bool = False) -> Study:
    factors = {}
    for name, changes in zip("abcde", SETTINGS[:count], strict=False):
        factors[name] = {"on": {"changes": changes}}
    fraction = (HALVES[count],) if is_half else ()
    factorial = {"factors": factors, "fraction": fraction}
    return Study.model_validate({"name": "s", "title": "S", "question": "Q?", "factorial": factorial})


def summary_of(
    study: Study, values: Array, absent: Sequence[tuple[int, int]] = (), unlearned: int = -1
) -> StudySummary:
    """A summary of a table; `absent` are (row, seed), and the row `unlearned` never learned."""
    rows = []
    for index, variant in enumerate(study.variants):
        by_seed = {seed: float(value) for seed, value in enumerate(values[index]) if (index, seed) not in absent}
        rows.append(
            VariantSummary(
                network="",
                variant=variant.name,
                key=variant.name,
                expected=values.shape[1],
                values=by_seed,
                absent={seed: "failed" for row, seed in absent if row == index},
                estimate=estimate(tuple(by_seed.values())),
                checkpoints={seed: f"{variant.name} {seed}" for seed in by_seed},
                unlearned={0: "its loss"} if index == unlearned else {},
            )
        )
    return StudySummary("s", TEST_TOP1, study.reference, tuple(rows))


def table_of(study: Study, seeds: int, seed: int, spread: float = 0.5) -> Array:
    draw = np.random.default_rng(seed)
    rows = len(study.variants)
    return (
        80 + 3 * draw.normal(size=(rows, 1)) + draw.normal(size=(1, seeds)) + spread * draw.normal(size=(rows, seeds))
    )


def effects_of(study: Study, values: Array, **options: Any) -> FactorialSummary:
    result = summarize_factorial(study, summary_of(study, values, **options))
    assert result is not None
    return result


def signs_of(study: Study) -> dict[str, list[int]]:
    assert study.factorial is not None
    combinations = study.factorial.design.combinations.values()
    return {factor: [levels[factor] for levels in combinations] for factor in study.factorial.factors}


@pytest.mark.parametrize(("count", "is_half"), DESIGNS)
@pytest.mark.parametrize("seed", range(2))
def test_effects_are_those_of_least_squares_with_seeds_as_blocks(count: int, is_half: bool, seed: int) -> None:
    study, seeds = study_of(count, is_half), 3
    table = table_of(study, seeds, seed)
    result = effects_of(study, table)
    signs = signs_of(study)
    columns = []
    for effect in result.effects:
        column = np.prod([signs[factor] for factor in effect.aliases.term], axis=0)
        # Half, so that the coefficient is mean(on) − mean(off).
        columns.append(np.repeat(column, seeds) / 2)
    blocks = np.tile(np.eye(seeds), (len(table), 1))
    fit = sm.OLS(table.ravel(), np.column_stack([*columns, blocks])).fit()
    assert [effect.estimate.mean for effect in result.effects] == pytest.approx(fit.params[: len(columns)])
    for effect, coefficient in zip(result.effects, fit.params, strict=False):
        weights = np.prod([signs[factor] for factor in effect.aliases.term], axis=0) * 2 / len(table)
        expected = contrast_interval(table, weights)
        assert (effect.estimate.mean, effect.estimate.low) == pytest.approx((coefficient, expected.low))
        assert effect.p_value == pytest.approx(expected.p_value)
        assert effect.p_holm >= effect.p_value


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(2))
def test_shapley_values_are_those_of_all_orders_and_sum_to_the_gain(count: int, seed: int) -> None:
    study = study_of(count)
    table = table_of(study, 3, seed)
    result = effects_of(study, table)
    assert study.factorial is not None
    means = {}
    for levels, mean in zip(study.factorial.design.combinations.values(), table.mean(1), strict=True):
        means[frozenset(factor for factor, level in levels.items() if level == 1)] = mean
    for share in result.shares:
        gains = []
        for order in itertools.permutations(study.factorial.factors):
            before = frozenset(order[: order.index(share.factor)])
            gains.append(means[before | {share.factor}] - means[before])
        assert share.value.mean == pytest.approx(np.mean(gains))
    assert sum(share.value.mean for share in result.shares) == pytest.approx(result.gain.mean)
    assert result.gain.mean == pytest.approx(table[-1].mean() - table[0].mean())
    assert result.gain.low == pytest.approx(contrast_interval(table, [-1, *[0] * (len(table) - 2), 1]).low)


def test_shares_sum_to_one_where_there_is_a_gain() -> None:
    study = study_of(3)
    table = table_of(study, 4, 0, spread=0.1) + 5 * np.arange(8)[:, None]
    result = effects_of(study, table)
    assert result.gain.excludes_zero
    shares = [share.share for share in result.shares]
    assert sum(share.value for share in shares if share) == pytest.approx(1)
    for share, of_factor in zip(shares, result.shares, strict=True):
        assert share is not None
        assert share.value == pytest.approx(of_factor.value.mean / result.gain.mean)
        assert share.low < share.value < share.high


def test_the_ends_of_a_share_are_where_the_difference_touches_zero() -> None:
    study = study_of(2)
    table = table_of(study, 5, 1, spread=0.3) + np.array([[0], [4], [2], [9]])
    result = effects_of(study, table)
    for share, weights in zip(result.shares, ([-1, -1, 1, 1], [-1, 1, -1, 1]), strict=True):
        assert share.share is not None
        for end in (share.share.low, share.share.high):
            interval = contrast_interval(table, np.array(weights) / 2 - end * np.array([-1, 0, 0, 1]))
            assert min(abs(interval.low), abs(interval.high)) == pytest.approx(0, abs=1e-9)


def test_a_share_is_fiellers_in_closed_form_where_rows_stand_on_their_own() -> None:
    """A row that never varies leaves each contrast its own paired t interval, for which the ends are known."""
    study = study_of(2)
    table = table_of(study, 6, 2, spread=0.5) + np.array([[0], [4], [2], [12]])
    table[0] = 80.0
    result = effects_of(study, table)
    gain = table[3] - table[0]
    for share, value in zip(
        result.shares,
        ((table[2] + table[3] - table[0] - table[1]) / 2, (table[1] + table[3] - table[0] - table[2]) / 2),
        strict=True,
    ):
        covariance = np.cov(value, gain) / 6
        quantile = stats.t.ppf(0.975, 5)
        # (V − r G)² = t² (v − 2 r c + r² g) is quadratic in r.
        square = gain.mean() ** 2 - quantile**2 * covariance[1, 1]
        linear = -2 * (value.mean() * gain.mean() - quantile**2 * covariance[0, 1])
        constant = value.mean() ** 2 - quantile**2 * covariance[0, 0]
        assert share.share is not None
        assert [share.share.low, share.share.high] == pytest.approx(sorted(np.roots([square, linear, constant])))


def test_without_a_gain_there_are_no_shares() -> None:
    study = study_of(2)
    table = table_of(study, 3, 0, spread=2.0)
    table[3] = table[0] + np.array([0.5, -0.4, 0.1])
    result = effects_of(study, table)
    assert not result.gain.excludes_zero
    assert all(share.share is None and share.value.is_known for share in result.shares)


def test_a_missing_repeat_leaves_what_needs_it_missing() -> None:
    study = study_of(2)
    result = effects_of(study, table_of(study, 3, 0), absent=[(1, 2)])
    assert all(effect.estimate == unknown(2) and math.isnan(effect.p_holm) for effect in result.effects)
    assert all(share.value == unknown(2) and share.share is None for share in result.shares)
    # The gain needs two rows alone, which are whole.
    assert result.gain.n == 3
    assert result.gain.is_known
    assert result.strongest_interaction("a") is None


def test_rows_that_never_learned_leave_no_test() -> None:
    study = study_of(2)
    result = effects_of(study, table_of(study, 3, 0) + np.array([[0], [4], [2], [40]]), unlearned=0)
    assert all(
        effect.estimate.is_known and math.isnan(effect.p_value) and not effect.stars for effect in result.effects
    )
    assert all(share.share is None for share in result.shares)


def test_the_strongest_interaction_of_each_factor() -> None:
    study = study_of(3)
    signs = {factor: np.array(column) for factor, column in signs_of(study).items()}
    means = 80 + signs["a"] * signs["b"] + 0.2 * signs["b"] * signs["c"] - 3 * signs["a"] * signs["b"] * signs["c"]
    result = effects_of(study, means[:, None] + np.array([[0.0, 1.0, 2.0]]))
    strongest = {}
    for factor in "abc":
        effect = result.strongest_interaction(factor)
        assert effect is not None
        strongest[factor] = effect.aliases.term
    assert strongest == {"a": ("a", "b"), "b": ("a", "b"), "c": ("b", "c")}
    assert result.main_effect("a").estimate.mean == pytest.approx(0)


@pytest.mark.torture
def test_coverage_of_effects_and_shares() -> None:
    """Tables of a known truth: 95 % intervals of effects, Shapley values and shares hold it about as often."""
    study = study_of(3)
    draw = np.random.default_rng(11)
    truth = np.array([70.0, 71.0, 72.0, 74.0, 75.0, 77.0, 75.0, 82.0])[:, None]
    true = effects_of(study, truth + np.zeros((8, 3)))
    effects, values, shares = [], [], []
    for _ in range(70):
        table = truth + draw.normal(size=(1, 3)) + 0.8 * draw.normal(size=(8, 3))
        result = effects_of(study, table)
        for effect, expected in zip(result.effects, true.effects, strict=True):
            effects.append(effect.estimate.low <= expected.estimate.mean <= effect.estimate.high)
        for share, expected_share in zip(result.shares, true.shares, strict=True):
            values.append(share.value.low <= expected_share.value.mean <= share.value.high)
            if share.share is not None:
                shares.append(share.share.low <= expected_share.value.mean / 12 <= share.share.high)
    assert len(shares) > 190
    assert 0.93 <= np.mean(effects) <= 0.985
    assert 0.93 <= np.mean(values) <= 0.985
    assert 0.93 <= np.mean(shares) <= 0.985
