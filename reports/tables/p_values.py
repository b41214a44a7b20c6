"""This module builds the tables of tests: the p-value of every difference, and McNemar's test of every checkpoint.

Both are lists, which can be long; their cells are words, since numbers that align cost a renderer much more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from ablations.study import Study
from reports.analysis.advice import seed_advice, seeds_words
from reports.analysis.differences import compare_by_image
from reports.analysis.statistics import mcnemar_p_value
from reports.analysis.summary import StudySummary, VariantSummary
from reports.content.blocks import Note, Table
from reports.content.formatting import DASH, number
from reports.content.plan_words import network_titles, short_titles
from reports.tables.cells import TableRow, columns_of, grouped, text_cells
from reports.tables.uncertainty_words import IMPROVEMENT

MOST_CHECKPOINTS = 500
"""Rows of McNemar's tests beyond these are counted and not printed."""

_DECIMALS = 4
_LEAST = 0.5 * 10**-_DECIMALS

_TESTS = (
    "p: two-sided, below 0.05 where the 95 % interval excludes 0; Holm: corrected over the comparisons of the study's "
    "table."
)
_COMPARED = (
    "Every difference to a reference that has an interval. Interval: over seeds and test images (“both”) where the "
    "rows share their checkpoints and the correct images were tracked, else over seeds. df: its degrees of freedom, "
    "more than one less than the seeds where trainings of a table share their spread. "
    f"{_TESTS} "
    f"{IMPROVEMENT}: probability that a repeat of the row is better than one of the reference, with its 95 % interval "
    "over seeds. "
    "Seeds needed: with so many a true difference of the size of interest would be shown in 80 % of all studies, and "
    "with so many that there is none, at the row's own spread over seeds."
)
_COMPARED_SINGLE = (
    "Every difference to a reference that has an interval, between evaluations of one network. Interval: over test "
    f"images. df: its degrees of freedom, one less than the images. {_TESTS} No number of seeds is given, as there is "
    "one network."
)

Summaries = Sequence[tuple[Study, StudySummary]]


def comparisons_table(summaries: Summaries) -> Table | None:
    """Return the p-values of every difference to a reference, or `None` if there is none."""
    rows, rules = grouped(_comparisons(summaries))
    if not rows:
        return None
    deltas = [row.delta for _, summary in summaries for row in summary.tested]
    are_single = {delta is not None and delta.images_alone for delta in deltas}
    caption = _COMPARED
    if are_single == {True}:
        caption = _COMPARED_SINGLE
    elif True in are_single:
        caption += " Of a network that was trained elsewhere the interval is over test images alone (“images”)."
    return Table(
        title="Comparisons",
        caption=caption,
        columns=(
            *columns_of("text", "study", "row"),
            *columns_of("mark", "seeds", "interval over", "df", "p", "Holm", IMPROVEMENT, "seeds needed"),
        ),
        rows=rows,
        rules=rules,
    )


def _comparisons(summaries: Summaries) -> Iterator[tuple[str, TableRow]]:
    for study, summary in summaries:
        titles = short_titles(study)
        seeds_by_row = {advice.row.key: seeds_words(advice) for advice in seed_advice(study, summary)}
        for row in summary.tested:
            delta = row.delta
            if delta is None:
                continue
            interval_over = "both" if delta.covers_images else "seeds"
            if delta.images_alone:
                interval_over = "images"
            estimate = (titles[row.variant], str(delta.n), interval_over, number(delta.df, 1))
            p_values = (p_words(row.p_value), p_words(row.p_holm), _improvement_words(row))
            yield _group(study, row), text_cells(*estimate, *p_values, seeds_by_row.get(row.key, DASH))


def _improvement_words(row: VariantSummary) -> str:
    improvement = row.improvement
    if improvement is None:
        return DASH
    return f"{number(improvement.probability)} [{number(improvement.low)}, {number(improvement.high)}]"


def _group(study: Study, row: VariantSummary) -> str:
    if not row.network:
        return study.title
    return f"{study.title}, {network_titles(study)[row.network]}"


def p_words(p_value: float) -> str:
    """Return a p-value with four decimals; one that would be printed as zero is given as below the smallest."""
    if p_value >= _LEAST:
        return f"{p_value:.{_DECIMALS}f}"
    # What rounds to more than zero is at least half of the last decimal.
    return f"< {2 * _LEAST:.{_DECIMALS}f}"


def mcnemar_table(summaries: Summaries) -> Table | None:
    """Return McNemar's test per checkpoint of rows that share theirs with the reference, or `None` without any."""
    tests = _image_tests(summaries)
    rows, rules = grouped(islice(tests, MOST_CHECKPOINTS))
    if not rows:
        return None
    notes = []
    # The rows above took the first of these; this counts what the generator still has.
    left_out = len(list(tests))
    if left_out:
        notes.append(
            Note(f"{left_out:,} further tests are not printed; correctness.json of their runs has the images.")
        )
    return Table(
        title="McNemar's test",
        caption=(
            "Two evaluations of one checkpoint, image by image: how many test images only the reference gets right, "
            "how many only the row, and the exact two-sided p-value. It is about the sampling of test images, for one "
            "checkpoint at a time; it is not corrected for the number of tests."
        ),
        columns=(
            *columns_of("text", "study", "row"),
            *columns_of("mark", "seed", "only reference", "only row", "p"),
        ),
        rows=rows,
        notes=tuple(notes),
        rules=rules,
    )


def _image_tests(summaries: Summaries) -> Iterator[tuple[str, TableRow]]:
    for study, summary in summaries:
        titles = short_titles(study)
        references = {row.network: row for row in summary.variants if row.variant == study.reference}
        for row in summary.variants:
            reference = references[row.network]
            if row is reference or not compare_by_image((row, reference), study.metric):
                continue
            title = titles[row.variant]
            for seed in sorted(row.values.keys() & reference.values.keys()):
                right = row.correctness[seed].of(study.metric).astype(bool)
                reference_right = reference.correctness[seed].of(study.metric).astype(bool)
                # The test is about the images that one of the two alone gets right.
                lost, gained = int((reference_right & ~right).sum()), int((right & ~reference_right).sum())
                p_value = p_words(mcnemar_p_value(lost, gained))
                yield _group(study, row), text_cells(title, str(seed), str(lost), str(gained), p_value)
                # The title stands in the first line of a row alone.
                title = ""
