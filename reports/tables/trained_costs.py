"""This module builds the table of what the networks of a study cost that trains them: counts, latency and accuracy."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.planning.plan import Plan
from ablations.published import PublishedValue, get_published
from ablations.study import Study, Variant
from reports.analysis.summary import StudySummary
from reports.collect.results import Results
from reports.content.blocks import Column, Missing, Note, Number, Table, TableCell
from reports.content.plan_words import part_title, plural, repeats_of
from reports.content.published import mark_note, source_of
from reports.tables.cells import TableRow, columns_of, labels_of, published_cell, published_marks, text_cells
from reports.tables.columns.counted import CountedColumns
from reports.tables.study import count_words


def trained_cost_table(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Table:
    """Return the table: parameters, multiply-adds and latency of each network, its accuracy, and the published ones."""
    costs = CountedColumns(study, results)
    rows: list[TableRow] = []
    for variant in study.variants:
        accuracy = _accuracy_cells(study, variant, summary, costs)
        counted = (*costs.cells(variant), *costs.latency_cells(variant))
        rows.append((*text_cells(*labels_of(variant)), *counted, *accuracy))
    return Table(
        title=part_title(study.title, "cost"),
        caption=_caption(study, plan),
        columns=(
            *columns_of("text", *(study.columns or ("variant",))),
            *costs.columns(),
            *costs.latency_columns(),
            *_accuracy_columns(study, costs),
        ),
        rows=tuple(rows),
        notes=tuple(_notes(study, costs)),
    )


def _caption(study: Study, plan: Plan) -> str:
    # A dictionary, as a set that keeps the order of the plan.
    sizes: dict[str, None] = {}
    for cell in plan.cost_cells:
        if cell.study == study.name and plan.has(cell.fingerprint):
            facts = plan.node(cell.fingerprint).spec.data.facts
            sizes[f"{facts.image_size} × {facts.image_size} px and {facts.num_classes} classes"] = None
    seeds = repeats_of(plan, study)
    return (
        f"Counted for one image of {' or '.join(sizes)}. Multiply-adds include pooling, attention branch and "
        "aggregation. Latency: median time for one image on one CPU thread; the ratio is to the same network with "
        f"static layers, timed in turn in one process. Accuracy: mean over {seeds} {plural(seeds, 'seed')}, as in the "
        "study's own table. Published counts are for images of 224 × 224 px and 1000 classes."
    )


def _accuracy_columns(study: Study, costs: CountedColumns) -> tuple[Column, ...]:
    headings = ["ours"]
    if any(costs.published[study.metric_facts.published]):
        headings.append("published")
    return columns_of("number", *headings, group=study.metric_facts.heading)


def _accuracy_cells(
    study: Study, variant: Variant, summary: StudySummary, costs: CountedColumns
) -> Iterator[TableCell]:
    wording = study.metric_facts
    row = summary.get("", variant.name)
    if row.complete:
        yield Number(row.estimate.mean, wording.decimals)
    else:
        yield Missing(f"n = {count_words(row)}")
    if any(costs.published[wording.published]):
        yield published_cell(costs.value(variant, wording.published))


def _notes(study: Study, costs: CountedColumns) -> Iterator[Note]:
    published: list[PublishedValue | None] = []
    for values in costs.published.values():
        published += values
    if study.published and any(published):
        yield Note(source_of(get_published(study.published)))
    for mark in published_marks(published):
        yield Note(mark_note(mark), mark)
