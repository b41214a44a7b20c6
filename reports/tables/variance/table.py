"""This module builds the table of a study that compares variances."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.planning.plan import Plan
from ablations.study import Study
from reports.analysis.summary import StudySummary
from reports.analysis.variance import Quantity, VarianceShares, variance_shares
from reports.content.blocks import Column, Interval, Missing, Note, Table, TableCell, Text
from reports.content.plan_words import (
    capitalized,
    data_words,
    epochs_words,
    network_words,
    plural,
    short_titles,
    specs_of,
    split_of,
)
from reports.tables.cells import TableRow, labels_of, text_cells
from reports.tables.study import NO_SPREAD, NO_SPREAD_NOTE, count_words, mean_cell, missing_notes, unlearned_notes
from reports.tables.variance.words import SHARE_DECIMALS, width_words

_SUM = "sum of the single sources"


def variance_table(study: Study, plan: Plan, summary: StudySummary) -> Table:
    """Return the table of a study of variances.

    Per row: mean ± standard deviation over repeats, the number of repeats, the standard deviation with its 95 %
    interval, and the share of the reference's variance with its own. The last row is the sum of the rows with a single
    source.
    """
    shares = variance_shares(study, summary)
    wording, specs = study.metric_facts, specs_of(plan, study.name)
    rows: list[TableRow] = []
    for source in shares.rows:
        labels = text_cells(*labels_of(study.variant(source.row.variant)))
        measured = (mean_cell(source.row, study.metric_facts), Text(count_words(source.row)))
        share: TableCell = Text("reference")
        if source.row.variant != study.reference:
            share = _cell(source.share, SHARE_DECIMALS)
        # A spread is small beside the mean, so that one more decimal is printed.
        rows.append((*labels, *measured, _cell(source.sd, wording.decimals + 1), share))
    columns = [Column(heading) for heading in study.columns or ("varied",)]
    if shares.total.is_known:
        # The sum has neither a mean nor repeats of its own.
        blank = text_cells(*[""] * (len(columns) - 1), "", "", "")
        rows.append((Text(_SUM), *blank, _cell(shares.total, SHARE_DECIMALS)))
    measured_words, reference = capitalized(study.metric_facts.words), short_titles(study)[study.reference]
    return Table(
        title=study.title,
        caption=(
            f"{measured_words} on {data_words(specs, split_of(study.metric))}, {network_words(specs)}, "
            f"{epochs_words(specs)}, {summary.seeds} {plural(summary.seeds, 'repeat')} per row: mean ± standard "
            "deviation; the standard deviation with its 95 % interval; the variance as a share of that of "
            f"“{reference}”, with its 95 % interval. Intervals are over training seeds."
        ),
        columns=(
            *columns,
            Column(wording.heading, "number"),
            Column("n", "mark"),
            Column("standard deviation", "interval"),
            Column("share of variance", "interval"),
        ),
        rows=tuple(rows),
        rules=(len(shares.rows),) if shares.total.is_known else (),
        notes=tuple(_notes(study, summary, shares)),
        role="main",
    )


def _cell(quantity: Quantity, decimals: int) -> TableCell:
    if not quantity.is_known:
        return Missing()
    if not quantity.has_interval:
        return Interval(quantity.value, None, None, decimals, (NO_SPREAD,), signed=False)
    return Interval(quantity.value, quantity.low, quantity.high, decimals, signed=False)


def _notes(study: Study, summary: StudySummary, shares: VarianceShares) -> Iterator[Note]:
    if any(source.sd.is_known and not source.sd.has_interval for source in shares.rows):
        yield Note(NO_SPREAD_NOTE, NO_SPREAD)
    yield from unlearned_notes(study, summary)
    yield from missing_notes(study, summary)
    if summary.seeds > 1:
        yield Note(width_words(summary.seeds))
