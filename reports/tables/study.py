"""This module builds the table of a study: its rows by variant and network, the published numbers beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ablations.foreign_study import ForeignStudy
from ablations.metrics import METRICS, MetricFacts
from ablations.planning.plan import Plan
from ablations.published import PublishedTable
from ablations.spec.titles import model_title
from ablations.study import Study, Variant
from ablations.vocabulary import TEST_TOP1, TEST_TOP5
from reports.analysis.statistics import Estimate, estimate
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.results import Results, finished_values
from reports.collect.unlearned import MARK as UNLEARNED
from reports.collect.unlearned import seeds_and_reasons
from reports.content.blocks import Column, ColumnKind, Interval, Missing, Note, Number, Table, TableCell, Text
from reports.content.formatting import number
from reports.content.plan_words import (
    Split,
    capitalized,
    data_words,
    enumerated,
    epochs_words,
    network_titles,
    network_words,
    repeats_of,
    runs_heading,
    short_titles,
    specs_of,
    split_of,
)
from reports.content.published import mark_note, source_of
from reports.tables.cells import TableRow, labels_of, published_marks, text_cells
from reports.tables.columns.counted import CountedColumns
from reports.tables.columns.published import TOP5, PublishedColumns
from reports.tables.uncertainty_words import (
    COVERS_IMAGES,
    IMPROVEMENT,
    STARS,
    interval_caption,
    is_mixed,
    shows_improvements,
    uncertainty_notes,
)

NO_SPREAD = "†"
NO_SPREAD_NOTE = "All seeds gave the same value: an interval of no width would claim too much; none is given."
_LISTED = 12
"""At most so many rows are named in notes of a kind; the others are counted."""

_ON, _OFF = "✓", "–"
_TOP = 5
"""Classes of which any are among the first five."""


@dataclass(frozen=True)
class _Beside:
    """The columns beside the measured ones; each is `None` where a table has none of its kind."""

    published: PublishedColumns
    counted: CountedColumns | None = None
    top5: Mapping[str, TableCell] | None = None


def study_table(
    study: Study, plan: Plan, summary: StudySummary, *, results: Results | None = None, with_legend: bool = True
) -> Table:
    """Return the study's table.

    Per inspected network: mean ± standard deviation over seeds, number of seeds, and the paired difference to the
    reference with its 95 % interval, the probability of improvement, and stars where there are any; then the published
    number, and its difference to the published reference. A variant with a missing repeat has no mean: the table says
    `n = 2/3` instead of averaging what happens to be there.

    Args:
        results: For the columns beyond the study's metric: parameters and multiply-adds where they were counted, and
            top-5 accuracy where the paper has it.
        with_legend: Whether the notes explain what all tables of a report share: stars, marks, published numbers.
    """
    counted = CountedColumns(study, results) if results is not None and study.with_cost else None
    top5 = _top5_cells(study, plan, results) if results is not None and shows_top5(study, plan) else None
    published = PublishedColumns(study, with_top5=top5 is not None, with_counts=counted is None)
    beside = _Beside(published, counted, top5)
    notes = (
        *published_notes(study, plan, published, beside.counted, with_legend=with_legend),
        *row_notes(study, summary, with_legend=with_legend),
    )
    return _table(study, summary, beside, table_caption(study, plan, summary), notes)


def shows_top5(study: Study, plan: Plan) -> bool:
    """Return True if a study's table has top-5 accuracy: the paper gives it there, and five are not all classes."""
    classes = max((spec.data.facts.num_classes for spec in specs_of(plan, study.name)), default=0)
    # Columns for several networks leave no room on a page for more.
    if study.metric != TEST_TOP1 or classes <= _TOP or len(study.inspected) > 1:
        return False
    table = study.published_table
    in_paper = table is not None and any(table.get(variant.published_key, TOP5) for variant in study.variants)
    return in_paper or study.with_cost


def _top5_cells(study: Study, plan: Plan, results: Results) -> Mapping[str, TableCell] | None:
    """Return the top-5 accuracy of each variant; `None` if none was tracked."""
    cells: dict[str, TableCell] = {}
    for (_, variant), repeats in results.repeats(study.name, TEST_TOP5).items():
        values = finished_values(repeats)
        cells[variant] = Missing()
        if len(values) == len(repeats):
            mean = estimate(tuple(values.values()))
            cells[variant] = Number(mean.mean, METRICS[TEST_TOP5].decimals, mean.sd)
    return cells if any(isinstance(cell, Number) for cell in cells.values()) else None


def foreign_study_table(study: ForeignStudy, summary: StudySummary) -> Table:
    """Return the table of a study whose runs were made elsewhere, in the same columns."""
    published = PublishedColumns(study)
    notes = []
    if published.table is not None:
        notes.append(Note(f"Published: {published.table.setting}. The study file states the numbers."))
    notes += row_notes(study, summary)
    return _table(study, summary, _Beside(published), foreign_caption(study, summary), notes)


def _table(study: Study, summary: StudySummary, beside: _Beside, caption: str, notes: Iterable[Note]) -> Table:
    # Where all intervals cover the same, the caption says what, and none is marked.
    covering = (COVERS_IMAGES,) if is_mixed(summary) else ()
    rows: list[TableRow] = []
    for variant in study.variants:
        counts = tuple(beside.counted.cells(variant)) if beside.counted is not None else ()
        measured = _measured_cells(study, variant, summary, covering, beside)
        rows.append((*text_cells(*labels_of(variant)), *counts, *measured, *beside.published.cells(variant)))
    count_columns = beside.counted.columns() if beside.counted is not None else ()
    measured_columns = _measured_columns(study, summary, beside)
    return Table(
        title=study.title,
        caption=caption,
        columns=(*_label_columns(study), *count_columns, *measured_columns, *beside.published.columns()),
        rows=tuple(rows),
        notes=tuple(notes),
        role="main",
    )


def foreign_caption(study: ForeignStudy, summary: StudySummary) -> str:
    """Return the caption of a study whose runs were made elsewhere: the metric, the seeds and the intervals."""
    facts = study.metric_facts
    direction = "higher" if facts.higher_is_better else "lower"
    repeats = "one seed."
    if summary.seeds > 1:
        repeats = f"{summary.seeds} seeds: mean ± standard deviation over seeds."
    reference = short_titles(study)[study.reference]
    return (
        f"{capitalized(facts.words)}, {direction} is better; {repeats} Δ is the paired difference by seed to "
        f"“{reference}”{interval_caption(summary)}"
    )


def table_caption(study: Study, plan: Plan, summary: StudySummary) -> str:
    """Return the caption: the metric, the data, the networks, the number of seeds, and the cover of the intervals."""
    specs = specs_of(plan, study.name)
    seeds = repeats_of(plan, study)
    repeats = "one seed."
    if study.trains_nothing:
        repeats = "one network, no spread between trainings."
    elif seeds > 1:
        repeats = f"{seeds} seeds: mean ± standard deviation over seeds."
    pairing = "paired difference by seed"
    if study.trains_nothing:
        pairing = "difference, image by image,"
    reference = short_titles(study)[study.reference]
    measured = study.metric_facts.words
    return (
        f"{measured[0].upper()}{measured[1:]} on {data_words(specs, split_of(study.metric))}, {network_words(specs)}, "
        f"{epochs_words(specs)}, {repeats} Δ is the {pairing} to “{reference}”"
        f"{interval_caption(summary)}"
    )


def _label_columns(study: Study) -> list[Column]:
    if not study.columns:
        return [Column("variant")]
    group = "attention at" if _is_per_resolution(study) else ""
    columns = []
    for index, heading in enumerate(study.columns):
        kind: ColumnKind = "text"
        # A column of check marks and dashes is centred; any other wraps as text.
        if {variant.cells[index] for variant in study.variants} <= {_ON, _OFF}:
            kind = "mark"
        columns.append(Column(heading, kind, group))
    return columns


def _is_per_resolution(study: Study) -> bool:
    # Headings such as 112² are sides of a map, which nothing else has a square for.
    return bool(study.columns) and all(name.endswith("²") for name in study.columns)


def _shows_improvements(study: Study, summary: StudySummary, beside: _Beside) -> bool:
    # Counts leave no room on a page for them; the appendix has those of every study.
    return beside.counted is None and shows_improvements(study, summary)


def _shows_count(summary: StudySummary, beside: _Beside) -> bool:
    # The caption has the number of seeds, which only rows with missing repeats do not have.
    return beside.counted is None or summary.missing > 0


def _measured_columns(study: Study, summary: StudySummary, beside: _Beside) -> list[Column]:
    columns = []
    for network in study.inspected:
        group = network.title if network else runs_heading(study)
        columns.append(Column(study.metric_facts.heading, "number", group))
        if _shows_count(summary, beside):
            columns.append(Column("n", "mark", group))
        columns.append(Column("Δ", "interval", group))
        if _shows_improvements(study, summary, beside):
            columns.append(Column(IMPROVEMENT, "mark", group))
        if summary.has_stars:
            columns.append(Column(STARS, "mark", group))
        if beside.top5 is not None:
            columns.append(Column(METRICS[TEST_TOP5].heading, "number", group))
    return columns


def _measured_cells(
    study: Study, variant: Variant, summary: StudySummary, covering: tuple[str, ...], beside: _Beside
) -> list[TableCell]:
    cells: list[TableCell] = []
    facts = study.metric_facts
    # A study that inspects no network has its rows under the empty name.
    for network in study.inspect or ("",):
        row = summary.get(network, variant.name)
        cells.append(mean_cell(row, facts))
        if _shows_count(summary, beside):
            cells.append(Text(count_words(row)))
        cells.append(delta_cell(row, facts, covering))
        if _shows_improvements(study, summary, beside):
            cells.append(_improvement_cell(row))
        if summary.has_stars:
            cells.append(Text(row.stars))
        if beside.top5 is not None:
            cells.append(beside.top5[variant.name])
    return cells


def count_words(row: VariantSummary) -> str:
    """Return the number of repeats, for example `3`, or `2/3` where one is missing."""
    if row.complete:
        return str(row.expected)
    return f"{len(row.values)}/{row.expected}"


def mean_cell(row: VariantSummary, facts: MetricFacts) -> TableCell:
    """Return the mean ± standard deviation of a row, or its number of repeats where some are missing."""
    # A mean over some of the repeats would change with those that come later.
    if not row.complete:
        if not row.values:
            return Missing("missing")
        return Missing(f"n = {count_words(row)}")
    marks = []
    # The marks are in the order of their notes below the table.
    if row.estimate.no_spread:
        marks.append(NO_SPREAD)
    if row.unlearned:
        marks.append(UNLEARNED)
    return Number(row.estimate.mean, facts.decimals, row.estimate.sd, marks=tuple(marks))


def delta_cell(row: VariantSummary, facts: MetricFacts, covering: tuple[str, ...] = ()) -> TableCell:
    """Return the difference of a row to the reference; `covering` as in `interval_cell`."""
    if row.delta is None:
        return Text("reference")
    if row.delta.is_known:
        return interval_cell(row.delta, facts.decimals, covering)
    # Pairs, of which there may be fewer than repeats of either row.
    if row.delta.n:
        return Missing(f"n = {row.delta.n}/{row.expected}")
    return Missing()


def _improvement_cell(row: VariantSummary) -> TableCell:
    if row.improvement is None:
        return Text("")
    return Text(number(row.improvement.probability))


def interval_cell(delta: Estimate, decimals: int, covering: tuple[str, ...] = ()) -> Interval:
    """Return a known difference as a cell; `covering` are the marks of one whose interval covers test images."""
    # Seeds that all gave one value have a mean and a mark in place of an interval.
    if delta.no_spread:
        return Interval(delta.mean, None, None, decimals, (NO_SPREAD,))
    marks: tuple[str, ...] = ()
    if delta.covers_images:
        marks = covering
    if not delta.has_interval:
        return Interval(delta.mean, None, None, decimals, marks)
    return Interval(delta.mean, delta.low, delta.high, decimals, marks)


def published_notes(
    study: Study,
    plan: Plan,
    published: PublishedColumns,
    counted: CountedColumns | None = None,
    *,
    with_legend: bool = True,
) -> Iterator[Note]:
    """Yield the notes on published numbers: their source, how far they can be compared, and how sure they are.

    Without a legend, only what is of this table alone.
    """
    if published.exists and published.table:
        source = source_of(published.table, in_full=with_legend)
        if _is_per_resolution(study):
            source += " Rows are matched by the place of the resolution, not by its px."
        yield Note(source)
        if not with_legend:
            return
        yield Note(comparability(study, plan, published.table))
        marks = set(published.marks())
        if counted is not None:
            marks.update(published_marks(counted.published_counts))
        for mark in sorted(marks):
            yield Note(mark_note(mark), mark)
    elif study.published:
        yield Note(f"Nothing was published for {study.metric_facts.words} of these rows.")


def row_notes(study: Study, summary: StudySummary, *, with_legend: bool = True) -> Iterator[Note]:
    """Yield the notes on rows: those without a spread, that never learned, with missing repeats; and on stars."""
    has_mean_alone = False
    for row in summary.variants:
        if row.estimate.no_spread or (row.delta and row.delta.no_spread):
            has_mean_alone = True
    if has_mean_alone:
        yield Note(NO_SPREAD_NOTE, NO_SPREAD)
    for network in study.inspected:
        # Where all networks are such, the caption says it.
        if network is not None and network.checkpoint is not None and not study.trains_nothing:
            yield Note(f"{network.title} was trained elsewhere: one network, no spread between trainings.")
    yield from unlearned_notes(study, summary)
    yield from uncertainty_notes(study, summary, with_legend=with_legend)
    yield from missing_notes(study, summary)


def unlearned_notes(study: Study, summary: StudySummary) -> Iterator[Note]:
    """Yield the notes on rows with a training that never learned."""
    unlearned = summary.unlearned
    for row in unlearned[:_LISTED]:
        reasons = seeds_and_reasons(row.unlearned)
        yield Note(f"{_row_title(study, row)} never learned, and says nothing of what it varies: {reasons}.", UNLEARNED)
    if len(unlearned) > _LISTED:
        yield Note(f"{len(unlearned) - _LISTED} further rows never learned, either.", UNLEARNED)


def missing_notes(study: Study, summary: StudySummary) -> Iterator[Note]:
    """Yield the notes on rows with missing repeats."""
    incomplete = [row for row in summary.variants if row.absent]
    for row in incomplete[:_LISTED]:
        yield Note(_absence(study, row))
    if len(incomplete) > _LISTED:
        yield Note(f"{len(incomplete) - _LISTED} further rows have missing repeats: those with a dash.")


def _row_title(study: Study, row: VariantSummary) -> str:
    title = study.variant(row.variant).title
    if not row.network:
        return title
    return f"{network_titles(study)[row.network]}, {title}"


def _absence(study: Study, row: VariantSummary) -> str:
    absent = ", ".join(f"seed {seed} {status}" for seed, status in row.absent.items())
    sentences = f"{_row_title(study, row)}: {absent}."
    if not row.values:
        return sentences
    decimals = study.metric_facts.decimals
    measured = ", ".join(f"{number(value, decimals)} (seed {seed})" for seed, value in row.values.items())
    return f"{sentences} Measured: {measured}; not averaged."


def comparability(study: Study, plan: Plan, table: PublishedTable) -> str:
    """Return a sentence on the differences of our data set, network and schedule from the published ones."""
    specs = specs_of(plan, study.name)
    # The setting of a published table names its dynamic network, to which static rows are the baseline.
    dynamic = [spec for spec in specs if spec.model.layer == "dynamic"]
    if not dynamic:
        dynamic = [spec for spec in specs if not spec.model.is_static] or list(specs)
    # Of a network that was trained elsewhere only the test images are known.
    split: Split = "test" if study.trains_nothing else "train"
    ours = f"{data_words(specs, split)}, {network_words(dynamic)}, {epochs_words(specs)}"
    differing = []
    if any(spec.data.name != "imagenet" for spec in specs):
        differing.append("data set")
    for spec in dynamic:
        # Settings are published with other spaces and commas, which is no other network.
        if _squeezed(model_title(spec.model)) not in _squeezed(table.setting):
            differing.append("network")
            break
    # The papers' schedules are not known in full, so that ours always counts as another.
    differing.append("schedule")
    verb = "differs" if len(differing) == 1 else "differ"
    listed = enumerated(differing)
    return (
        f"Ours: {ours} (the paper's exact schedule is not known to us). {listed[0].upper()}{listed[1:]} {verb}, so "
        "compare the order of the rows and the signs of the differences, not the numbers."
    )


def _squeezed(text: str) -> str:
    return text.replace(" ", "").replace(",", "")
