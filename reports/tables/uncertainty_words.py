"""This module says in words what an interval covers, what has a star and which differences are excluded.

Tables, sentences and the appendix share these words. The numbers are in `reports.analysis.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

from ablations.foreign_study import ForeignStudy
from ablations.study import Study
from reports.analysis.statistics import ALPHA, Estimate
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.correctness import PER_IMAGE
from reports.content.blocks import Note
from reports.content.formatting import number
from reports.content.plan_words import enumerated, network_titles, short_titles

COVERS_IMAGES = "‡"
"""Marks an interval over seeds and test images where others in the table are over seeds alone."""

SEEDS, BOTH, IMAGES = "over seeds", "over seeds and test images", "over test images"
STARS = "stars"
"""Heading of the column of stars."""
IMPROVEMENT = "P(better)"
"""Heading of the column of probabilities of improvement."""

_LISTED = 6

INTERVALS = (
    "Every ± is the standard deviation over training seeds (n − 1), and differences are paired: the r-th repeat of "
    "every variant starts from the same seed and sees the training images in the same order. Where two rows are "
    "trained apart, the interval of their difference is Student's t over seeds: it says what other seeds would have "
    "given on the same test images. Three seeds leave one comparison two degrees of freedom, so its spread is partly "
    "taken from the rest of its table: the more alike the rows' spreads are (the squared p-value of Bartlett's test is "
    "the weight), the more. At one end that is the error of a two-way analysis of variance, at the other the paired t "
    "interval. Rows that never learned lend nothing. Where two rows measure the same checkpoints, it is over seeds and "
    "test images, crossed: it says what other seeds and other test images of the same kind would have given (variance "
    "components, Graybill and Wang 1980). No interval covers the choice of the data set, and each holds for its "
    "comparison alone."
)
_COVERAGE_OF_SEEDS = (
    "In simulated tables of trainings whose spreads are equal, or differ up to twofold, or are skewed, the shared "
    "intervals cover the truth in 95 to 98 % on average over the comparisons, and in 93 % or more for the worst. Of a "
    "row that varies four times as much as all the others it is 90 % with three seeds and 94 % with five."
)
_COVERAGE_OF_BARS = (
    "The bars of the figures, which are about a mean and not about a difference, cover 88 % of means of very skewed "
    "values."
)
COVERAGE = f"{_COVERAGE_OF_SEEDS} Intervals over seeds and test images cover 93 to 97 %. {_COVERAGE_OF_BARS}"
COVERAGE_OF_SEEDS = f"{_COVERAGE_OF_SEEDS} {_COVERAGE_OF_BARS}"
"""The same of a report without intervals over test images."""
TESTS = (
    "A p-value is one minus the level at which the interval of a difference would just touch 0, so that p is below "
    "0.05 where the 95 % interval excludes 0. Stars are for p-values corrected by Holm over all comparisons of a "
    "table, so that a table without any difference gets one in at most 5 % of the cases (6 % where rows are very "
    "skewed and spread unequally). A table without a star says beyond which size it excludes differences: the end of "
    "its intervals that is farthest from 0, which holds in 97.5 % whatever the number of rows."
)
MCNEMAR = (
    "McNemar's test is about one checkpoint: it asks whether the test images that only one of two evaluations gets "
    "right are shared between them as by a coin."
)
P_VALUES = f"{TESTS} {MCNEMAR}"
IMPROVEMENTS = (
    "P(better) is the probability that a training of the row is better than one of the reference under a seed of its "
    "own: the share of all pairs of their repeats in which it is, half of a tie counted (Mann and Whitney's U). A "
    "difference says how far apart two rows are, this how often one wins. With 3 repeats there are 9 pairs, so that it "
    "is 0, 1/9, … or 1, and 1 does not mean certainty: its interval begins at 0.34. The interval is Newcombe's of 2006 "
    "(method 5) with Student's quantile. In simulations from 3 to 20 repeats it covers 94 % or more of normal values, "
    "and 91 % or more of values as skewed as an exponential's. Rows that measure the same checkpoints are compared "
    "checkpoint by checkpoint, and their interval is Clopper and Pearson's. It is about seeds on the same test images, "
    "and tests nothing: the p-values and stars are those of the differences."
)
SINGLE = (
    "A network that was trained elsewhere is one network: there is no spread between trainings, and no ± in its "
    "tables. The interval of a difference between two of its evaluations is over test images alone, Student's t of the "
    "differences image by image. It says what other test images of the same kind would have given for this very "
    "network, and nothing of how another training would have come out. Stars, p-values and verdicts rest on it, and so "
    "are about this network only. McNemar's test asks whether the test images that only one of two evaluations gets "
    "right are shared between them as by a coin."
)
CANARY = (
    "A canary is a study's reference, trained again under other seeds and held against itself, the r-th repeat against "
    "the r-th. Nothing but the seeds is different, so no difference must be found; since its interval covers 95 %, one "
    "canary in twenty is alarmed by chance. Studies with one reference share its canary. It is no comparison of the "
    "table and not corrected with them."
)


def coverage_words(deltas: Iterable[Estimate]) -> str:
    """Return the uncertainty that the intervals of some estimates cover; nothing if they differ or there are none."""
    kinds = {_cover(delta) for delta in deltas if delta.has_interval}
    if len(kinds) == 1:
        return kinds.pop()
    return ""


def _cover(delta: Estimate) -> str:
    if delta.images_alone:
        return IMAGES
    return BOTH if delta.covers_images else SEEDS


def _deltas(summary: StudySummary) -> list[Estimate]:
    return [row.delta for row in summary.variants if row.delta and row.delta.has_interval]


def interval_caption(summary: StudySummary) -> str:
    """Return the end of a caption after “Δ is the paired difference”, about the intervals of a table."""
    deltas = _deltas(summary)
    if not deltas:
        return "." if summary.seeds < 2 else " (no interval)."
    if is_mixed(summary):
        kinds = [f"{SEEDS}, or {BOTH} where marked {COVERS_IMAGES}"]
        if any(delta.images_alone for delta in deltas):
            kinds.append(f"{IMAGES} for a network that was trained elsewhere")
        return f" with its 95 % interval {'; '.join(kinds)}."
    # All cover the same: the first speaks for them. Over seeds and test images it is no Student's t.
    kind = "95 % interval" if deltas[0].covers_images else "95 % t interval"
    return f" with its {kind} {coverage_words(deltas)}."


def is_mixed(summary: StudySummary) -> bool:
    """Return True if a table has intervals of both kinds."""
    deltas = _deltas(summary)
    # Intervals that do not all cover the same have no common words.
    return bool(deltas) and not coverage_words(deltas)


def uncertainty_notes(study: Study, summary: StudySummary, *, with_legend: bool = True) -> Iterator[Note]:
    """Yield the notes of a table on its intervals and its stars; without a legend, only what is of this table alone."""
    if is_mixed(summary):
        yield Note("This row and the reference measure the same checkpoints, image by image.", COVERS_IMAGES)
    titles = short_titles(study)
    without_images: dict[str, None] = {}
    for row in summary.variants:
        if _lacks_images(row, study.metric):
            without_images[f"“{titles[row.variant]}”"] = None
    if without_images:
        listed = ", ".join(islice(without_images, _LISTED))
        if len(without_images) > _LISTED:
            listed += f" and {len(without_images) - _LISTED} others"
        yield Note(
            "The same checkpoints as the reference, but not all runs were tracked with their correct images, so that "
            f"the interval is over seeds alone: {listed}."
        )
    if not with_legend:
        if summary.tested and not summary.has_stars:
            yield Note(f"No star. {exclusion_words(study, summary)}")
        return
    if summary.tested:
        yield Note(star_words(study, summary))
    if shows_improvements(study, summary):
        yield Note(_improvement_words(study, summary))


def shows_improvements(study: Study, summary: StudySummary) -> bool:
    """Return True if a study's table has the probabilities of improvement; the appendix has those of every study."""
    # Columns for several networks leave no room on a page for more.
    return summary.has_improvements and len(study.inspected) == 1


def _improvement_words(study: Study, summary: StudySummary) -> str:
    """Return the meaning of P in a table, and its steps, which are coarse with few repeats."""
    steps = []
    # Of runs that were made elsewhere nobody knows whether they train anything.
    noun = "runs" if isinstance(study, ForeignStudy) else "trainings"
    pairs = {row.improvement.same_checkpoints for row in summary.variants if row.improvement is not None}
    if False in pairs:
        steps.append(f"{summary.seeds**2} pairs of {noun}")
    if True in pairs:
        steps.append(f"{summary.seeds} checkpoints that the rows share")
    return (
        f"{IMPROVEMENT}: share of pairs of repeats in which the row is better than the reference, half for a tie; of "
        f"{' or '.join(steps)}. The appendix has its intervals."
    )


def _lacks_images(row: VariantSummary, metric: str) -> bool:
    if row.delta is None or not row.delta.has_interval or row.delta.covers_images:
        return False
    return row.same_checkpoints and metric in PER_IMAGE


def star_words(study: Study, summary: StudySummary) -> str:
    """Return the meaning of the stars of a table or, where it has none, the differences that it excludes."""
    count = len(summary.tested)
    # Holm's correction changes nothing of a single comparison.
    corrected = "for the one comparison of this table"
    if count > 1:
        corrected = f"corrected by Holm over the {count} comparisons of this table"
    if summary.has_stars:
        return (
            f"* p < {ALPHA:g}, ** p < {ALPHA / 5:g}: from the intervals, two-sided, {corrected}. "
            "The p-values are in the appendix."
        )
    return f"No difference has a star (p < {ALPHA:g}, {corrected}). {exclusion_words(study, summary)}"


def exclusion_words(study: Study, summary: StudySummary) -> str:
    """Return the size beyond which the 95 % intervals of a table exclude any difference, per inspected network."""
    wording = study.metric_facts
    scale = 10**wording.decimals
    sizes = []
    for network in study.inspect or ("",):
        size = summary.excluded_beyond(network)
        if not math.isnan(size):
            # Rounded up: what is printed must be excluded, too.
            words = f"{number(math.ceil(size * scale) / scale, wording.decimals)}{wording.unit}"
            if network:
                words += f" ({network_titles(study)[network]})"
            sizes.append(words)
    # Without a p-value a row has no interval, or the training never learned.
    restriction = ""
    if any(row.delta and math.isnan(row.p_value) for row in summary.variants):
        restriction = " among the rows that can be compared"
    return (
        f"Differences to the reference beyond {enumerated(sizes)} are excluded{restriction}: no 95 % interval reaches "
        "farther."
    )
