"""Looking several times: wrong verdicts over a whole run stay below 5 %, shown by simulation beside other designs."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from benchmarks.verdicts.looks import (
    LOOKS,
    SPREADS,
    TRUTHS,
    Runs,
    bounds_of,
    crossing,
    fixed,
    known_spread,
    naive,
    spending,
)
from benchmarks.verdicts.tables import Contrast, Method

RUNS = 10_000
NOISE = 100 * 3 * math.sqrt(0.05 * 0.95 / RUNS)
"""Three standard errors of 5 % in so many runs, in per cent: 0.65."""


@cache
def runs_with(method: Method) -> Runs:
    return Runs.draw(RUNS, method)


@pytest.mark.parametrize("method", [Contrast.alone, Contrast.shared], ids=["alone", "shared"])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("truth", TRUTHS)
def test_at_most_five_per_cent_of_runs_decide_wrongly(truth: float, spread: float, method: Method) -> None:
    assert runs_with(method).outcome(spending(), truth, spread).wrong <= 5 + NOISE


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("margin", [0.3, 0.5, 0.9])
def test_so_do_runs_whose_truth_is_the_margin_itself(margin: float, spread: float) -> None:
    assert runs_with(Contrast.alone).outcome(spending(), margin, spread, margin).wrong <= 5 + NOISE


@pytest.mark.parametrize("method", [Contrast.alone, Contrast.shared], ids=["alone", "shared"])
def test_all_looks_together_miss_the_truth_in_less_than_five_per_cent(method: Method) -> None:
    assert runs_with(method).missed(spending()) <= 5
    # Not so strict that nothing would ever be decided.
    assert runs_with(method).missed(spending()) >= 3


def test_looking_at_95_per_cent_each_time_would_miss_in_three_times_as_many() -> None:
    assert runs_with(Contrast.alone).missed(naive()) > 15
    assert runs_with(Contrast.alone).outcome(naive(), 0.0, 1.0).wrong > 12


def test_levels_of_a_random_walk_would_miss_too_often_with_paired_intervals() -> None:
    # So they are not used: the spread of three seeds is not known.
    assert runs_with(Contrast.alone).missed(known_spread()) > 5.3


def test_large_effects_take_a_fifth_of_the_seeds_of_a_fixed_design() -> None:
    outcome = runs_with(Contrast.shared).outcome(spending(), 3.0, 0.6)
    assert outcome.decided > 99.9
    assert outcome.seeds < 4
    assert runs_with(Contrast.shared).outcome(fixed(20), 3.0, 0.6).seeds == 20


def test_more_is_decided_than_with_five_seeds() -> None:
    sequential = runs_with(Contrast.shared).outcome(spending(), 1.0, 1.0)
    assert sequential.decided > runs_with(Contrast.shared).outcome(fixed(5), 1.0, 1.0).decided + 30
    assert sequential.seeds < 14


@pytest.mark.parametrize(
    ("bounds", "name"),
    [
        ([2.413] * 5, "Pocock"),
        ([2.040 * math.sqrt(5 / look) for look in range(1, 6)], "O'Brien and Fleming"),
    ],
    ids=["pocock", "obrien-fleming"],
)
def test_the_integration_gives_five_per_cent_for_the_bounds_in_textbooks(bounds: list[float], name: str) -> None:
    # Jennison and Turnbull, Group Sequential Methods (2000), tables 2.1 and 2.3: five looks, α = 0.05, two-sided.
    assert sum(crossing(range(1, 6), bounds)) == pytest.approx(0.05, abs=2e-4), name


def test_the_integration_agrees_with_drawn_random_walks() -> None:
    bounds = [3.0, 2.8, 2.4, 2.3, 2.1]
    steps = np.random.default_rng(0).normal(size=(200_000, LOOKS[-1])).cumsum(1)
    scaled = np.abs(steps[:, [seeds - 1 for seeds in LOOKS]]) / np.sqrt(LOOKS)
    beyond = scaled > bounds
    first = np.where(beyond.any(1), beyond.argmax(1), -1)
    drawn = [float((first == look).mean()) for look in range(len(LOOKS))]
    assert crossing(LOOKS, bounds) == pytest.approx(drawn, abs=1e-3)


def test_bounds_spend_the_errors_that_they_are_made_for() -> None:
    errors = spending().errors
    assert crossing(LOOKS, bounds_of(LOOKS, errors)) == pytest.approx(errors, rel=1e-6)
