"""The statistics against simulated studies, in the cases and with the repetitions that the quick suite leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.verdicts.tables import SCENARIOS, false_stars
from benchmarks.verdicts.tables import coverage as coverage_of_tables
from reports.analysis.statistics import estimate
from tests.reports.simulated import (
    Draw,
    coverage,
    normal,
    skewed,
    t_coverage,
    two_level_coverage,
    very_skewed,
)

pytestmark = pytest.mark.torture

SEEDS = pytest.mark.parametrize("seeds", [3, 5, 10])
NOISES = pytest.mark.parametrize("noise", [normal, skewed, very_skewed])


@NOISES
@SEEDS
def test_paired_differences(noise: Draw, seeds: int) -> None:
    assert 0.93 <= t_coverage(noise, seeds, 100_000, seed=1) <= 0.97


@NOISES
@SEEDS
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 1.5])
def test_seeds_and_images(noise: Draw, seeds: int, share: float) -> None:
    """From images alone (every seed has the same mean) to seeds that hide them."""
    assert 0.93 <= two_level_coverage(noise, seeds, 10_000, share=share, seed=1) <= 0.97


@SEEDS
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("rows", [3, 4, 5, 8, 13])
def test_false_stars(scenario: str, seeds: int, rows: int) -> None:
    assert false_stars(scenario, rows, seeds, tables=20_000) <= (6.6 if scenario == "skewed twofold" else 5.5)


@SEEDS
@pytest.mark.parametrize("scenario", ["equal", "twofold", "skewed", "failing"])
def test_shared_intervals(scenario: str, seeds: int) -> None:
    found = coverage_of_tables(scenario, (4, 5, 8), seeds, 30_000)
    assert found.worst >= 93.0
    assert 94.8 <= found.mean <= 98.5


@pytest.mark.parametrize(("scale", "least", "most"), [(0.5, 0.93, 0.95), (0.25, 0.89, 0.92), (0.0, 0.87, 0.91)])
@SEEDS
def test_what_the_docstrings_say_of_unequal_spreads(scale: float, least: float, most: float, seeds: int) -> None:
    """A variant as skewed as an exponential against a reference that varies `scale` times as much."""
    draw = np.random.default_rng(1)
    shape = (50_000, seeds)
    table = very_skewed(draw, shape) - scale * very_skewed(draw, shape)
    assert least <= coverage([estimate(tuple(row)) for row in table], 0.0) <= most
