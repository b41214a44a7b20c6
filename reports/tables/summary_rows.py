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
from reports.content.plan_words import short_titles, telling


def summary_rows(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Iterator[SummaryRow]:
    """Yield the rows of one study of a plan."""
    titles = short_titles(study)
    networks = {network.name: f"{network.title}: " for network in study.networks}
    runs = dict(zip(results.cells["fingerprint"], results.cells["run_id"], strict=True))
    for row in summary.variants:
        tuned = plan.tuned.get((study.name, row.key))
        yield SummaryRow(
            key=row.key,
            metrics=row.as_metrics(study.metric),
            title=f"{networks.get(row.network, '')}{titles[row.variant]}",
            texts=_texts(study, row),
            repeats=[
                SummaryRepeat(cell.seed, str(runs.get(cell.fingerprint, "")), _value(study, row, cell.seed))
                for cell in plan.cells_of_row(study.name, row.network, row.variant)
            ],
            tuned=tuned.values if tuned is not None else {},
        )


def _value(study: Study, row: VariantSummary, seed: int) -> str:
    return number(row.values[seed], telling(study.metric).decimals) if seed in row.values else row.absent[seed]


def _texts(study: Study, row: VariantSummary) -> dict[str, str]:
    decimals = telling(study.metric).decimals
    mean, delta, count = DASH, "reference", f"{len(row.values)}/{row.expected}"
    if row.complete:
        spread = f" ± {number(row.estimate.sd, decimals)}" if row.estimate.n > 1 else ""
        mean, count = number(row.estimate.mean, decimals) + spread, str(row.expected)
    if row.delta is not None:
        ends = f" {interval(row.delta.low, row.delta.high, decimals)}" if row.delta.has_interval else ""
        delta = number(row.delta.mean, decimals, signed=True) + ends if row.delta.is_known else DASH
    texts = {telling(study.metric).heading: mean, "n": count, "Δ to the reference": delta}
    return {**texts, "stars": row.stars} if row.stars else texts
