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
from reports.content.blocks import Cell, Column, Note, Table, Text
from reports.content.formatting import number
from reports.content.plan_words import short_titles
from reports.tables.groups import grouped

MOST_CHECKPOINTS = 500
"""Rows of McNemar's tests beyond these are counted and not printed."""

_DECIMALS = 4
_LEAST = 0.5 * 10**-_DECIMALS

Summaries = Sequence[tuple[Study, StudySummary]]


def comparisons_table(summaries: Summaries) -> Table | None:
    """Return the p-values of every difference to a reference, or `None` if there is none."""
    rows, rules = grouped([(_group(study, row), cells) for study, row, cells in _comparisons(summaries)])
    if not rows:
        return None
    return Table(
        title="Comparisons",
        caption=(
            "Every difference to a reference that has an interval. Interval: over seeds and test images (“both”) where "
            "the rows share their checkpoints and the correct images were tracked, else over seeds. df: its degrees of "
            "freedom, more than one less than the seeds where trainings of a table share their spread. p: two-sided, "
            "below 0.05 where the 95 % interval excludes 0; Holm: corrected over the comparisons of the study's table. "
            "Seeds needed: with so many a true difference of the size of interest would be shown in 80 % of all "
            "studies, and with so many that there is none, at the row's own spread over seeds."
        ),
        columns=(
            Column("study"),
            Column("row"),
            Column("seeds", "mark"),
            Column("interval over", "mark"),
            Column("df", "mark"),
            Column("p", "mark"),
            Column("Holm", "mark"),
            Column("seeds needed", "mark"),
        ),
        rows=rows,
        rules=rules,
    )


def _comparisons(summaries: Summaries) -> Iterator[tuple[Study, VariantSummary, tuple[Cell, ...]]]:
    for study, summary in summaries:
        titles = short_titles(study)
        for advice in seed_advice(study, summary):
            row, delta = advice.row, advice.row.delta
            if delta is not None:
                interval_over = "both" if delta.covers_images else "seeds"
                p_values = (p_words(row.p_value), p_words(row.p_holm))
                cell_texts = (
                    titles[row.variant],
                    str(delta.n),
                    interval_over,
                    number(delta.df, 1),
                    *p_values,
                    seeds_words(advice),
                )
                yield study, row, tuple(map(Text, cell_texts))


def _group(study: Study, row: VariantSummary) -> str:
    network = next((network.title for network in study.networks if network.name == row.network), "")
    return f"{study.title}, {network}" if network else study.title


def p_words(p_value: float) -> str:
    """Return a p-value with four decimals; one that would be printed as zero is given as below the smallest."""
    return f"{p_value:.{_DECIMALS}f}" if p_value >= _LEAST else f"< {2 * _LEAST:.{_DECIMALS}f}"


def mcnemar_table(summaries: Summaries) -> Table | None:
    """Return McNemar's test per checkpoint of rows that share theirs with the reference, or `None` without any."""
    tests = (checkpoint for study, summary in summaries for checkpoint in _checkpoints(study, summary))
    rows, rules = grouped(list(islice(tests, MOST_CHECKPOINTS)))
    if not rows:
        return None
    # The rows above took the first of these; this counts what the generator still has.
    left_out = sum(1 for _ in tests)
    remark = f"{left_out:,} further tests are not printed; correctness.json of their runs has the images."
    return Table(
        title="McNemar's test",
        caption=(
            "Two evaluations of one checkpoint, image by image: how many test images only the reference gets right, "
            "how many only the row, and the exact two-sided p-value. It is about the sampling of test images, for one "
            "checkpoint at a time; it is not corrected for the number of tests."
        ),
        columns=(
            Column("study"),
            Column("row"),
            Column("seed", "mark"),
            Column("only reference", "mark"),
            Column("only row", "mark"),
            Column("p", "mark"),
        ),
        rows=rows,
        notes=(Note(remark),) if left_out else (),
        rules=rules,
    )


def _checkpoints(study: Study, summary: StudySummary) -> Iterator[tuple[str, tuple[Cell, ...]]]:
    titles = short_titles(study)
    references = {row.network: row for row in summary.variants if row.variant == study.reference}
    for row in summary.variants:
        reference = references[row.network]
        if row is reference or not compare_by_image((row, reference), study.metric):
            continue
        for index, seed in enumerate(sorted(row.values.keys() & reference.values.keys())):
            row_right, reference_right = (
                measured_row.correctness[seed].of(study.metric).astype(bool) for measured_row in (row, reference)
            )
            lost, gained = int((reference_right & ~row_right).sum()), int((row_right & ~reference_right).sum())
            name = "" if index else titles[row.variant]
            cell_texts = (name, str(seed), str(lost), str(gained), p_words(mcnemar_p_value(lost, gained)))
            yield _group(study, row), tuple(map(Text, cell_texts))
