"""Per study and variant: the deciding metric over the seeds, and its paired difference to the reference.

Plain data that tables, figures, sentences and the tracked summary runs share, so that all of them say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ablations.planning import Plan
from ablations.study import Study
from ablations.vocabulary import CI_HIGH, CI_LOW, COUNT, DELTA_PREFIX, MEAN, SD
from reports.results import Results
from reports.statistics import Estimate, estimate, paired_difference


@dataclass(frozen=True)
class VariantSummary:
    """One variant of a study, on one inspected network if the study inspects any.

    Attributes:
        network: Name of the inspected network, or empty.
        variant: Name of the variant.
        key: Both in one, as runs are tagged (`planning.Cell.key`).
        expected: How many repeats the plan asks for.
        values: The deciding metric by seed, for the repeats that finished.
        absent: Status by seed of the repeats that did not.
        estimate: Mean over the seeds in `values`.
        delta: Paired difference to the reference of the same network; `None` for the reference itself.
    """

    network: str
    variant: str
    key: str
    expected: int
    values: Mapping[int, float]
    absent: Mapping[int, str]
    estimate: Estimate
    delta: Estimate | None

    @property
    def complete(self) -> bool:
        """Whether every repeat of the plan finished."""
        return not self.absent

    def as_metrics(self, metric: str) -> dict[str, float]:
        """Returns the finite numbers under the names that a tracked summary run carries them, counts included."""
        named = _named(metric, self.estimate)
        if self.delta is not None:
            named |= _named(DELTA_PREFIX + metric, self.delta)
        return {name: value for name, value in named.items() if math.isfinite(value)}


def _named(metric: str, numbers: Estimate) -> dict[str, float]:
    return {
        metric + MEAN: numbers.mean,
        metric + SD: numbers.sd,
        metric + CI_LOW: numbers.low,
        metric + CI_HIGH: numbers.high,
        metric + COUNT: float(numbers.n),
    }


@dataclass(frozen=True)
class StudySummary:
    """All variants of one study, in the order of the plan's cells."""

    study: str
    metric: str
    reference: str
    variants: tuple[VariantSummary, ...]

    def get(self, network: str, variant: str) -> VariantSummary:
        """Returns the summary of a variant on a network (empty for a study that trains its variants)."""
        return next(row for row in self.variants if (row.network, row.variant) == (network, variant))

    def of_network(self, network: str) -> tuple[VariantSummary, ...]:
        """Returns the summaries on one network."""
        return tuple(row for row in self.variants if row.network == network)

    @property
    def missing(self) -> int:
        """How many cells have no value."""
        return sum(len(row.absent) for row in self.variants)


def summarize_study(study: Study, plan: Plan, results: Results) -> StudySummary:
    """Returns the summary of one study of the plan."""
    repeats = results.repeats(study.name, study.metric)
    values = {key: {seed: r.value for seed, r in by_seed.items() if r.finished} for key, by_seed in repeats.items()}
    rows = []
    for (network, variant), by_seed in repeats.items():
        own, reference = values[network, variant], values[network, study.reference]
        rows.append(
            VariantSummary(
                network=network,
                variant=variant,
                key=f"{network}: {variant}" if network else variant,
                expected=len(by_seed),
                values=own,
                absent={seed: repeat.status for seed, repeat in by_seed.items() if not repeat.finished},
                estimate=estimate(tuple(own.values())),
                delta=None if variant == study.reference else paired_difference(own, reference),
            )
        )
    return StudySummary(study.name, study.metric, study.reference, tuple(rows))
