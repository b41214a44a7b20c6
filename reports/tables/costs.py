"""This module builds the table of a study about cost: counts beside the published ones, and timed latency.

Nothing here is repeated over seeds: counts are exact, and a latency is one measurement on one machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ablations.planning.plan import Plan
from ablations.published import PublishedValue, get_published
from ablations.study import Study, Variant
from ablations.vocabulary import COST_LATENCY, COST_LATENCY_RATIO, COST_MULTIPLY_ADDS, COST_PARAMETERS
from reports.collect.results import Results
from reports.content.blocks import Missing, Note, Number, Table, TableCell, Text
from reports.content.formatting import number
from reports.content.plan_words import specs_of
from reports.content.published import marks_of, source_of
from reports.tables.cells import columns_of, labels_of, number_cell, published_cell, published_marks, text_cells

_FURTHER_TABLES = ("condconv",)
"""Published tables that have the numbers which the study's own table lacks."""

_COUNTED = {COST_PARAMETERS: "params", COST_MULTIPLY_ADDS: "madds"}
_COUNT_HEADINGS = ("ours", "published", "deviation (%)")
# Parameters are published with a decimal at least, multiply-adds in whole millions.
_LEAST_DECIMALS = {COST_PARAMETERS: 1, COST_MULTIPLY_ADDS: 0}
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


@dataclass(frozen=True)
class Counted:
    """One row: counts, milliseconds and ratio of a variant by metric, as far as they were measured.

    `status` is `finished`, or the reason why there is nothing.
    """

    variant: Variant
    values: Mapping[str, float]
    status: str

    def deviation(self, study: Study, metric: str) -> float:
        """Return the deviation of a count from the published one in per cent; NaN unless there are both."""
        published = published_count(study, self.variant, metric)
        if published is None or metric not in self.values:
            return math.nan
        return (self.values[metric] / _MILLION / published.value - 1) * 100


def count_rows(study: Study, results: Results) -> list[Counted]:
    """Return the measured numbers of each variant of a study about cost."""
    metrics = (COST_PARAMETERS, COST_MULTIPLY_ADDS, COST_LATENCY, COST_LATENCY_RATIO)
    repeats_by_metric = {metric: results.repeats(study.name, metric) for metric in metrics}
    rows = []
    for variant in study.variants:
        values: dict[str, float] = {}
        statuses: dict[str, str] = {}
        for metric, repeats in repeats_by_metric.items():
            # A cost has one repeat, of seed 0, and no inspected network.
            repeat = repeats["", variant.name][0]
            statuses[metric] = repeat.status
            if repeat.finished:
                values[metric] = repeat.value
        # The counts decide: a network without a measured latency still has them.
        rows.append(Counted(variant, values, statuses[COST_PARAMETERS]))
    return rows


def published_count(study: Study, variant: Variant, metric: str) -> PublishedValue | None:
    """Return the published count of a variant in millions, from the study's own table or one that has its key."""
    for name in (study.published, *_FURTHER_TABLES):
        if name:
            value = get_published(name).get(variant.published_key, _COUNTED[metric])
            if value:
                return value
    return None


def cost_table(study: Study, plan: Plan, results: Results) -> Table:
    """Return the table: parameters and multiply-adds, each with the published number and the deviation, and latency."""
    rows = count_rows(study, results)
    marks = _marks_by_note(study)
    return Table(
        title=study.title,
        caption=_caption(study, plan),
        columns=(
            *columns_of("text", *(study.columns or ("network",))),
            *columns_of("number", *_COUNT_HEADINGS, group="parameters (M)"),
            *columns_of("number", *_COUNT_HEADINGS, group="multiply-adds (M)"),
            *columns_of("number", "ms", "ratio to static", group="latency"),
        ),
        rows=tuple([tuple(_cells(study, row, marks)) for row in rows]),
        notes=tuple(_notes(study, rows, marks)),
        rules=_new_networks(study),
        role="main",
    )


def _caption(study: Study, plan: Plan) -> str:
    # Counts depend on the size of an image and on the number of classes, and on nothing else of the data.
    sizes: set[int] = set()
    classes: set[int] = set()
    for spec in specs_of(plan, study.name):
        sizes.add(spec.data.facts.image_size)
        classes.add(spec.data.facts.num_classes)
    size_words = " or ".join([f"{size} × {size}" for size in sorted(sizes)])
    class_words = " or ".join(map(str, sorted(classes)))
    return (
        f"Counted for one image of {size_words} px and {class_words} classes; nothing is trained. Multiply-adds "
        "include pooling, attention branch and aggregation. Latency: median time for one image on one CPU thread of a "
        "single machine; each network and the same network with static layers were timed in turn in one process, and "
        "the ratio is between those two. For a static network it says how far timing alone strays from 1."
    )


def _cells(study: Study, row: Counted, marks: Mapping[str, str]) -> Iterator[TableCell]:
    label, *further_labels = labels_of(row.variant)
    note = _note_of(row.variant)
    yield Text(label, (marks[note],) if note else ())
    yield from text_cells(*further_labels)
    for metric in _COUNTED:
        published = published_count(study, row.variant, metric)
        yield _measured(row, metric, 2, 1 / _MILLION)
        yield published_cell(published, least=_LEAST_DECIMALS[metric])
        # A deviation is as sure as the published number in it.
        yield number_cell(row.deviation(study, metric), 1, signed=True, marks=marks_of(published))
    yield _measured(row, COST_LATENCY, 1, 1.0)
    yield _measured(row, COST_LATENCY_RATIO, 2, 1.0)


def _measured(row: Counted, metric: str, decimals: int, scale: float) -> TableCell:
    if metric in row.values:
        return Number(row.values[metric] * scale, decimals)
    # The first count of a row gives the reason for all that are missing in it.
    if metric == COST_PARAMETERS:
        return Missing(row.status)
    return Missing()


def _new_networks(study: Study) -> tuple[int, ...]:
    """Return the rows above which another network begins, if the label has a column of its own for the network."""
    rules = []
    if len(study.columns) > 1:
        for index, (above, variant) in enumerate(pairwise(study.variants), start=1):
            if variant.cells[0] != above.cells[0]:
                rules.append(index)
    return tuple(rules)


def _note_of(variant: Variant) -> str:
    if variant.published_key not in _REIMPLEMENTED:
        return _ROW_NOTES.get(variant.published_key, "")
    value = get_published("reimplementation").get(_REIMPLEMENTED[variant.published_key], "params")
    if not value:
        return ""
    return (
        f"An independent re-implementation has {value.value:g} M parameters, every convolution but the stem dynamic "
        "(one second-hand source)."
    )


def _marks_by_note(study: Study) -> dict[str, str]:
    """Return the marks of the notes on single rows, numbered in the order of the rows."""
    marks: dict[str, str] = {}
    for variant in study.variants:
        note = _note_of(variant)
        # Rows may share a note, which then is there once.
        if note and note not in marks:
            marks[note] = str(len(marks) + 1)
    return marks


def _notes(study: Study, rows: Iterable[Counted], marks: Mapping[str, str]) -> Iterator[Note]:
    published = []
    for row in rows:
        for metric in _COUNTED:
            published.append(published_count(study, row.variant, metric))
    if study.published and any(published):
        yield Note(source_of(get_published(study.published)))
    for note, mark in marks.items():
        yield Note(note, mark)
    for mark in published_marks(published):
        yield Note(_MARK_NOTES[mark], mark)


def cost_reading(study: Study, results: Results) -> str:
    """Return sentences on the range of the deviations and of the latency ratio of networks with kernels."""
    rows = count_rows(study, results)
    sentences = [
        _deviation_words(study, rows, COST_PARAMETERS, "parameters"),
        _deviation_words(study, rows, COST_MULTIPLY_ADDS, "multiply-adds"),
        _ratio_words(study, rows),
    ]
    return " ".join(filter(None, sentences)) or "Nothing has been counted yet."


def _deviation_words(study: Study, rows: Iterable[Counted], metric: str, name: str) -> str:
    deviations: list[tuple[float, Counted]] = []
    matches = 0
    for row in rows:
        deviation = row.deviation(study, metric)
        if not math.isnan(deviation):
            deviations.append((deviation, row))
            matches += abs(deviation) <= _NEAR
    if not deviations:
        return ""
    farthest, row = max(deviations, key=lambda item: abs(item[0]))
    return (
        f"Of {len(deviations)} published numbers of {name}, {matches} are met within {_NEAR:g} %; the farthest is "
        f"“{' '.join(labels_of(row.variant))}” ({number(farthest, 1, True)} %)."
    )


def _ratio_words(study: Study, rows: Iterable[Counted]) -> str:
    ratios = []
    for row in rows:
        layer = row.variant.changes.get("model.layer", study.baseline.get("model.layer"))
        # The ratio of a static network to itself says something of timing, and nothing of kernels.
        if layer != "static" and COST_LATENCY_RATIO in row.values:
            ratios.append(row.values[COST_LATENCY_RATIO])
    if not ratios:
        return ""
    return (
        f"One image takes {number(min(ratios))} to {number(max(ratios))} times as long as with static layers on the "
        "machine at hand."
    )
