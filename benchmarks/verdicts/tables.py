"""This module simulates tables of trainings of known truth: coverage, false stars, and verdicts on true effects.

The intervals are those of `reports.analysis.statistics`, for many tables at once, since one at a time would take hours.

Legend: N simulated tables, R rows of each, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from reports.analysis.statistics import ALPHA, LEVEL, Array, shared_variance

Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]
Verdicts = npt.NDArray[np.int64]

UNDECIDED, REPRODUCED, CONTRADICTED, SAME = range(4)
SEEDS = (2, 3, 5, 9)
ROWS = (4, 5, 8)
TRUTHS = (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)
SIZE = 1.0
"""The size of interest, in points; a difference varies by as much from seed to seed in the tables of verdicts."""


def normal(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return values of mean 0 and standard deviation 1."""
    return draw.normal(size=shape)


def skewed(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return values of mean 0, standard deviation 1 and skewness −2: mostly good seeds, now and then a bad one."""
    # An exponential has mean 1, standard deviation 1 and skewness 2.
    return 1.0 - draw.exponential(size=shape)


def failing(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return normal values of which one in ten lies five standard deviations lower."""
    # One in ten, five lower, is half a deviation on average, which is added back.
    return draw.normal(size=shape) - 5.0 * (draw.random(size=shape) < 0.1) + 0.5


@dataclass(frozen=True)
class Scenario:
    """The spread of the rows of a table over seeds.

    Attributes:
        title: In words.
        spread: Standard deviation of a row by its index and the number of rows.
        noise: Shape of the distribution.
    """

    title: str
    spread: Callable[[int, int], float]
    noise: Noise = normal


SCENARIOS = {
    "equal": Scenario("equal", lambda row, rows: 1.0),
    "twofold": Scenario("half of the rows twofold", lambda row, rows: 1.0 + (row >= rows - rows // 2)),
    "skewed": Scenario("skewed", lambda row, rows: 1.0, skewed),
    "skewed twofold": Scenario("skewed, half twofold", lambda row, rows: 1.0 + (row >= rows - rows // 2), skewed),
    "failing": Scenario("one seed in ten fails", lambda row, rows: 1.0, failing),
    "fourfold half": Scenario("half of the rows fourfold", lambda row, rows: 1.0 + 3 * (row >= rows - rows // 2)),
    "fourfold one": Scenario("one row fourfold", lambda row, rows: 1.0 + 3 * (row == rows - 1)),
    "twentyfold one": Scenario("one row twentyfold", lambda row, rows: 1.0 + 19 * (row == rows - 1)),
}


def draw_tables(scenario: str, rows: int, seeds: int, tables: int, seed: int = 0) -> Array:
    """Return tables without any difference, (N, R, S), in which a seed moves all rows by half a deviation, too."""
    kind = SCENARIOS[scenario]
    draw = np.random.default_rng([seed, rows, seeds, list(SCENARIOS).index(scenario)])
    spreads = np.array([[kind.spread(row, rows)] for row in range(rows)])
    return spreads * kind.noise(draw, (tables, rows, seeds)) + 0.5 * draw.normal(size=(tables, 1, seeds))


def pairs(rows: int) -> list[tuple[int, int]]:
    """Return the comparisons that are looked at: every row with the first, and the last two with each other."""
    return sorted({*((row, 0) for row in range(1, rows)), (rows - 1, rows - 2)})


@dataclass(frozen=True)
class Contrast:
    """One comparison in many tables: means, standard errors and degrees of freedom, each (N,)."""

    mean: Array
    error: Array
    df: Array

    @classmethod
    def shared(cls, tables: Array, better: int, worse: int) -> Contrast:
        """Return a comparison whose variance is estimated from the whole table, as in a report."""
        rows, seeds = tables.shape[-2:]
        if rows < 4:
            return cls.alone(tables, better, worse)
        weights = np.eye(rows)[better] - np.eye(rows)[worse]
        variance, df = shared_variance(tables, weights)
        return cls((tables[:, better] - tables[:, worse]).mean(-1), np.sqrt(variance / seeds), df)

    @classmethod
    def alone(cls, tables: Array, better: int, worse: int) -> Contrast:
        """Return a comparison whose variance is estimated from its own differences: the paired t."""
        difference, seeds = tables[:, better] - tables[:, worse], tables.shape[-1]
        df = np.full(len(tables), seeds - 1.0)
        return cls(difference.mean(-1), difference.std(-1, ddof=1) / math.sqrt(seeds), df)

    @classmethod
    def pooled(cls, tables: Array, better: int, worse: int) -> Contrast:
        """Return a comparison with the error of the two-way analysis of variance, as if all rows had one spread."""
        rows, seeds = tables.shape[-2:]
        # Without the means of rows and of seeds, there is only noise left.
        residuals = tables - tables.mean(-1, keepdims=True)
        residuals = residuals - residuals.mean(-2, keepdims=True)
        df = (rows - 1) * (seeds - 1)
        variance = 2 * (residuals**2).sum((-2, -1)) / df
        mean = (tables[:, better] - tables[:, worse]).mean(-1)
        return cls(mean, np.sqrt(variance / seeds), np.full(len(tables), float(df)))

    def half_width(self, level: float = LEVEL) -> Array:
        """Return half the width of the intervals, (N,)."""
        return np.asarray(-special.stdtrit(self.df, (1 - level) / 2) * self.error)

    @property
    def p_value(self) -> Array:
        """Two-sided p-values of the means, (N,)."""
        return np.asarray(2 * special.stdtr(self.df, -np.abs(self.mean) / self.error))


Method = Callable[[Array, int, int], Contrast]


@dataclass(frozen=True)
class Coverage:
    """Coverage in per cent, on average over comparisons and of the worst, and the width relative to the paired t."""

    mean: float
    worst: float
    width: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} / {self.worst:.1f} / {self.width:.2f}"


def coverage(scenario: str, rows: Sequence[int], seeds: int, tables: int, method: Method = Contrast.shared) -> Coverage:
    """Return the coverage of the 95 % intervals of tables of several sizes."""
    covered, widths = [], []
    for count in rows:
        drawn = draw_tables(scenario, count, seeds, tables)
        for better, worse in pairs(count):
            # The true difference is zero, so an interval covers it if the mean lies within half its width.
            half_widths = method(drawn, better, worse).half_width()
            mean = (drawn[:, better] - drawn[:, worse]).mean(-1)
            covered.append(100 * float((np.abs(mean) <= half_widths).mean()))
            widths.append(float(half_widths.mean() / Contrast.alone(drawn, better, worse).half_width().mean()))
    return Coverage(float(np.mean(covered)), min(covered), float(np.mean(widths)))


def false_stars(scenario: str, rows: int, seeds: int, tables: int, method: Method = Contrast.shared) -> float:
    """Return the per cent of tables without any difference in which a comparison with the first row gets a star."""
    drawn = draw_tables(scenario, rows, seeds, tables, seed=1)
    smallest = np.min([method(drawn, row, 0).p_value for row in range(1, rows)], axis=0)
    # The first step of Holm's correction decides whether there is any.
    return 100 * float((smallest * (rows - 1) < ALPHA).mean())


def judge(low: Array, high: Array, size: float = SIZE, margin: float = 0.0) -> Verdicts:
    """Return the verdicts on a claim of superiority by more than a margin, by its intervals."""
    within = (low > -size) & (high < size)
    # In this order: an interval within the size of interest may also lie above or below the margin.
    return np.select([low > margin, high < margin, within], [REPRODUCED, CONTRADICTED, SAME], UNDECIDED)


def judge_single(tables: Array, truth: float) -> Verdicts:
    """Return the verdicts on the second row of each table against the first, which it beats by `truth`."""
    contrast = Contrast.shared(tables, 1, 0)
    half_widths = contrast.half_width()
    return judge(contrast.mean + truth - half_widths, contrast.mean + truth + half_widths)


def judge_all(tables: Array, truths: Sequence[float]) -> Verdicts:
    """Return the verdicts on the claim that several rows beat the first, which they do by `truths`.

    It is reproduced if every contrast is, at 95 %. One contrast is enough to contradict it, or to show that it is about
    nothing, so for these the level is 1 − 0.05 / k with k contrasts.
    """
    plain: list[Verdicts] = []
    strict: list[Verdicts] = []
    for row, truth in enumerate(truths, 1):
        contrast = Contrast.shared(tables, row, 0)
        for level, verdicts in ((LEVEL, plain), (1 - (1 - LEVEL) / len(truths), strict)):
            half_widths = contrast.half_width(level)
            verdicts.append(judge(contrast.mean + truth - half_widths, contrast.mean + truth + half_widths))
    reproduced = np.all(np.array(plain) == REPRODUCED, axis=0)
    present = {verdict: np.any(np.array(strict) == verdict, axis=0) for verdict in (CONTRADICTED, SAME)}
    return np.select([reproduced, present[CONTRADICTED], present[SAME]], [REPRODUCED, CONTRADICTED, SAME], UNDECIDED)


def is_wrong(verdict: int, truths: Sequence[float], size: float = SIZE, margin: float = 0.0) -> bool:
    """Return True if a verdict on the claim that all of some differences exceed a margin is false, given the truth."""
    if verdict == REPRODUCED:
        return min(truths) <= margin
    if verdict == CONTRADICTED:
        return min(truths) >= margin
    return verdict == SAME and all(abs(truth) >= size for truth in truths)


def shares(verdicts: Verdicts) -> str:
    """Return the share of each verdict in per cent: reproduced / contradicted / practically the same / undecided."""
    order = (REPRODUCED, CONTRADICTED, SAME, UNDECIDED)
    return " / ".join(f"{100 * float((verdicts == verdict).mean()):.0f}" for verdict in order)


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_scenario(cell: Callable[[str, int], str]) -> str:
    rows = [[kind.title, *(cell(name, seeds) for seeds in SEEDS)] for name, kind in SCENARIOS.items()]
    return markdown(["spreads", *(f"{seeds} seeds" for seeds in SEEDS)], rows)


def _by_truth(tables: int) -> str:
    # Two rows of deviation 1 / √2 differ by a deviation of 1.
    drawn = {seeds: draw_tables("equal", 5, seeds, tables, seed=2) / math.sqrt(2) for seeds in SEEDS}
    rows = [
        [f"{truth:+g}" if truth else "0", *(shares(judge_single(drawn[s], truth)) for s in SEEDS)] for truth in TRUTHS
    ]
    return markdown(["true difference", *(f"{seeds} seeds" for seeds in SEEDS)], rows)


def _by_claim(tables: int) -> str:
    rows = []
    for count in (2, 4):
        drawn = {seeds: draw_tables("equal", 5, seeds, tables, seed=3) / math.sqrt(2) for seeds in SEEDS}
        patterns = [(truth,) * count for truth in (0.0, 0.3, 1.0, 3.0)]
        patterns += [(weakest, *(3.0,) * (count - 1)) for weakest in (0.0, -0.3, -1.0, -3.0)]
        for truths in patterns:
            pattern = ", ".join(f"{truth:+g}" if truth else "0" for truth in truths)
            rows.append([pattern, *(shares(judge_all(drawn[seeds], truths)) for seeds in SEEDS)])
    return markdown(["true differences", *(f"{seeds} seeds" for seeds in SEEDS)], rows)


def printed_tables(tables: int) -> dict[str, str]:
    """Return the tables of docs/explanation/statistics.md by their titles, from so many simulated tables per number."""
    return {
        "Coverage of 95 % intervals: mean / worst comparison (%) / width relative to the paired t": _by_scenario(
            lambda name, seeds: str(coverage(name, ROWS, seeds, tables))
        ),
        "Tables without any difference that get a star (%), 4 / 5 / 8 rows": _by_scenario(
            lambda name, seeds: " / ".join(_stars(name, seeds, tables))
        ),
        "One contrast: reproduced / contradicted / practically the same / undecided (%)": _by_truth(tables),
        "A claim of two or four contrasts: the same": _by_claim(tables),
    }


def _stars(name: str, seeds: int, tables: int) -> list[str]:
    return [f"{false_stars(name, rows, seeds, tables):.1f}" for rows in ROWS]
