"""This module makes the tidy rows of a report: unrounded numbers by study, network and variant, for other programs.

`docs/report-formats.md` describes each column. What is not known is `None`: the mean of a row with a missing repeat,
the difference of the reference to itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ablations.published import PublishedValue
from ablations.study import Study, Variant
from reports.analysis.claims import JudgedClaim, JudgedContrast
from reports.analysis.statistics import Estimate
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.tracked_runs import FINISHED
from reports.content.blocks import Records, RecordValue
from reports.content.plan_words import network_titles, short_titles
from reports.content.published import published_comparable, published_value

ROW_COLUMNS = (
    *("study", "network", "network_title", "variant", "variant_title", "reference", "metric", "n", "planned"),
    *("mean", "sd", "ci_low", "ci_high", "delta", "delta_ci_low", "delta_ci_high", "p", "p_holm", "p_better"),
    *("never_learned", "published", "published_confidence", "published_delta"),
)
CLAIM_COLUMNS = (
    *("study", "network", "claim", "statement", "rank", "verdict", "remark", "kind", "better", "worse", "decides"),
    *("contrast_verdict", "n", "delta", "ci_low", "ci_high", "level", "bound", "published", "published_confidence"),
)
REPEAT_COLUMNS = ("study", "network", "variant", "seed", "metric", "value", "status")

_Row = tuple[RecordValue, ...]


def study_records(studies: Iterable[tuple[Study, StudySummary]], claims: Iterable[JudgedClaim]) -> tuple[Records, ...]:
    """Return the tidy rows of some studies: their rows, their claims contrast by contrast, and their repeats."""
    pairs = tuple(studies)
    by_name = {study.name: study for study, _ in pairs}
    rows: list[_Row] = []
    repeats: list[_Row] = []
    for study, summary in pairs:
        rows += _rows(study, summary)
        repeats += _repeats(study, summary)
    of_claims: list[_Row] = []
    for judged in claims:
        of_claims += _contrasts(by_name[judged.study], judged)
    return (
        Records("rows", ROW_COLUMNS, tuple(rows)),
        Records("claims", CLAIM_COLUMNS, tuple(of_claims)),
        Records("repeats", REPEAT_COLUMNS, tuple(repeats)),
    )


def _rows(study: Study, summary: StudySummary) -> Iterator[_Row]:
    variant_titles, titles = short_titles(study), network_titles(study)
    reference = published_comparable(study, study.variant(study.reference))
    for row in summary.variants:
        yield (
            *(study.name, row.network, titles.get(row.network, ""), row.variant, variant_titles[row.variant]),
            *(study.reference, study.metric, len(row.values), row.expected),
            *_known(row.estimate.mean, row.estimate.sd, row.estimate.low, row.estimate.high),
            *_difference(row),
            bool(row.unlearned),
            *_published(study, study.variant(row.variant), reference),
        )


def _difference(row: VariantSummary) -> _Row:
    """Return the difference of a row to its reference with the ends of its interval, its p-values and P(better)."""
    improvement = math.nan if row.improvement is None else row.improvement.probability
    ends = (None, None, None) if row.delta is None else _ends(row.delta)
    return (*ends, *_known(row.p_value, row.p_holm, improvement))


def _ends(difference: Estimate) -> _Row:
    """Return a difference and the ends of its interval."""
    low, high = (difference.low, difference.high) if difference.has_interval else (math.nan, math.nan)
    return _known(difference.mean, low, high)


def _published(study: Study, variant: Variant, reference: PublishedValue | None) -> _Row:
    """Return the published number of a variant, its confidence, and its difference to the published reference."""
    value, comparable = published_value(study, variant), published_comparable(study, variant)
    number, confidence = _number_and_confidence(value)
    if comparable is None or reference is None or variant.name == study.reference:
        return number, confidence, None
    # Rounded, so that 76.2 − 74.1 is 2.1 and not 2.1000000000000085.
    return number, confidence, round(comparable.value - reference.value, 6)


def _number_and_confidence(value: PublishedValue | None) -> tuple[float | None, str | None]:
    return (None, None) if value is None else (value.value, value.confidence)


def _repeats(study: Study, summary: StudySummary) -> Iterator[_Row]:
    for row in summary.variants:
        for seed in sorted({*row.values, *row.absent}):
            value = row.values.get(seed, math.nan)
            status = row.absent.get(seed, FINISHED)
            yield (study.name, row.network, row.variant, seed, study.metric, *_known(value), status)


def _contrasts(study: Study, judged: JudgedClaim) -> Iterator[_Row]:
    """Yield a row per contrast of a claim; one without numbers for a claim of which none could be asked."""
    claim = judged.claim
    words = (study.name, judged.network, claim.name, claim.statement, judged.rank, judged.verdict, judged.remark)
    if not judged.contrasts:
        yield (*words, *[None] * (len(CLAIM_COLUMNS) - len(words)))
    for contrast in judged.contrasts:
        yield (*words, *_contrast(contrast, decides=contrast is judged.decisive))


def _contrast(judged: JudgedContrast, *, decides: bool) -> _Row:
    contrast = judged.contrast
    return (
        *(contrast.kind, " ".join(contrast.better), " ".join(contrast.worse), decides, judged.verdict, judged.complete),
        *_ends(judged.difference),
        judged.level,
        judged.bound,
        *_number_and_confidence(judged.published),
    )


def _known(*values: float) -> tuple[float | None, ...]:
    """Return numbers with `None` in place of those that are not known."""
    return tuple(float(value) if math.isfinite(value) else None for value in values)
