"""The appendix on comparisons: the p-value of every difference, and McNemar's test of every checkpoint. Data only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablations.study import Study
from reports.blocks import Cell, Column, Number, Table, Text
from reports.claim_tables import grouped
from reports.differences import compare_by_image
from reports.facts import short_titles
from reports.metrics import telling
from reports.statistics import mcnemar_p_value
from reports.summary import StudySummary, VariantSummary
from reports.tables import interval_cell

_DECIMALS = 4
_LEAST = 0.5 * 10**-_DECIMALS

Summaries = Sequence[tuple[Study, StudySummary]]


def comparisons_table(summaries: Summaries) -> Table | None:
    """Returns every difference to a reference with its p-values, or `None` if there is none."""
    rows, rules = grouped([(_place(study, row), cells) for study, row, cells in _comparisons(summaries)])
    if not rows:
        return None
    return Table(
        title="Comparisons",
        caption=(
            "Every difference to a reference. p: sign flips over seeds, two-sided; Holm: corrected over the "
            "comparisons of the study's table. Interval: over seeds and test images (“both”) where the rows share "
            "their checkpoints and the correct images were tracked, else over seeds."
        ),
        columns=(
            Column("study"),
            Column("row"),
            Column("n", "mark"),
            Column("Δ", "interval"),
            Column("interval over"),
            Column("p", "number"),
            Column("Holm", "number"),
        ),
        rows=rows,
        rules=rules,
    )


def _comparisons(summaries: Summaries) -> Iterator[tuple[Study, VariantSummary, tuple[Cell, ...]]]:
    for study, summary in summaries:
        titles, decimals = short_titles(study), telling(study.metric).decimals
        for row in summary.tested:
            if row.delta is not None:
                over = ("both" if row.delta.covers_images else "seeds") if row.delta.has_interval else "none"
                p_values = p_cell(row.p_value), p_cell(row.p_holm)
                count, delta = Text(str(row.delta.n)), interval_cell(row.delta, decimals)
                yield study, row, (Text(titles[row.variant]), count, delta, Text(over), *p_values)


def _place(study: Study, row: VariantSummary) -> str:
    network = next((network.title for network in study.networks if network.name == row.network), "")
    return f"{study.title}, {network}" if network else study.title


def p_cell(p_value: float) -> Cell:
    """Returns a p-value as a cell; one that would be printed as zero says what it is below."""
    return Number(p_value, _DECIMALS) if p_value >= _LEAST else Text(f"< {2 * _LEAST:.{_DECIMALS}f}")


def mcnemar_table(summaries: Summaries) -> Table | None:
    """Returns McNemar's test per checkpoint of rows that share theirs with the reference, or `None` without any."""
    rows, rules = grouped([found for study, summary in summaries for found in _checkpoints(study, summary)])
    if not rows:
        return None
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
            Column("only reference", "number"),
            Column("only row", "number"),
            Column("p", "number"),
        ),
        rows=rows,
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
            own, other = (each.correctness[seed].of(study.metric).astype(bool) for each in (row, reference))
            lost, gained = int((other & ~own).sum()), int((own & ~other).sum())
            counts = Text(str(seed)), Number(lost, 0), Number(gained, 0)
            name = Text("" if index else titles[row.variant])
            yield _place(study, row), (name, *counts, p_cell(mcnemar_p_value(lost, gained)))
