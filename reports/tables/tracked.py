"""What a study's summary run is to tell of each row: its numbers in words, and the runs that they come from. Data only.

The command line carries it to `runners.tracking`, which writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablations.planning.plan import Plan
from ablations.study import Study
from reports.analysis.summary import VariantSummary, summarize_study
from reports.collect.results import Results
from reports.content.formatting import DASH, interval, number
from reports.content.metrics import telling
from reports.content.plan_words import short_titles


@dataclass(frozen=True)
class MeasuredRun:
    """One repeat of a row.

    Attributes:
        seed: Its seed.
        run_id: Its run, empty if there is none.
        told: Its value, or why there is none.
    """

    seed: int
    run_id: str
    told: str


@dataclass(frozen=True)
class TrackedRow:
    """One row of a study's table.

    Attributes:
        key: The variant's name, with the inspected network in front if there is one.
        title: The same as a table prints it.
        metrics: Its numbers under the names of the vocabulary.
        told: Its numbers in words, by what they are.
        runs: Its repeats.
    """

    key: str
    title: str
    metrics: dict[str, float]
    told: dict[str, str]
    runs: tuple[MeasuredRun, ...]


def tracked_rows(study: Study, plan: Plan, results: Results) -> tuple[TrackedRow, ...]:
    """Returns the rows of one study of a plan."""
    return tuple(_rows(study, plan, results))


def _rows(study: Study, plan: Plan, results: Results) -> Iterator[TrackedRow]:
    titles = short_titles(study)
    networks = {network.name: f"{network.title}: " for network in study.networks}
    runs = dict(zip(results.cells["fingerprint"], results.cells["run_id"], strict=True))
    for row in summarize_study(study, plan, results).variants:
        cells = plan.cells_of_row(study.name, row.network, row.variant)
        measured = tuple(
            MeasuredRun(cell.seed, str(runs.get(cell.fingerprint, "")), _value(study, row, cell.seed)) for cell in cells
        )
        title = f"{networks.get(row.network, '')}{titles[row.variant]}"
        yield TrackedRow(row.key, title, row.as_metrics(study.metric), _told(study, row), measured)


def _value(study: Study, row: VariantSummary, seed: int) -> str:
    return number(row.values[seed], telling(study.metric).decimals) if seed in row.values else row.absent[seed]


def _told(study: Study, row: VariantSummary) -> dict[str, str]:
    decimals = telling(study.metric).decimals
    mean, delta, count = DASH, "reference", f"{len(row.values)}/{row.expected}"
    if row.complete:
        spread = f" ± {number(row.estimate.sd, decimals)}" if row.estimate.n > 1 else ""
        mean, count = number(row.estimate.mean, decimals) + spread, str(row.expected)
    if row.delta is not None:
        ends = f" {interval(row.delta.low, row.delta.high, decimals)}" if row.delta.has_interval else ""
        delta = number(row.delta.mean, decimals, signed=True) + ends if row.delta.is_known else DASH
    told = {telling(study.metric).heading: mean, "n": count, "Δ to the reference": delta}
    return {**told, "stars": row.stars} if row.stars else told
