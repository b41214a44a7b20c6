"""This module makes the columns of what networks cost: parameters and multiply-adds beside the published ones."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.published import PublishedValue, get_published
from ablations.study import Study, Variant
from ablations.vocabulary import COST_LATENCY, COST_LATENCY_RATIO, COST_MULTIPLY_ADDS, COST_PARAMETERS
from reports.collect.results import Repeat, Results
from reports.content.blocks import Column, Missing, Number, TableCell
from reports.tables.cells import columns_of, published_cell

_MILLION = 1e6
_COUNTS = {COST_PARAMETERS: ("parameters (M)", "params"), COST_MULTIPLY_ADDS: ("multiply-adds (M)", "madds")}
"""Title of each count, and its column in the published tables."""

# Parameters are published with a decimal at least, multiply-adds in whole millions.
_LEAST_DECIMALS = {COST_PARAMETERS: 1, COST_MULTIPLY_ADDS: 0}


class CountedColumns:
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

    @property
    def published_counts(self) -> list[PublishedValue | None]:
        """The published numbers in the columns of counts."""
        values: list[PublishedValue | None] = []
        for _, column in _COUNTS.values():
            values += self.published[column]
        return values

    def columns(self) -> tuple[Column, ...]:
        """Return the columns of counts, each with a published one if there is any number in it."""
        columns: tuple[Column, ...] = ()
        for title, column in _COUNTS.values():
            headings = ["ours"]
            if any(self.published[column]):
                headings.append("published")
            columns += columns_of("number", *headings, group=title)
        return columns

    def cells(self, variant: Variant) -> Iterator[TableCell]:
        """Yield the cells of a variant in these columns."""
        for metric, (_, column) in _COUNTS.items():
            # The first count gives the reason for all that is missing.
            yield self._cell(variant, metric, 1 / _MILLION, with_reason=metric == COST_PARAMETERS)
            if any(self.published[column]):
                yield published_cell(self.value(variant, column), least=_LEAST_DECIMALS[metric])

    def latency_columns(self) -> tuple[Column, ...]:
        """Return the columns of the time for one image."""
        return columns_of("number", "ms", "ratio to static", group="latency")

    def latency_cells(self, variant: Variant) -> Iterator[TableCell]:
        """Yield the cells of a variant in the columns of the time for one image."""
        for metric in (COST_LATENCY, COST_LATENCY_RATIO):
            yield self._cell(variant, metric, 1.0, with_reason=False)

    def _cell(self, variant: Variant, metric: str, scale: float, *, with_reason: bool) -> TableCell:
        repeat = self._measured[metric].get(variant.name)
        if repeat is not None and repeat.finished:
            return Number(repeat.value * scale, 2)
        if repeat is None or not with_reason:
            return Missing()
        return Missing(repeat.status)
