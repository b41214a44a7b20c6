"""This module builds the table of a study whose variants lie in two directions, as the paper prints K by network.

Rows are networks, and the values of one column of the study stand side by side. Each row of the grid has a line of
ours, one of the differences to the reference and, where there are any, one of the published numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from ablations.planning.plan import Plan
from ablations.study import Study, Variant
from reports.analysis.summary import StudySummary
from reports.content.blocks import Column, Interval, Missing, Note, Table, TableCell, Text
from reports.content.grid import Grid
from reports.content.plan_words import runs_heading
from reports.tables.cells import TableRow, columns_of, published_cell, text_cells
from reports.tables.columns.published import PublishedColumns
from reports.tables.study import delta_cell, mean_cell, published_notes, row_notes, table_caption
from reports.tables.uncertainty_words import COVERS_IMAGES, is_mixed

_PUBLISHED = "published"


def grid_table(study: Study, plan: Plan, summary: StudySummary, grid: Grid, *, with_legend: bool = True) -> Table:
    """Return the table of a study in two directions; `with_legend` as in `reports.tables.study.study_table`."""
    published = PublishedColumns(study)
    rows: list[TableRow] = []
    rules = []
    for row in grid.rows:
        variants = [grid.variants.get((row, level)) for level in grid.levels]
        if rows:
            rules.append(len(rows))
        labels = row
        for words, cells in _lines(study, summary, published, variants):
            rows.append((*text_cells(*labels, words), *cells))
            # What describes the row of the grid stands in its first line alone.
            labels = ("",) * len(row)
    notes: list[Note] = list(published_notes(study, plan, published, with_legend=with_legend))
    notes += row_notes(study, summary, with_legend=with_legend)
    levels = tuple(Column(grid.level_title(level), "mark") for level in grid.levels)
    return Table(
        title=study.title,
        caption=table_caption(study, plan, summary),
        columns=(*columns_of("text", *grid.headings, ""), *levels),
        rows=tuple(rows),
        notes=tuple(notes),
        rules=tuple(rules),
        role="main",
    )


def _lines(
    study: Study, summary: StudySummary, published: PublishedColumns, variants: list[Variant | None]
) -> Iterator[tuple[str, list[TableCell]]]:
    """Yield the lines of one row of the grid, each with its name; a combination that the study lacks is empty."""
    facts = study.metric_facts
    covering = (COVERS_IMAGES,) if is_mixed(summary) else ()
    means: list[TableCell] = []
    deltas: list[TableCell] = []
    numbers: list[TableCell] = []
    for variant in variants:
        if variant is None:
            means.append(Text(""))
            deltas.append(Text(""))
            numbers.append(Text(""))
            continue
        row = summary.get("", variant.name)
        means.append(mean_cell(row, facts))
        deltas.append(_starred(delta_cell(row, facts, covering), row.stars))
        value = published.values[variant.name]
        numbers.append(Missing() if value is None else published_cell(value, least=published.decimals))
    yield f"{runs_heading(study)}: {facts.heading}", means
    yield "Δ", deltas
    if any(variant is not None and published.values[variant.name] for variant in variants):
        yield _PUBLISHED, numbers


def _starred(cell: TableCell, stars: str) -> TableCell:
    """Return a difference with its stars as a mark."""
    if not stars or not isinstance(cell, Interval):
        return cell
    return Interval(cell.value, cell.low, cell.high, cell.decimals, (*cell.marks, stars), cell.signed)
