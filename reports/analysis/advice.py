"""This module gives seed advice: the seeds that would show a difference of the size of interest, or that there is none.

Each comparison has its own spread, and they differ thirtyfold within a table, so each has advice of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ablations.study import Study
from reports.analysis.statistics import MOST_SEEDS, POWER, seeds_for_better, seeds_for_same, spread_range
from reports.analysis.summary import StudySummary, VariantSummary
from reports.content.blocks import Paragraph
from reports.content.formatting import number, per_cent
from reports.content.plan_words import network_titles, short_titles

_HARDLY_KNOWN = 1.5
"""The advice warns of a spread that may be more than so many times as large as it was seen."""


@dataclass(frozen=True)
class Advice:
    """The seeds that a comparison takes, each number with 80 % power; `None` where none below 100,000 is enough.

    Attributes:
        size: The size of interest, in the unit of the metric.
        sd: Standard deviation over seeds of its paired difference, as its interval has it.
        most_sd: Upper end of the 95 % interval of that.
        for_difference: Seeds that show a true difference of `size`.
        for_none: Seeds that show that there is none, where there is none.
    """

    row: VariantSummary
    size: float
    sd: float
    most_sd: float
    for_difference: int | None
    for_none: int | None


def seed_advice(study: Study, summary: StudySummary) -> tuple[Advice, ...]:
    """Return the advice for each comparison of a study that can be tested, in the order of its rows."""
    size = study.smallest_of_interest
    # Of results that were made elsewhere, nobody may have said which difference matters.
    if math.isnan(size):
        return ()
    advice = []
    for row in summary.tested:
        # A tested row has a difference; the check below is for the types alone.
        delta = row.delta
        # A network that was trained elsewhere has no further seeds.
        if delta is None or delta.images_alone:
            continue
        sd, per_seed, images = delta.interval_sd, delta.df_per_seed, delta.image_error
        most_sd = spread_range(sd, delta.df)[1]
        for_difference = seeds_for_better(sd, size, df_per_seed=per_seed, image_error=images)
        for_none = seeds_for_same(sd, size, df_per_seed=per_seed, image_error=images)
        advice.append(Advice(row, size, sd, most_sd, for_difference, for_none))
    return tuple(advice)


def advice_paragraph(study: Study, summary: StudySummary) -> Paragraph | None:
    """Return the advice in words, for the comparison that takes the fewest seeds and the one that takes the most."""
    advice = sorted(seed_advice(study, summary), key=_need)
    if not advice:
        return None
    easiest, neediest = advice[0], advice[-1]
    size, unit = easiest.size, study.metric_facts.unit
    if size == 1:
        unit = unit.removesuffix("s")
    sentence = (
        f"With {per_cent(POWER)} power a true difference of {size:g}{unit} would be shown, or be shown not to be "
        f"there, by {seeds_words(easiest)} seeds for {_named(study, easiest)}"
    )
    if len(advice) > 2:
        sentence += f", {seeds_words(advice[len(advice) // 2])} for the row in the middle"
    if len(advice) > 1:
        sentence += f", {seeds_words(neediest)} for {_named(study, neediest)}"
    sentences = [f"{sentence}; here are {summary.seeds}."]
    # A spread from few seeds is uncertain itself, and the number of seeds grows with its square.
    factor = max(row_advice.most_sd / row_advice.sd for row_advice in advice)
    if factor > _HARDLY_KNOWN:
        sentences.append(
            f"After {summary.seeds} seeds a spread is itself hardly known: it may be up to {factor:.1f} times as "
            f"large, which takes {factor**2:.0f} times as many."
        )
    if len(advice) > 1:
        sentences.append("The appendix has the number for each row.")
    return Paragraph(" ".join(sentences), "Seeds")


def seeds_words(advice: Advice) -> str:
    """Return the seeds that show a difference and the seeds that show that there is none, as one text."""
    for_difference, for_none = _count(advice.for_difference), _count(advice.for_none)
    if for_difference == for_none:
        return for_none
    return f"{for_difference} or {for_none}"


def _count(seeds: int | None) -> str:
    if seeds is None:
        return f"> {MOST_SEEDS:,}"
    return f"{seeds:,}"


def _need(advice: Advice) -> tuple[float, float]:
    """Return the sort key of an advice: the seeds that it asks for, then the spread."""
    # Comparisons that no number of seeds decides sort last.
    beyond = MOST_SEEDS + 1
    return advice.for_difference or beyond, advice.sd


def _named(study: Study, advice: Advice) -> str:
    metric = study.metric_facts
    spread = f"spread of its difference from seed to seed {number(advice.sd, metric.decimals)}{metric.unit}"
    network = network_titles(study)[advice.row.network]
    if network:
        spread = f"{network}; {spread}"
    return f"“{short_titles(study)[advice.row.variant]}” ({spread})"
