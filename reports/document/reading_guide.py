"""This module says once how to read the tables of a report on several studies, which then need fewer notes each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablations.planning.plan import Plan
from ablations.published import CONFIDENCE_NOTES, SOURCE
from reports.analysis.statistics import ALPHA
from reports.analysis.summary import StudySummary
from reports.content.blocks import Note
from reports.content.plan_words import specs_of
from reports.figures.data import CURVES_LEGEND, VALUES_LEGEND
from reports.tables.claims import judged_words
from reports.tables.uncertainty_words import IMPROVEMENT


def reading_guide(plan: Plan, summaries: Sequence[StudySummary]) -> tuple[Note, ...]:
    """Return what the tables and figures of all studies have in common, as notes of the first table."""
    return tuple(map(Note, _sentences(plan, summaries)))


def has_one_epoch(plan: Plan) -> bool:
    """Return True if no training of a plan has more than one epoch, so that nothing can be shown over epochs."""
    epochs = [spec.train.epochs for study in plan.studies for spec in specs_of(plan, study.name)]
    return max(epochs, default=0) == 1


def _sentences(plan: Plan, summaries: Sequence[StudySummary]) -> Iterator[str]:
    yield judged_words(plan)
    if any(study.published_table is not None for study in plan.studies):
        yield (
            f"Published numbers, in small print, are those of {SOURCE}, where a note names no other source; B: "
            f"{CONFIDENCE_NOTES['B']}; C: {CONFIDENCE_NOTES['C']}. They are of ImageNet, another network or another "
            "schedule, of which the paper's is not known to us in full: compare the order of the rows and the signs of "
            "the differences, not the numbers."
        )
    yield (
        f"Stars, where a table has any: * p < {ALPHA:g}, ** p < {ALPHA / 5:g}, from the intervals, two-sided, "
        "corrected by Holm over the comparisons of the table. The p-values are in the appendix."
    )
    if any(summary.has_improvements for summary in summaries):
        yield (
            f"{IMPROVEMENT}: share of pairs of repeats in which the row is better than the reference, half for a tie. "
            "The appendix has its intervals."
        )
    yield f"Figures of a study's metric: {_lowered(VALUES_LEGEND)} Figures of its training: {_lowered(CURVES_LEGEND)}"

    if has_one_epoch(plan):
        yield "There are no figures over the epochs of the trainings: each has one."


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
