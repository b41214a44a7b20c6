"""What the uncertainties in a report are, in words: what an interval covers, when a star is possible, the method.

Tables, sentences and the appendix share these words. The numbers are in `reports.statistics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ablations.study import Study
from reports.blocks import Note
from reports.correctness import PER_IMAGE
from reports.facts import short_titles
from reports.formatting import number
from reports.statistics import ALPHA, Estimate, smallest_p_value
from reports.summary import StudySummary, VariantSummary

COVERS_IMAGES = "‡"
"""Marks an interval over seeds and test images where others in the table are over seeds alone."""

SEEDS, BOTH = "over seeds", "over seeds and test images"
STARS = "stars"
"""Heading of the column of stars."""

_LISTED = 6

INTERVALS = (
    "Every ± is the standard deviation over training seeds (n − 1), and differences are paired: the r-th repeat of "
    "every variant starts from the same seed and sees the training images in the same order. Where two rows are "
    "trained apart, the interval of their difference is Student's t over seeds: it says what other seeds would have "
    "given on the same test images. Where two rows measure the same checkpoints, it is over seeds and test images, "
    "crossed: it says what other seeds and other test images of the same kind would have given (variance components, "
    "Graybill and Wang 1980). No interval covers the choice of the data set, and each holds for its comparison alone."
)
COVERAGE = (
    "In simulated studies with 3, 5 and 10 seeds these intervals cover the truth in 93 to 97 % of the cases, for "
    "normal values and for skewed ones; of a variant that varies several times as much as the other and is very "
    "skewed, in 90 %. The bars of the figures, which are about a mean and not about a difference, cover 88 % of means "
    "of very skewed values."
)
P_VALUES = (
    "A p-value asks how often differences with signs at random would have a mean as far from 0: all patterns of signs "
    "are tried up to 16 seeds, 65,535 drawn ones beyond. It assumes that variant and reference are interchangeable "
    "if there is no difference, and no distribution. Stars are for p-values corrected by Holm over all comparisons of "
    "a table, so that a table without any difference gets one in fewer than 5 % of the cases; n seeds cannot give a "
    "p-value below 2 to the power of 1 − n, and more than 16 none below that of 16. McNemar's test is about one "
    "checkpoint: it asks whether the test images that only one of two evaluations gets right are shared between them "
    "as by a coin."
)
CANARY = (
    "A canary is a study's reference, trained again under other seeds and held against itself, the r-th repeat against "
    "the r-th. Nothing but the seeds is different, so no difference must be found; since its interval covers 95 %, one "
    "canary in twenty is alarmed by chance. Studies with one reference share its canary. It is no comparison of the "
    "table and not corrected with them."
)


def coverage_words(deltas: Iterable[Estimate]) -> str:
    """Returns what the intervals among some estimates are over; nothing if they differ, or if there are none."""
    kinds = {delta.covers_images for delta in deltas if delta.has_interval}
    return "" if len(kinds) != 1 else BOTH if kinds == {True} else SEEDS


def interval_caption(summary: StudySummary) -> str:
    """Returns how a caption goes on after “Δ is the paired difference”, about the intervals of a table."""
    deltas = [row.delta for row in summary.variants if row.delta and row.delta.has_interval]
    if not deltas:
        return "." if summary.seeds < 2 else " (no interval)."
    if is_mixed(summary):
        return f" with its 95 % interval {SEEDS}, or {BOTH} where marked {COVERS_IMAGES}."
    kind = "95 % interval" if deltas[0].covers_images else "95 % t interval"
    return f" with its {kind} {coverage_words(deltas)}."


def is_mixed(summary: StudySummary) -> bool:
    """Whether a table has intervals of both kinds."""
    return len({row.delta.covers_images for row in summary.variants if row.delta and row.delta.has_interval}) > 1


def uncertainty_notes(study: Study, summary: StudySummary) -> Iterator[Note]:
    """Yields the notes of a table on its intervals and its stars."""
    if is_mixed(summary):
        yield Note("This row and the reference measure the same checkpoints, image by image.", COVERS_IMAGES)
    without = [row for row in summary.variants if _lacks_images(row, study.metric)]
    if without:
        titles = short_titles(study)
        listed = list(dict.fromkeys(f"“{titles[row.variant]}”" for row in without))
        more = f" and {len(listed) - _LISTED} others" if len(listed) > _LISTED else ""
        yield Note(
            f"The same checkpoints as the reference, but not all runs were tracked with their correct images, so that "
            f"the interval is over seeds alone: {', '.join(listed[:_LISTED])}{more}."
        )
    if summary.tested:
        yield Note(star_words(summary))


def _lacks_images(row: VariantSummary, metric: str) -> bool:
    known = row.delta is not None and row.delta.has_interval
    return known and row.same_checkpoints and metric in PER_IMAGE and not (row.delta and row.delta.covers_images)


def star_words(summary: StudySummary) -> str:
    """Returns what the stars of a table mean, or why it has none."""
    count, seeds = len(summary.tested), summary.seeds
    comparisons = f"{count} comparisons of this table" if count > 1 else "one comparison of this table"
    if summary.can_star:
        corrected = f"corrected by Holm over the {comparisons}" if count > 1 else f"for the {comparisons}"
        return (
            f"* p < {ALPHA:g}, ** p < {ALPHA / 5:g}: sign flips over {seeds} seeds, two-sided, {corrected}. "
            "The p-values are in the appendix."
        )
    least = smallest_p_value(seeds)
    smallest = number(least, 3) if least >= 0.001 else f"{least:.1g}"
    after = f", {number(min(1.0, count * least), 3)} after Holm's correction over the {comparisons}"
    needed = summary.seeds_for_a_star
    takes = f"It takes {needed} seeds for any star here." if needed else "No number of seeds gives a star here."
    return (
        f"No stars: with {seeds} seeds the smallest p-value that sign flips can give is {smallest}"
        f"{after if count > 1 else ''}. {takes}"
    )
