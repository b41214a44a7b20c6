"""This module builds the table of a study about cost: counts beside the published ones, and timed latency.

Nothing here is repeated over seeds: counts are exact, and a latency is one measurement on one machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ablations.planning.plan import Plan
from ablations.published import PublishedValue, get_published
from ablations.study import Study, Variant
from ablations.vocabulary import COST_LATENCY, COST_LATENCY_RATIO, COST_MULTIPLY_ADDS, COST_PARAMETERS
from reports.collect.results import Repeat, Results
from reports.content.blocks import Cell, Column, Missing, Note, Number, Table, Text
from reports.content.formatting import number
from reports.content.plan_words import specs_of
from reports.content.published import decimals_of, marks_of, source_of

_ELSEWHERE = ("condconv",)
"""Published tables that have the numbers which the study's own table lacks."""

_COUNTED = {COST_PARAMETERS: "params", COST_MULTIPLY_ADDS: "madds"}
_MARK_NOTES = {"B": "Published number from one second-hand source.", "C": "Published number read off a figure."}
_OTHER_NETWORK = (
    "The paper's MobileNetV3-Small is an earlier variant than torchvision's, which is counted here: the deviation is "
    "one between two networks."
)
_ONE_CLASSIFIER = (
    "Ours keeps one linear classifier; eight of them, routed like the convolutions, would add 7 × 1.28 M parameters, "
    "about as much as the deviation."
)
_ROW_NOTES = {
    "condconv_1.0": _ONE_CLASSIFIER,
    "condconv_0.5": _ONE_CLASSIFIER,
    "mobilenet_v3_small_static": _OTHER_NETWORK,
    "mobilenet_v3_small_dynamic": _OTHER_NETWORK,
    "resnet18_static": "The published parameters leave the classifier out; ours include it.",
}
_REIMPLEMENTED = {"resnet18_dynamic": "dynamic"}
_MILLION = 1e6
_NEAR = 2.0
"""A count meets a published number, which has two or three digits itself, if it is within so many per cent."""
_NAMES = {COST_PARAMETERS: "parameters", COST_MULTIPLY_ADDS: "multiply-adds"}
_TIMED = (Column("ms", "number", "latency"), Column("ratio to static", "number", "latency"))


@dataclass(frozen=True)
class Counted:
    """One row: the counts and times of a variant, by metric; a metric that was not measured is absent.

    Attributes:
        variant: The row.
        values: Counts, milliseconds and ratio under the names of the vocabulary.
        status: `finished`, or the reason why there is nothing.
    """

    variant: Variant
    values: Mapping[str, float]
    status: str

    def deviation(self, study: Study, metric: str) -> float | None:
        """Return the deviation of a count from the published one in per cent, if there are both."""
        published = published_count(study, self.variant, metric)
        if published is None or metric not in self.values:
            return None
        return (self.values[metric] / _MILLION / published.value - 1) * 100


def count_rows(study: Study, results: Results) -> tuple[Counted, ...]:
    """Return the measured numbers of each variant of a study about cost."""
    metrics = (COST_PARAMETERS, COST_MULTIPLY_ADDS, COST_LATENCY, COST_LATENCY_RATIO)
    repeats_by_metric = {metric: results.repeats(study.name, metric) for metric in metrics}
    return tuple(
        # A cost has one repeat, of seed 0, and no inspected network.
        _row(variant, {metric: repeats["", variant.name][0] for metric, repeats in repeats_by_metric.items()})
        for variant in study.variants
    )


def _row(variant: Variant, repeats: Mapping[str, Repeat]) -> Counted:
    # A network without a measured latency still has its counts.
    values = {metric: repeat.value for metric, repeat in repeats.items() if repeat.finished}
    return Counted(variant, values, repeats[COST_PARAMETERS].status)


def published_count(study: Study, variant: Variant, metric: str) -> PublishedValue | None:
    """Return the published count of a variant in millions, from the study's own table or one that has its key."""
    tables = [get_published(name) for name in (study.published, *_ELSEWHERE) if name]
    values = (table.get(variant.published_key, _COUNTED[metric]) for table in tables)
    return next((value for value in values if value), None)


def cost_table(study: Study, plan: Plan, results: Results) -> Table:
    """Return the table: parameters and multiply-adds, each with the published number and the deviation, and latency."""
    rows = count_rows(study, results)
    numbered = _numbered(study)
    return Table(
        title=study.title,
        caption=_caption(study, plan),
        columns=(
            *_label_columns(study),
            *_count_columns("parameters (M)"),
            *_count_columns("multiply-adds (M)"),
            *_TIMED,
        ),
        rows=tuple(tuple(_cells(study, row, numbered)) for row in rows),
        notes=tuple(_notes(study, rows, numbered)),
        rules=_new_networks(study),
    )


def _caption(study: Study, plan: Plan) -> str:
    # Counts depend on the size of an image and on the number of classes, and on nothing else of the data.
    sizes = sorted({spec.data.facts.image_size for spec in specs_of(plan, study.name)})
    classes = sorted({spec.data.facts.num_classes for spec in specs_of(plan, study.name)})
    return (
        f"Counted for one image of {' or '.join(f'{size} × {size}' for size in sizes)} px and "
        f"{' or '.join(map(str, classes))} classes; nothing is trained. Multiply-adds include pooling, attention "
        "branch and aggregation. Latency: median time for one image on one CPU thread of a single machine; each "
        "network and the same network with static layers were timed in turn in one process, and the ratio is between "
        "those two. For a static network it says how far timing alone strays from 1."
    )


def _count_columns(group: str) -> tuple[Column, ...]:
    return tuple(Column(heading, "number", group) for heading in ("ours", "published", "deviation (%)"))


def _label_columns(study: Study) -> tuple[Column, ...]:
    return tuple(Column(name) for name in study.columns) or (Column("network"),)


def _cells(study: Study, row: Counted, numbered: Mapping[str, str]) -> Iterator[Cell]:
    first, *further = row.variant.cells or (row.variant.title,)
    mark = numbered.get(_note_of(row.variant))
    yield Text(first, (mark,) if mark else ())
    yield from (Text(text) for text in further)
    for metric in _COUNTED:
        yield _measured(row, metric, 2, 1 / _MILLION)
        published = published_count(study, row.variant, metric)
        # Parameters are published with a decimal at least, multiply-adds in whole millions.
        yield _published(published, 1 if metric == COST_PARAMETERS else 0)
        deviation, marks = row.deviation(study, metric), marks_of(published)
        yield Missing() if deviation is None else Number(deviation, 1, signed=True, marks=marks)
    yield _measured(row, COST_LATENCY, 1, 1.0)
    yield _measured(row, COST_LATENCY_RATIO, 2, 1.0)


def _measured(row: Counted, metric: str, decimals: int, scale: float) -> Cell:
    if metric in row.values:
        return Number(row.values[metric] * scale, decimals)
    return Missing(row.status if metric == COST_PARAMETERS else "")


def _published(value: PublishedValue | None, least: int) -> Cell:
    return Missing() if value is None else Number(value.value, decimals_of(value.value, least), marks=marks_of(value))


def _new_networks(study: Study) -> tuple[int, ...]:
    """Return the rows above which another network begins, if the label has a column of its own for the network."""
    names = [variant.cells[0] for variant in study.variants] if len(study.columns) > 1 else []
    return tuple(index for index in range(1, len(names)) if names[index] != names[index - 1])


def _note_of(variant: Variant) -> str:
    if variant.published_key in _REIMPLEMENTED:
        value = get_published("reimplementation").get(_REIMPLEMENTED[variant.published_key], "params")
        sentence = f"An independent re-implementation has {value.value:g} M parameters" if value else ""
        return f"{sentence}, every convolution but the stem dynamic (one second-hand source)." if value else ""
    return _ROW_NOTES.get(variant.published_key, "")


def _numbered(study: Study) -> dict[str, str]:
    """Return the notes on single rows with their marks, numbered in the order of the rows."""
    notes = dict.fromkeys(_note_of(variant) for variant in study.variants)
    return {note: str(index) for index, note in enumerate((note for note in notes if note), start=1)}


def _notes(study: Study, rows: Iterable[Counted], numbered: Mapping[str, str]) -> Iterator[Note]:
    published = [published_count(study, row.variant, metric) for row in rows for metric in _COUNTED]
    if study.published and any(published):
        yield Note(source_of(get_published(study.published)))
    yield from (Note(text, mark) for text, mark in numbered.items())
    for mark in sorted({mark for value in published for mark in marks_of(value)}):
        yield Note(_MARK_NOTES[mark], mark)


def cost_reading(study: Study, results: Results) -> str:
    """Return sentences on the range of the deviations and of the latency ratio of networks with kernels."""
    rows = count_rows(study, results)
    sentences = [_deviation_words(study, rows, metric, name) for metric, name in _NAMES.items()]
    sentences.append(_ratio_words(rows))
    return " ".join(sentence for sentence in sentences if sentence) or "Nothing has been counted yet."


def _deviation_words(study: Study, rows: Iterable[Counted], metric: str, name: str) -> str:
    deviations = [(deviation, row) for row in rows if (deviation := row.deviation(study, metric)) is not None]
    if not deviations:
        return ""
    value, row = max(deviations, key=lambda item: abs(item[0]))
    met = sum(abs(deviation) <= _NEAR for deviation, _ in deviations)
    return (
        f"Of {len(deviations)} published numbers of {name}, {met} are met within {_NEAR:g} %; the farthest is "
        f"“{' '.join(row.variant.cells) or row.variant.title}” ({number(value, 1, True)} %)."
    )


def _ratio_words(rows: Iterable[Counted]) -> str:
    dynamic = [row for row in rows if row.variant.changes.get("model.layer") != "static"]
    ratios = [row.values[COST_LATENCY_RATIO] for row in dynamic if COST_LATENCY_RATIO in row.values]
    if not ratios:
        return ""
    return (
        f"One image takes {number(min(ratios))} to {number(max(ratios))} times as long as with static layers on the "
        "machine at hand."
    )
