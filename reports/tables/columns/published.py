"""This module makes the published columns of a study's table: the paper's numbers, small, beside ours."""

from __future__ import annotations

from ablations.published import PublishedTable, PublishedValue
from ablations.study import Study, Variant
from reports.content.blocks import Column, Missing, Number, TableCell, Text
from reports.content.published import decimals_of, least_sure, marks_of, published_comparable, published_value
from reports.tables.cells import columns_of, published_cell, published_marks

HEADINGS = {"top1": "top-1", "top5": "top-5"}
TOP5 = "top5"
_COUNTS = {"params": "params (M)", "madds": "MAdds (M)"}
# Parameters are published with a decimal at least, multiply-adds in whole millions.
_LEAST_DECIMALS = {"params": 1, "madds": 0}


class PublishedColumns:
    """The published columns of a study's table; there are none if nothing comparable was published.

    Args:
        with_top5: Whether the table has a column of top-5 accuracy.
        with_counts: Whether parameters and multiply-adds are among these columns. A table that has its own columns of
            them is wide enough, and leaves the differences to the table of the claims.
    """

    def __init__(self, study: Study, *, with_top5: bool = False, with_counts: bool = True) -> None:
        self.table: PublishedTable | None = study.published_table
        self.column, self.heading = study.metric_facts.published, study.metric_facts.heading
        self.values = {variant.name: published_value(study, variant) for variant in study.variants}
        # A published table need not have the metric, or any of the rows.
        self.exists = any(self.values.values())
        self.comparable = {variant.name: published_comparable(study, variant) for variant in study.variants}
        self.reference = self.comparable[study.reference] if with_counts else None
        self.reference_name = study.reference
        self.decimals = 1
        for value in self.values.values():
            # The most exact number decides for the whole column.
            if value:
                self.decimals = max(self.decimals, decimals_of(value.value))
        keys = [variant.published_key for variant in study.variants]
        self.counts = [column for column in _COUNTS if with_counts and self._has(keys, column)]
        self.has_top5 = with_top5 and self._has(keys, TOP5)

    def _has(self, keys: list[str], column: str) -> bool:
        return self.table is not None and any(self.table.get(key, column) for key in keys)

    def columns(self) -> tuple[Column, ...]:
        """Return the columns: counts, the metric, with a published reference the difference to it, and top-5."""
        if not self.exists:
            return ()
        headings = [*(_COUNTS[column] for column in self.counts), HEADINGS.get(self.column, self.heading)]
        if self.reference:
            headings.append("Δ")
        if self.has_top5:
            headings.append(HEADINGS[TOP5])
        return columns_of("number", *headings, group="published")

    def cells(self, variant: Variant) -> tuple[TableCell, ...]:
        """Return the published cells of one row."""
        if not self.exists:
            return ()
        cells = []
        for column in self.counts:
            cells.append(published_cell(self._value(variant, column), least=_LEAST_DECIMALS[column]))
        cells.append(published_cell(self.values[variant.name], least=self.decimals))
        if self.reference:
            cells.append(self._difference(variant, self.reference))
        if self.has_top5:
            cells.append(published_cell(self._value(variant, TOP5)))
        return tuple(cells)

    def marks(self) -> list[str]:
        """Return the marks of the numbers in these columns."""
        values = list(self.values.values())
        if self.table is not None:
            for column in (*self.counts, *([TOP5] if self.has_top5 else [])):
                values += [self.table.get(key, column) for key in self.table.rows]
        return published_marks(values)

    def _value(self, variant: Variant, column: str) -> PublishedValue | None:
        return self.table.get(variant.published_key, column) if self.table is not None else None

    def _difference(self, variant: Variant, reference: PublishedValue) -> TableCell:
        comparable = self.comparable[variant.name]
        if comparable is None:
            return Missing()
        if variant.name == self.reference_name:
            return Text("reference", tone="aside")
        # A difference is as sure as the less sure of its two numbers.
        delta = PublishedValue(value=comparable.value - reference.value, confidence=least_sure(comparable, reference))
        return Number(delta.value, self.decimals, signed=True, marks=marks_of(delta), tone="aside")
