"""This module simulates runs that add seeds until a claim is decided: wrong verdicts over all looks, and seeds used.

A run looks at its claim after some numbers of seeds and stops at the first verdict. Designs differ in their looks and
in the level of the interval at each: error spending (`ablations.protocol.spending`), one look at a fixed number of
seeds, 95 % at each look, and the levels of a Gaussian random walk, which take the spread for known.

Legend: N simulated runs, R rows of a table, S seeds, L looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from ablations.protocol.spending import share_of_error
from ablations.protocol.stopping import StoppingRule
from benchmarks.verdicts.tables import (
    SCENARIOS,
    SIZE,
    UNDECIDED,
    Contrast,
    Method,
    draw_tables,
    is_wrong,
    judge,
    markdown,
)
from reports.analysis.statistics import ALPHA

LOOKS = StoppingRule(20).looks(3)
ROWS = 6
TRUTHS = (0.0, 0.3, 1.0, 3.0)
"""True differences in points; 1 is the size of interest, and 0 the margin."""
SPREADS = (0.6, 1.0)
"""Standard deviations of the paired difference from seed to seed, in points."""

_GRID = 601


@dataclass(frozen=True)
class Design:
    """A way to look: numbers of seeds, and the error of the interval at each.

    Attributes:
        title: In words.
        errors: For each look, the chance that its interval misses the truth.
    """

    title: str
    looks: tuple[int, ...]
    errors: tuple[float, ...]


def spending(looks: tuple[int, ...] = LOOKS, alpha: float = ALPHA) -> Design:
    """Return the design of `run --until-decided`."""
    return Design("until decided", looks, tuple(alpha * share_of_error(looks, seeds) for seeds in looks))


def fixed(seeds: int) -> Design:
    """Return the design of one look at a number of seeds."""
    return Design(f"{seeds} seeds", (seeds,), (ALPHA,))


def naive(looks: tuple[int, ...] = LOOKS) -> Design:
    """Return the design that looks again and again at 95 % intervals."""
    return Design("95 % at each look", looks, (ALPHA,) * len(looks))


def known_spread(looks: tuple[int, ...] = LOOKS) -> Design:
    """Return the design whose levels spend the same errors, if the looks were those of a Gaussian random walk."""
    bounds = bounds_of(looks, spending(looks).errors)
    return Design("levels of a random walk", looks, tuple(2 * float(special.ndtr(-bound)) for bound in bounds))


def crossing(information: Sequence[float], bounds: Sequence[float]) -> list[float]:
    """Return the chance that a Gaussian random walk first leaves ± its bound at each look.

    Source: the recursive integration of Armitage, McPherson and Rowe, JRSS A 132 (1969).

    Args:
        information: (L,), rising: the variance of the walk at each look.
        bounds: (L,), for the walk divided by its standard deviation.
    """
    chances: list[float] = []
    points, masses, reached = np.zeros(1), np.ones(1), 0.0
    for value, bound in zip(information, bounds, strict=True):
        edge, step = bound * math.sqrt(value), math.sqrt(value - reached)
        # The walk was at `points` with `masses`; a step of it is normal.
        beyond = special.ndtr((-edge - points) / step) + special.ndtr((points - edge) / step)
        chances.append(float(masses @ beyond))
        inside = np.linspace(-edge, edge, _GRID)
        weights = np.full(_GRID, inside[1] - inside[0])
        # The trapezoidal rule takes the ends by half.
        weights[[0, -1]] /= 2
        masses = weights * (stats.norm.pdf((inside[:, None] - points) / step) / step @ masses)
        points, reached = inside, value
    return chances


def bounds_of(information: Sequence[float], errors: Sequence[float]) -> list[float]:
    """Return the bounds that a Gaussian random walk first leaves with some chance at each look; see `crossing`."""
    bounds: list[float] = []
    for look, error in enumerate(errors, 1):
        # Only the last bound is free, the earlier ones are known by then.
        def excess(bound: float, look: int = look, error: float = error) -> float:
            return crossing(information[:look], [*bounds, bound])[-1] - error

        bounds.append(float(optimize.brentq(excess, 0.0, 20.0)))
    return bounds


@dataclass(frozen=True)
class Outcome:
    """What a design does: wrong and right decisions in per cent of the runs, and the average number of seeds."""

    wrong: float
    decided: float
    seeds: float

    def __str__(self) -> str:
        return f"{self.wrong:.1f} / {self.decided:.0f} / {self.seeds:.1f}"


@dataclass(frozen=True)
class Runs:
    """Simulated runs: the comparison of two rows after each number of seeds, of true difference 0 and spread 1.

    Attributes:
        contrasts: The comparison by number of seeds.
    """

    contrasts: dict[int, Contrast]

    @classmethod
    def draw(cls, runs: int, method: Method = Contrast.shared, scenario: str = "equal") -> Runs:
        """Return runs in which a comparison's variance is estimated in one way, in tables of one scenario."""
        # Two rows of deviation 1 / √2 differ by a deviation of 1. In unequal tables the last two rows are compared.
        drawn = draw_tables(scenario, ROWS, LOOKS[-1], runs, seed=4) / math.sqrt(2)
        contrasts = {}
        for seeds in LOOKS:
            contrasts[seeds] = method(drawn[..., :seeds], ROWS - 1, ROWS - 2)
        return cls(contrasts)

    def missed(self, design: Design) -> float:
        """Return the per cent of runs in which the interval of any look misses the truth, were all looks taken."""
        missed = []
        for seeds, error in zip(design.looks, design.errors, strict=True):
            missed.append(self.contrasts[seeds].p_value < error)
        return 100 * float(np.any(missed, axis=0).mean())

    def outcome(self, design: Design, truth: float, spread: float, margin: float = 0.0) -> Outcome:
        """Return what a design does of a claim, for a true difference and a spread from seed to seed in points."""
        verdicts = np.full(len(self.contrasts[LOOKS[0]].mean), UNDECIDED)
        used = np.full(len(verdicts), design.looks[-1])
        for seeds, error in zip(design.looks, design.errors, strict=True):
            contrast = self.contrasts[seeds]
            mean, half_widths = truth + spread * contrast.mean, spread * contrast.half_width(1 - error)
            verdicts_now = judge(mean - half_widths, mean + half_widths, SIZE, margin)
            # A run that was decided has stopped.
            stops = (verdicts == UNDECIDED) & (verdicts_now != UNDECIDED)
            verdicts, used = np.where(stops, verdicts_now, verdicts), np.where(stops, seeds, used)
        wrong = 0.0
        for verdict in np.unique(verdicts):
            if is_wrong(int(verdict), [truth], margin=margin):
                wrong += 100 * float((verdicts == verdict).mean())
        return Outcome(wrong, 100 * float((verdicts != UNDECIDED).mean()), float(used.mean()))


def _by_design(runs: Runs) -> str:
    designs = (spending(), fixed(20), fixed(5), naive())
    cases = [(truth, spread, 0.0) for spread in SPREADS for truth in TRUTHS]
    # A truth exactly at the margin of a claim, which no verdict is right about but the third.
    cases += [(0.5, spread, 0.5) for spread in SPREADS]
    rows = []
    for truth, spread, margin in cases:
        outcomes = [str(runs.outcome(design, truth, spread, margin)) for design in designs]
        rows.append([f"{spread:g}", f"{truth:g}", f"{margin:g}", *outcomes])
    return markdown(["spread", "true difference", "margin", *(design.title for design in designs)], rows)


def _by_scenario(runs: int) -> str:
    designs = (spending(), known_spread(), naive())
    rows = []
    for name, kind in SCENARIOS.items():
        for title, method in (("of the pair", Contrast.alone), ("shared by the table", Contrast.shared)):
            drawn = Runs.draw(runs, method, name)
            rows.append([kind.title, title, *(f"{drawn.missed(design):.1f}" for design in designs)])
    return markdown(["spreads of the rows", "variance", *(design.title for design in designs)], rows)


def printed_tables(runs: int) -> dict[str, str]:
    """Return the tables of docs/until-decided.md by their titles, from so many simulated runs per number."""
    alone, shared = Runs.draw(runs, Contrast.alone), Runs.draw(runs)
    heading = "wrong / decided (% of the runs) / average number of seeds"
    return {
        f"Variance shared by a table of {ROWS} rows: {heading}": _by_design(shared),
        f"Variance of the pair alone: {heading}": _by_design(alone),
        "Runs in which the interval of any look misses the truth (%)": _by_scenario(runs),
    }
