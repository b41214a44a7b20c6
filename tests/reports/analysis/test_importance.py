"""Importances: an effect that is there is found, one that is not is not, and the same trials give the same numbers."""

from __future__ import annotations

import random
from statistics import pvariance
from typing import Any

import pytest

from ablations.spec.factors import Factor
from reports.analysis.importance import FEWEST_TRIALS, METHODS, Importance, importances

FACTORS = {
    "strong": Factor(choices=("a", "b", "c")),
    "weak": Factor(choices=(2, 4, 8)),
    "rate": Factor(low=0.001, high=0.1, log=True),
}
EFFECT = {"a": 0.0, "b": 6.0, "c": 12.0}


def trials(count: int, noise: float = 1.0, effect: float = 1.0) -> tuple[list[dict[str, Any]], list[float]]:
    chance = random.Random(3)
    proposed = [
        {"strong": chance.choice("abc"), "weak": chance.choice((2, 4, 8)), "rate": 0.001 + 0.099 * chance.random()}
        for _ in range(count)
    ]
    return proposed, [50 + effect * EFFECT[one["strong"]] + chance.gauss(0, noise) for one in proposed]


def found(count: int, **more: float) -> dict[tuple[str, str], Importance]:
    listed = importances(*trials(count, **more), FACTORS, resamples=12)
    return {(one.factor, one.method): one for one in listed}


@pytest.fixture(scope="module")
def clear() -> dict[tuple[str, str], Importance]:
    """Forty trials with a strong effect."""
    return found(40)


def test_a_strong_effect_is_the_largest_share_and_beyond_chance(clear: dict[tuple[str, str], Importance]) -> None:
    for method in METHODS:
        shares = {name: clear[name, method].value for name in FACTORS}
        assert max(shares, key=lambda name: shares[name]) == "strong"
        assert clear["strong", method].is_beyond_chance
        assert not clear["weak", method].is_beyond_chance
    # Of the variance of the means, nearly all is the strong factor's.
    assert clear["strong", "fANOVA"].value > 0.8


def test_shares_add_up_and_intervals_are_in_order(clear: dict[tuple[str, str], Importance]) -> None:
    for method in METHODS:
        assert sum(clear[name, method].value for name in FACTORS) == pytest.approx(1)
    for one in clear.values():
        assert 0 <= one.low <= one.high <= 1
        assert 0 <= one.chance <= 1


def test_without_an_effect_hardly_anything_is_beyond_chance() -> None:
    nothing = found(30, effect=0.0)
    assert sum(one.is_beyond_chance for one in nothing.values()) <= 1


def test_the_same_trials_give_the_same_numbers() -> None:
    once, again = (importances(*trials(12), FACTORS, resamples=3) for _ in range(2))
    assert once == again


def test_too_few_trials_and_equal_accuracies_say_nothing() -> None:
    proposed, accuracies = trials(FEWEST_TRIALS)
    assert importances(proposed[1:], accuracies[1:], FACTORS) == []
    assert importances(proposed, [10.0] * len(proposed), FACTORS) == []
    assert importances(proposed, accuracies, FACTORS, resamples=2)


def test_accuracies_of_which_nearly_all_are_equal_are_no_error() -> None:
    proposed, _ = trials(12)
    listed = importances(proposed, [10.0] * 11 + [11.0], FACTORS, resamples=12)
    assert len(listed) == 6


def test_shares_of_a_whole_grid_are_those_of_its_variance() -> None:
    """Every combination once, effects that add up, no noise: the variance of each factor's means is its share."""
    effects = {"strong": {"a": 0.0, "b": 6.0, "c": 12.0}, "weak": {2: 0.0, 4: 3.0, 8: 6.0}}
    grid = [{"strong": strong, "weak": weak} for strong in "abc" for weak in (2, 4, 8)] * 4
    accuracies = [50 + effects["strong"][row["strong"]] + effects["weak"][row["weak"]] for row in grid]
    factors = {name: FACTORS[name] for name in effects}
    by_method = {(one.factor, one.method): one for one in importances(grid, accuracies, factors, resamples=3)}
    variance = {name: pvariance(list(values.values())) for name, values in effects.items()}
    expected = variance["strong"] / sum(variance.values())
    assert by_method["strong", "fANOVA"].value == pytest.approx(expected, abs=0.06)
    assert by_method["weak", "fANOVA"].value == pytest.approx(1 - expected, abs=0.06)
    assert by_method["strong", "PED-ANOVA"].value > by_method["weak", "PED-ANOVA"].value
