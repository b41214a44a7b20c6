"""This module looks up the published numbers beside a study's own, subtracts them and marks how sure they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ablations.claims import Contrast
from ablations.published import CONFIDENCE_NOTES, SOURCE, Confidence, PublishedTable, PublishedValue
from ablations.study import Study, Variant

_OTHER_SOURCES = {
    "reimplementation": "an independent re-implementation, not the paper's authors'",
    "static_reproductions": "the paper, and the authors of ODConv and of KernelWarehouse",
    "tiny_imagenet": "an independent project, not the paper's authors'",
    "small_scale_gains": "independent projects, not the paper's authors'",
    "later_dynamic": "the authors of ODConv (ICLR 2022) and of KernelWarehouse (ICML 2024)",
    "efficientnet_condconv": "timm, not the paper's authors",
    "methods": "the paper's authors, and the rows of ODConv its authors (ICLR 2022)",
}
"""Tables that are not the paper's."""


def published_value(study: Study, variant: Variant) -> PublishedValue | None:
    """Return the published number of a variant under the study's metric."""
    table = study.published_table
    if table is None:
        return None
    return table.get(variant.published_key, study.metric_facts.published)


def published_comparable(study: Study, variant: Variant) -> PublishedValue | None:
    """Return the published number of a variant that differences to other variants are taken from."""
    table = study.published_table
    if table is None:
        return None
    return table.comparable(variant.published_key, study.metric_facts.published)


def published_contrast(study: Study, contrast: Contrast) -> PublishedValue | None:
    """Return the published difference of a contrast, as sure as its least sure number; `None` unless all are known."""
    better, worse = _published_values(study, contrast.better), _published_values(study, contrast.worse)
    # Without one of its numbers, the mean of a side would be about other rows than the contrast is.
    if len(better) + len(worse) < len(contrast.variants):
        return None
    # Rounded, so that 76.2 − 74.1 is 2.1 and not 2.1000000000000085.
    difference = round(_mean(better) - _mean(worse), 6)
    return PublishedValue(value=difference, confidence=least_sure(*better, *worse))


def _published_values(study: Study, names: Iterable[str]) -> list[PublishedValue]:
    values = []
    for name in names:
        value = published_comparable(study, study.variant(name))
        if value is not None:
            values.append(value)
    return values


def _mean(numbers: Sequence[PublishedValue]) -> float:
    if not numbers:
        return 0.0
    return sum(number.value for number in numbers) / len(numbers)


def least_sure(*values: PublishedValue) -> Confidence:
    """Return the confidence of a number computed from others: the last letter of theirs, A being the surest."""
    # The letters sort as they are sure: A before B before C.
    return max((value.confidence for value in values), default="A")


def marks_of(value: PublishedValue | None) -> tuple[str, ...]:
    """Return the footnote mark of a published number; one that is surely known has none."""
    if value is None or value.confidence == "A":
        return ()
    return (value.confidence,)


def mark_note(mark: str) -> str:
    """Return the note on the meaning of a confidence mark."""
    confidence: Confidence = "B" if mark == "B" else "C"
    return f"Published number {CONFIDENCE_NOTES[confidence]}."


def source_of(table: PublishedTable, *, in_full: bool = True) -> str:
    """Return the publisher of a table, and its setting; unless `in_full`, the paper is called so."""
    source = SOURCE if in_full else "the paper"
    return f"Published: {_OTHER_SOURCES.get(table.name, source)}; {table.setting}."


def decimals_of(value: float, least: int = 1) -> int:
    """Return the number of decimals of a published number, so that none is rounded away and none is made up."""
    return max(least, len(f"{value:.4f}".rstrip("0").partition(".")[2]))
