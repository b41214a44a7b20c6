"""This module builds the table of a study: its rows by variant and network, the published numbers beside them."""

from __future__ import annotations

from collections.abc import Iterable

from ablations.planning.plan import Plan
from ablations.published import PublishedTable, PublishedValue
from ablations.spec.titles import model_title
from ablations.study import InspectedNetwork, Study, Variant
from ablations.vocabulary import STUDY_METRICS
from reports.analysis.statistics import Estimate
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.unlearned import MARK as UNLEARNED
from reports.collect.unlearned import seeds_and_reasons
from reports.content.blocks import Cell, Column, Interval, Missing, Note, Number, Table, Text
from reports.content.formatting import number
from reports.content.plan_words import (
    data_words,
    epochs_words,
    network_words,
    repeats_of,
    short_titles,
    specs_of,
    split_of,
    telling,
)
from reports.content.published import (
    decimals_of,
    least_sure,
    mark_note,
    marks_of,
    published_table,
    published_value,
    source_of,
)
from reports.tables.uncertainty_words import COVERS_IMAGES, STARS, interval_caption, is_mixed, uncertainty_notes

NO_SPREAD = "†"
NO_SPREAD_NOTE = "All seeds gave the same value: an interval of no width would claim too much; none is given."
_LISTED = 12
_PUBLISHED_HEADINGS = {"top1": "top-1", "top5": "top-5"}
_ON, _OFF = "✓", "–"


def study_table(study: Study, plan: Plan, summary: StudySummary) -> Table:
    """Return the study's table.

    Per inspected network: mean ± standard deviation over seeds, number of seeds, and the paired difference to the
    reference with its 95 % interval, and stars where there are any; then the published number, and its difference
    to the published reference. A variant with a missing repeat has no mean: the table says `n = 2/3` instead of
    averaging what happens to be there.
    """
    # Published columns are there only if something comparable was published.
    published = _Published(study)
    columns = (*_label_columns(study), *_own_columns(study, summary), *published.columns())
    marks = (COVERS_IMAGES,) if is_mixed(summary) else ()
    rows = [
        (*_label_cells(study, variant), *_own_cells(study, variant, summary, marks), *published.cells(variant))
        for variant in study.variants
    ]
    return Table(
        title=study.title,
        caption=table_caption(study, plan, summary),
        columns=columns,
        rows=tuple(rows),
        notes=tuple(_notes(study, plan, summary, published)),
    )


def table_caption(study: Study, plan: Plan, summary: StudySummary) -> str:
    """Return the caption: the metric, the data, the networks, the number of seeds, and the cover of the intervals."""
    specs = specs_of(plan, study.name)
    seeds = repeats_of(plan, study)
    reference = short_titles(study)[study.reference]
    measured = STUDY_METRICS[study.metric]
    clauses = [
        f"{measured[0].upper()}{measured[1:]} on {data_words(specs, split_of(study.metric))},",
        f"{network_words(specs)}, {epochs_words(specs)},",
        f"{seeds} seeds: mean ± standard deviation over seeds." if seeds > 1 else "one seed.",
        f"Δ is the paired difference by seed to “{reference}”{interval_caption(summary)}",
    ]
    return " ".join(clauses)


def _label_columns(study: Study) -> tuple[Column, ...]:
    if not study.columns:
        return (Column("variant"),)
    group = "attention at" if _is_per_resolution(study) else ""
    cells = zip(*(variant.cells for variant in study.variants), strict=True)
    # A column of check marks and dashes is centred; any other wraps as text.
    kinds = ["mark" if {*column} <= {_ON, _OFF} else "text" for column in cells]
    return tuple(
        Column(name, "mark" if kind == "mark" else "text", group)
        for name, kind in zip(study.columns, kinds, strict=True)
    )


def _is_per_resolution(study: Study) -> bool:
    return bool(study.columns) and all(name.endswith("²") for name in study.columns)


def _label_cells(study: Study, variant: Variant) -> tuple[Cell, ...]:
    return tuple(Text(cell) for cell in variant.cells) or (Text(variant.title),)


def _own_columns(study: Study, summary: StudySummary) -> list[Column]:
    columns = []
    for network in study.inspected:
        group = network.title if network else "ours"
        columns += [
            Column(telling(study.metric).heading, "number", group),
            Column("n", "mark", group),
            Column("Δ", "interval", group),
        ]
        if summary.has_stars:
            columns.append(Column(STARS, "mark", group))
    return columns


def _own_cells(study: Study, variant: Variant, summary: StudySummary, marks: tuple[str, ...]) -> list[Cell]:
    cells: list[Cell] = []
    for network in study.inspected:
        row = summary.get(_name(network), variant.name)
        cells += [_mean_cell(row, study.metric), _count_cell(row), _delta_cell(row, study.metric, marks)]
        if summary.has_stars:
            cells.append(Text(row.stars))
    return cells


def _name(network: InspectedNetwork | None) -> str:
    return network.name if network else ""


def _mean_cell(row: VariantSummary, metric: str) -> Cell:
    if not row.complete:
        return Missing(f"n = {len(row.values)}/{row.expected}" if row.values else "missing")
    marks: tuple[str, ...] = (NO_SPREAD,) if row.estimate.no_spread else ()
    marks += (UNLEARNED,) if row.unlearned else ()
    return Number(row.estimate.mean, telling(metric).decimals, row.estimate.sd, marks=marks)


def _count_cell(row: VariantSummary) -> Cell:
    return Text(str(row.expected) if row.complete else f"{len(row.values)}/{row.expected}")


def _delta_cell(row: VariantSummary, metric: str, covering: tuple[str, ...]) -> Cell:
    if row.delta is None:
        return Text("reference")
    if not row.delta.is_known:
        return Missing(f"n = {row.delta.n}/{row.expected}" if row.delta.n else "")
    return interval_cell(row.delta, telling(metric).decimals, covering)


def interval_cell(delta: Estimate, decimals: int, covering: tuple[str, ...] = ()) -> Interval:
    """Return a known difference as a cell; `covering` are the marks of one whose interval covers test images."""
    marks = (NO_SPREAD,) if delta.no_spread else covering if delta.covers_images else ()
    low, high = (delta.low, delta.high) if delta.has_interval else (None, None)
    return Interval(delta.mean, low, high, decimals, marks)


class _Published:
    """The published columns of a study's table; there are none if nothing comparable was published."""

    def __init__(self, study: Study) -> None:
        self.table: PublishedTable | None = published_table(study)
        self.column = telling(study.metric).published
        self.values = {variant.name: published_value(study, variant) for variant in study.variants}
        self.there = any(self.values.values())
        self.reference = self.values[study.reference]
        self.decimals = max((decimals_of(value.value) for value in self.values.values() if value), default=1)

    def columns(self) -> tuple[Column, ...]:
        """Return the column of the published number and, with a published reference, that of the difference to it."""
        if not self.there:
            return ()
        pair = (Column(_PUBLISHED_HEADINGS[self.column], "number", "published"), Column("Δ", "number", "published"))
        return pair if self.reference else pair[:1]

    def cells(self, variant: Variant) -> tuple[Cell, ...]:
        """Return the published cells of one row."""
        value = self.values[variant.name]
        number_cell: Cell = Number(value.value, self.decimals, marks=marks_of(value)) if value else Missing()
        # Without a reference the column of the difference is not there, and its cell is cut off.
        return (number_cell, self._delta(value))[: len(self.columns())]

    def _delta(self, value: PublishedValue | None) -> Cell:
        if not (value and self.reference):
            return Missing()
        if value is self.reference:
            return Text("reference")
        # A difference is as sure as the less sure of its two numbers.
        delta = PublishedValue(value=value.value - self.reference.value, confidence=least_sure(value, self.reference))
        return Number(delta.value, self.decimals, signed=True, marks=marks_of(delta))

    def marks(self) -> list[str]:
        """Return the confidence marks that occur."""
        return sorted({mark for value in self.values.values() for mark in marks_of(value)})


def _notes(study: Study, plan: Plan, summary: StudySummary, published: _Published) -> Iterable[Note]:
    if published.there and published.table:
        remark = " Rows are matched by the place of the resolution, not by its px." if _is_per_resolution(study) else ""
        yield Note(source_of(published.table) + remark)
        yield Note(comparability(study, plan, published.table))
        yield from (Note(mark_note(mark), mark) for mark in published.marks())
    elif study.published:
        yield Note(f"Nothing was published for {STUDY_METRICS[study.metric]} of these rows.")
    if any(row.estimate.no_spread or (row.delta and row.delta.no_spread) for row in summary.variants):
        yield Note(NO_SPREAD_NOTE, NO_SPREAD)
    unlearned = summary.unlearned
    yield from (Note(_unlearned_words(study, row), UNLEARNED) for row in unlearned[:_LISTED])
    if len(unlearned) > _LISTED:
        yield Note(f"{len(unlearned) - _LISTED} further rows never learned, either.", UNLEARNED)
    yield from uncertainty_notes(study, summary)
    absent = [row for row in summary.variants if row.absent]
    yield from (Note(_absence(study, row)) for row in absent[:_LISTED])
    if len(absent) > _LISTED:
        yield Note(f"{len(absent) - _LISTED} further rows have missing repeats: those with a dash.")


def _unlearned_words(study: Study, row: VariantSummary) -> str:
    return f"{_row_title(study, row)} never learned, and says nothing of what it varies: " + (
        f"{seeds_and_reasons(row.unlearned)}."
    )


def _row_title(study: Study, row: VariantSummary) -> str:
    titles = {network.name: f"{network.title}, " for network in study.networks}
    return f"{titles.get(row.network, '')}{study.variant(row.variant).title}"


def _absence(study: Study, row: VariantSummary) -> str:
    absent = ", ".join(f"seed {seed} {status}" for seed, status in row.absent.items())
    decimals = telling(study.metric).decimals
    measured_values = ", ".join(f"{number(value, decimals)} (seed {seed})" for seed, value in row.values.items())
    measured = f" Measured: {measured_values}; not averaged." if measured_values else ""
    return f"{_row_title(study, row)}: {absent}.{measured}"


def comparability(study: Study, plan: Plan, table: PublishedTable) -> str:
    """Return a sentence on the differences of our data set, network and schedule from the published ones."""
    specs = specs_of(plan, study.name)
    dynamic = [spec for spec in specs if spec.model.layer == "dynamic"] or specs
    ours = f"{data_words(specs, 'train')}, {network_words(dynamic)}, {epochs_words(specs)}"
    differs = []
    if any(spec.data.name != "imagenet" for spec in specs):
        differs.append("data set")
    # Settings are published with other spaces and commas, which is no other network.
    if any(_squeezed(model_title(spec.model)) not in _squeezed(table.setting) for spec in dynamic):
        differs.append("network")
    listed = " and ".join([*differs, "schedule"]) if len(differs) < 2 else "data set, network and schedule"
    schedule = "the paper's exact schedule is not known to us"
    return (
        f"Ours: {ours} ({schedule}). {listed[0].upper()}{listed[1:]} differ{'s' if not differs else ''}, so "
        "compare the order of the rows and the signs of the differences, not the numbers."
    )


def _squeezed(text: str) -> str:
    return text.replace(" ", "").replace(",", "")
