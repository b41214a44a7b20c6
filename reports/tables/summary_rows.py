"""This module makes the rows that a study's summary run is tracked with: the numbers of its table in words.

The command line carries them to `runners.tracking`, which writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.summary_rows import SummaryRepeat, SummaryRow
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.results import Results
from reports.content.formatting import DASH, interval, number
from reports.content.plan_words import network_prefix, short_titles
from reports.tables.study import count_words


def summary_rows(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Iterator[SummaryRow]:
    """Yield the rows of one study of a plan."""
    titles = short_titles(study)
    run_ids = dict(zip(results.cells["fingerprint"], results.cells["run_id"], strict=True))
    for row in summary.variants:
        repeats = []
        for cell in plan.cells_of_row(study.name, row.network, row.variant):
            # A repeat without a value has the reason in its place.
            value = row.absent.get(cell.seed, "")
            if cell.seed in row.values:
                value = number(row.values[cell.seed], study.metric_facts.decimals)
            repeats.append(SummaryRepeat(cell.seed, str(run_ids.get(cell.fingerprint, "")), value))
        tuned = plan.tuned.get((study.name, row.key))
        yield SummaryRow(
            key=row.key,
            metrics=row.as_metrics(study.metric),
            title=network_prefix(study, row.network) + titles[row.variant],
            texts=_texts(study, row),
            repeats=repeats,
            tuned=tuned.values if tuned is not None else {},
        )


def _texts(study: Study, row: VariantSummary) -> dict[str, str]:
    decimals = study.metric_facts.decimals
    mean = DASH
    if row.complete:
        mean = number(row.estimate.mean, decimals)
        # One repeat has no spread.
        if row.estimate.n > 1:
            mean += f" ± {number(row.estimate.sd, decimals)}"
    delta = "reference"
    if study.compares_variances and row.variant != study.reference:
        delta = DASH
    if row.delta is not None:
        delta = DASH
        if row.delta.is_known:
            delta = number(row.delta.mean, decimals, signed=True)
            if row.delta.has_interval:
                delta += f" {interval(row.delta.low, row.delta.high, decimals)}"
    texts = {study.metric_facts.heading: mean, "n": count_words(row), "Δ to the reference": delta}
    if row.stars:
        texts["stars"] = row.stars
    return texts
