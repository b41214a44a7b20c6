"""Seed advice: how many seeds would show a difference of the size of interest, from the spread that was seen."""

from __future__ import annotations

from dataclasses import dataclass

from ablations.study import Study
from reports.blocks import Paragraph
from reports.formatting import number, per_cent
from reports.metrics import telling
from reports.statistics import ALPHA, MOST_SEEDS, POWER, Spread, pooled_spread, seeds_for_better
from reports.summary import StudySummary

_HARDLY_KNOWN = 10
"""So many times as many seeds at the upper end as at the lower, and the advice says that it is one in name only."""

_APART = 0.5
"""Correlation of two differences to one reference, of trainings that spread alike."""


@dataclass(frozen=True)
class Advice:
    """How many seeds a difference of a size takes; `None` beyond `statistics.MOST_SEEDS`.

    Attributes:
        size: The size of interest, in the unit of the metric.
        spread: Standard deviation of the paired differences over seeds, pooled.
        comparisons: Over how many comparisons.
        seeds: For the spread as seen.
        fewest: For the lower end of its interval.
        most: For the upper end.
    """

    size: float
    spread: Spread
    comparisons: int
    seeds: int | None
    fewest: int | None
    most: int | None

    @property
    def is_hardly_known(self) -> bool:
        """Whether the range is too wide to go by its middle."""
        return self.most is None or self.fewest is None or self.most > _HARDLY_KNOWN * self.fewest


def seed_advice(study: Study, summary: StudySummary) -> Advice | None:
    """Returns the advice for a study, or `None` where no difference spreads over seeds.

    Evaluations of one checkpoint may move together in any way, so that many of them say no more about the spread
    than one; variants that are trained apart share the seeds of the reference alone.
    """
    # The spread of what never learned is that of guessing.
    learned = [row for row in summary.tested if not row.unlearned and not summary.compared_with(row).unlearned]
    rows = [row for row in learned if row.delta and row.delta.has_interval]
    if not rows:
        return None
    spreads = [row.delta.sd for row in rows if row.delta]
    together = any(row.same_checkpoints for row in rows)
    spread = pooled_spread(spreads, summary.seeds, correlation=1.0 if together else _APART)
    size = study.size_of_interest or telling(study.metric).size
    counts = [seeds_for_better(sd, size) for sd in (spread.sd, spread.low, spread.high)]
    return Advice(size, spread, len(rows), *counts)


def advice_paragraph(study: Study, summary: StudySummary) -> Paragraph | None:
    """Returns the advice in words, or `None` if there is none."""
    advice = seed_advice(study, summary)
    if advice is None:
        return None
    told, spread = telling(study.metric), advice.spread
    sd, low, high = (number(value, told.decimals) for value in (spread.sd, spread.low, spread.high))
    pooled = f"pooled over {advice.comparisons} comparisons" if advice.comparisons > 1 else "of one comparison"
    size = f"{advice.size:g}{told.unit if advice.size != 1 else told.unit.removesuffix('s')}"
    words = [
        f"From seed to seed a paired difference varies by {sd}{told.unit} (standard deviation, {pooled}; 95 % interval "
        f"{low} to {high}).",
        f"At that spread {_seeds(advice.seeds)} show a true difference of {size} with {per_cent(POWER)} power (t test "
        f"at {per_cent(ALPHA)}, one comparison), {_range(advice)} within its interval; here are {summary.seeds}.",
    ]
    if advice.is_hardly_known:
        words.append(f"After {summary.seeds} seeds the spread is itself hardly known: the range is the answer.")
    if not summary.can_star and summary.seeds_for_a_star:
        words.append(f"A star in this table takes at least {summary.seeds_for_a_star}.")
    return Paragraph(" ".join(words), "Seeds")


def _seeds(count: int | None) -> str:
    return f"more than {MOST_SEEDS:,} seeds" if count is None else f"{count:,} seeds"


def _range(advice: Advice) -> str:
    few, many = (f"more than {MOST_SEEDS:,}" if n is None else f"{n:,}" for n in (advice.fewest, advice.most))
    return few if few == many else f"{few} to {many}"
