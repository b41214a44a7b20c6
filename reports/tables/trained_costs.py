"""This module builds the table of what the networks of a study cost that trains them: counts, latency and accuracy."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.planning.plan import Plan
from ablations.published import PublishedValue, get_published
from ablations.study import Study, Variant
from ablations.vocabulary import COST_LATENCY, COST_LATENCY_RATIO, COST_MULTIPLY_ADDS, COST_PARAMETERS
from reports.analysis.summary import StudySummary
from reports.collect.results import Repeat, Results
from reports.content.blocks import Column, Missing, Note, Number, Table, TableCell
from reports.content.plan_words import part_title, plural, repeats_of
from reports.content.published import mark_note, source_of
from reports.tables.cells import TableRow, columns_of, labels_of, published_cell, published_marks, text_cells
from reports.tables.study import count_words

_MILLION = 1e6
_COUNTS = {COST_PARAMETERS: ("parameters (M)", "params"), COST_MULTIPLY_ADDS: ("multiply-adds (M)", "madds")}
"""Title of each count, and its column in the published tables."""

# Parameters are published with a decimal at least, multiply-adds in whole millions.
_LEAST_DECIMALS = {COST_PARAMETERS: 1, COST_MULTIPLY_ADDS: 0}


def trained_cost_table(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Table:
    """Return the table: parameters, multiply-adds and latency of each network, its accuracy, and the published ones."""
    costs = _Costs(study, results)
    rows: list[TableRow] = []
    for variant in study.variants:
        accuracy = _accuracy_cells(study, variant, summary, costs)
        rows.append((*text_cells(*labels_of(variant)), *costs.cells(variant), *accuracy))
    return Table(
        title=part_title(study.title, "cost"),
        caption=_caption(study, plan),
        columns=(
            *columns_of("text", *(study.columns or ("variant",))),
            *costs.columns(),
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
        "table above. Published counts are for images of 224 × 224 px and 1000 classes."
    )


class _Costs:
    """The counts and times of the networks of a study, beside the published counts."""

    def __init__(self, study: Study, results: Results) -> None:
        self._table = get_published(study.published) if study.published else None
        self._measured: dict[str, dict[str, Repeat]] = {}
        for metric in (*_COUNTS, COST_LATENCY, COST_LATENCY_RATIO):
            self._measured[metric] = results.cost_repeats(study.name, metric)
        # Read for all variants at once: a column appears only if one of them has a number.
        self.published: dict[str, list[PublishedValue | None]] = {}
        for column in (*(column for _, column in _COUNTS.values()), study.metric_facts.published):
            self.published[column] = [self.value(variant, column) for variant in study.variants]

    def value(self, variant: Variant, column: str) -> PublishedValue | None:
        """Return a published number of a variant."""
        if self._table is None:
            return None
        return self._table.get(variant.published_key, column)

    def columns(self) -> tuple[Column, ...]:
        """Return the columns of counts, each with a published one if there is any number in it, and of latency."""
        columns: tuple[Column, ...] = ()
        for title, column in _COUNTS.values():
            headings = ["ours"]
            if any(self.published[column]):
                headings.append("published")
            columns += columns_of("number", *headings, group=title)
        return columns + columns_of("number", "ms", "ratio to static", group="latency")

    def cells(self, variant: Variant) -> Iterator[TableCell]:
        """Yield the cells of a variant in these columns."""
        for metric, (_, column) in _COUNTS.items():
            # The first count gives the reason for all that is missing.
            yield self._cell(variant, metric, 2, 1 / _MILLION, with_reason=metric == COST_PARAMETERS)
            if any(self.published[column]):
                yield published_cell(self.value(variant, column), least=_LEAST_DECIMALS[metric])
        yield self._cell(variant, COST_LATENCY, 2, 1.0)
        yield self._cell(variant, COST_LATENCY_RATIO, 2, 1.0)

    def _cell(
        self, variant: Variant, metric: str, decimals: int, scale: float, *, with_reason: bool = False
    ) -> TableCell:
        repeat = self._measured[metric].get(variant.name)
        if repeat is not None and repeat.finished:
            return Number(repeat.value * scale, decimals)
        if repeat is None or not with_reason:
            return Missing()
        return Missing(repeat.status)


def _accuracy_columns(study: Study, costs: _Costs) -> tuple[Column, ...]:
    headings = ["ours"]
    if any(costs.published[study.metric_facts.published]):
        headings.append("published")
    return columns_of("number", *headings, group=study.metric_facts.heading)


def _accuracy_cells(study: Study, variant: Variant, summary: StudySummary, costs: _Costs) -> Iterator[TableCell]:
    wording = study.metric_facts
    row = summary.get("", variant.name)
    if row.complete:
        yield Number(row.estimate.mean, wording.decimals)
    else:
        yield Missing(f"n = {count_words(row)}")
    if any(costs.published[wording.published]):
        yield published_cell(costs.value(variant, wording.published))


def _notes(study: Study, costs: _Costs) -> Iterator[Note]:
    published: list[PublishedValue | None] = []
    for values in costs.published.values():
        published += values
    if study.published and any(published):
        yield Note(source_of(get_published(study.published)))
    for mark in published_marks(published):
        yield Note(mark_note(mark), mark)
