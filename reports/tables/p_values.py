"""This module builds the tables of tests: the p-value of every difference, and McNemar's test of every checkpoint.

Both are lists, which can be long; their cells are words, since numbers that align cost a renderer much more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablations.study import Study
from reports.analysis.advice import seed_advice, seeds_words
from reports.analysis.differences import compare_by_image
from reports.analysis.statistics import mcnemar_p_value
from reports.analysis.summary import StudySummary, VariantSummary
from reports.content.blocks import Table
from reports.content.formatting import DASH, number
from reports.content.plan_words import network_titles, short_titles
from reports.tables.cells import TableRow, columns_of, grouped, text_cells
from reports.tables.uncertainty_words import IMPROVEMENT

_SIGNIFICANT = 0.05
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
    """Return McNemar's tests of rows that share checkpoints with the reference, or `None` without any.

    A row of several seeds has several tests, of which the range stands here.
    """
    rows, rules = grouped(_image_tests(summaries))
    if not rows:
        return None
    return Table(
        # Not the title of earlier versions, whose table had a line per seed: `verify` compares tables of one title.
        title="McNemar's tests",
        caption=(
            "Two evaluations of one checkpoint, image by image: the number of test images that only the reference gets "
            "right, the number that only the row gets right, and the exact two-sided p-value. Of several seeds, the "
            "lowest and the highest, and in how many p is below 0.05. The test is about the sampling of test images, "
            "for one checkpoint at a time; it is not corrected for the number of tests. correctness.json of each run "
            "has the images."
        ),
        columns=(
            *columns_of("text", "study", "row"),
            *columns_of("mark", "seeds", "only reference", "only row", "p", "p < 0.05"),
        ),
        rows=rows,
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
            lost, gained, p_values = [], [], []
            for seed in sorted(row.values.keys() & reference.values.keys()):
                right = row.correctness[seed].of(study.metric).astype(bool)
                reference_right = reference.correctness[seed].of(study.metric).astype(bool)
                # The test is about the images that one of the two alone gets right.
                lost.append(int((reference_right & ~right).sum()))
                gained.append(int((right & ~reference_right).sum()))
                p_values.append(mcnemar_p_value(lost[-1], gained[-1]))
            if not p_values:
                continue
            significant = sum(p_value < _SIGNIFICANT for p_value in p_values)
            yield (
                _group(study, row),
                text_cells(
                    titles[row.variant],
                    str(len(p_values)),
                    _ends(str(min(lost)), str(max(lost))),
                    _ends(str(min(gained)), str(max(gained))),
                    _ends(p_words(min(p_values)), p_words(max(p_values))),
                    f"{significant} of {len(p_values)}",
                ),
            )


def _ends(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
