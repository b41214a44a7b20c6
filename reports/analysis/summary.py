"""This module summarizes each variant of a study: the metric over seeds, its difference to the reference, the p-value.

Plain data that tables, figures, sentences and the tracked summary runs share, so that all of them say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.vocabulary import (
    CI_HIGH,
    CI_LOW,
    COUNT,
    DELTA_PREFIX,
    MEAN,
    P_BETTER,
    P_HOLM,
    P_VALUE,
    SD,
)
from reports.analysis.differences import difference, share_checkpoints
from reports.analysis.improvement import Improvement, over_checkpoints, over_trainings
from reports.analysis.statistics import (
    ALPHA,
    Estimate,
    estimate,
    excluded_beyond,
    holm,
    paired_differences,
    unknown,
)
from reports.collect.correctness import Correctness, checkpoint_of
from reports.collect.results import Repeat, Results


def row_key(network: str, name: str) -> str:
    """Return the name of a variant or claim, with the inspected network in front if there is one."""
    if network:
        return f"{network}: {name}"
    return name


@dataclass(frozen=True)
class VariantSummary:
    """One variant of a study, on one inspected network if the study inspects any.

    Attributes:
        key: `row_key` of network and variant, as runs are tagged.
        expected: The number of repeats that the plan asks for.
        values: The deciding metric by seed, for the repeats that finished.
        absent: Status by seed of the repeats that did not.
        estimate: Mean over the seeds; nothing but its `n` where a repeat is missing.
        delta: Paired difference to the reference of the same network, nothing but the number of pairs where a repeat
            of either is missing; `None` for the reference itself, and in a study of variances.
        p_value: Two-sided p-value of that difference, below 0.05 where its 95 % interval excludes 0. NaN without an
            interval, and where this row or the reference never learned.
        p_holm: The same, corrected over all comparisons of the study's table.
        checkpoints: By seed, the fingerprint of the training that is measured.
        correctness: By seed, the test images that were right, as far as results hold that.
        unlearned: By seed, the reason why the training that is measured counts as one that never learned.
        same_checkpoints: True if the reference is measured on the same checkpoints, seed by seed.
        improvement: The probability that a repeat of it is better than one of the reference; `None` where the
            difference has no p-value either.
        trained_elsewhere: True if its network was trained elsewhere: there is one, and no spread between trainings.
    """

    network: str
    variant: str
    key: str
    expected: int
    values: Mapping[int, float]
    absent: Mapping[int, str]
    estimate: Estimate
    delta: Estimate | None = None
    p_value: float = math.nan
    p_holm: float = math.nan
    checkpoints: Mapping[int, str] = field(default_factory=dict, repr=False)
    correctness: Mapping[int, Correctness] = field(default_factory=dict, repr=False)
    unlearned: Mapping[int, str] = field(default_factory=dict)
    same_checkpoints: bool = False
    improvement: Improvement | None = None
    trained_elsewhere: bool = False

    @property
    def complete(self) -> bool:
        """True if every repeat of the plan finished."""
        return not self.absent

    @property
    def stars(self) -> str:
        """`*` below 0.05 and `**` below 0.01, corrected over the table."""
        if self.p_holm < ALPHA / 5:
            return "**"
        # False for a row without a p-value, which is NaN.
        if self.p_holm < ALPHA:
            return "*"
        return ""

    def as_metrics(self, metric: str) -> dict[str, float]:
        """Return the finite numbers under their names in a tracked summary run, counts included."""
        named = _named(metric, self.estimate)
        if self.delta is not None:
            named |= _named(DELTA_PREFIX + metric, self.delta)
            named |= {DELTA_PREFIX + metric + P_VALUE: self.p_value, DELTA_PREFIX + metric + P_HOLM: self.p_holm}
        if self.improvement is not None:
            named[DELTA_PREFIX + metric + P_BETTER] = self.improvement.probability
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
        """Return the summary of a variant on a network (empty for a study that trains its variants)."""
        return next(row for row in self.variants if (row.network, row.variant) == (network, variant))

    def of_network(self, network: str) -> tuple[VariantSummary, ...]:
        """Return the summaries on one network."""
        return tuple(row for row in self.variants if row.network == network)

    @cached_property
    def tested(self) -> tuple[VariantSummary, ...]:
        """The rows whose difference has a p-value: the comparisons that are corrected for each other."""
        return tuple(row for row in self.variants if not math.isnan(row.p_value))

    @property
    def seeds(self) -> int:
        """The number of repeats that the plan asks for."""
        return max((row.expected for row in self.variants), default=0)

    @property
    def has_stars(self) -> bool:
        """True if any difference has a star."""
        return any(row.stars for row in self.tested)

    def excluded_beyond(self, network: str) -> float:
        """Return the size beyond which the tested differences on a network exclude any; NaN where there is none."""
        return excluded_beyond(row.delta for row in self.tested if row.delta and row.network == network)

    @property
    def has_improvements(self) -> bool:
        """True if any row has a probability of improvement."""
        return any(row.improvement is not None for row in self.variants)

    @property
    def unlearned(self) -> tuple[VariantSummary, ...]:
        """The rows with a training that never learned."""
        return tuple(row for row in self.variants if row.unlearned)

    @property
    def missing(self) -> int:
        """The number of cells without a value."""
        return sum(len(row.absent) for row in self.variants)


def summarize(plan: Plan, results: Results) -> tuple[StudySummary, ...]:
    """Return the summary of each study of the plan, in the order of its studies."""
    return tuple(summarize_study(study, plan, results) for study in plan.studies)


def summarize_study(study: Study, plan: Plan, results: Results) -> StudySummary:
    """Return the summary of one study of the plan."""
    rows = []
    for (network, variant), repeats in results.repeats(study.name, study.metric).items():
        rows.append(_measured(study, plan, results, network, variant, repeats))
    return compare_rows(study, rows)


def compare_rows(study: Study, rows: Sequence[VariantSummary]) -> StudySummary:
    """Return the summary of a study's rows, each compared with the reference on its own network."""
    references: dict[str, VariantSummary] = {}
    # The spread of a difference is shared within a network only: other networks vary otherwise.
    tables: dict[str, list[VariantSummary]] = {}
    for row in rows:
        tables.setdefault(row.network, []).append(row)
        if row.variant == study.reference:
            references[row.network] = row
    compared = []
    for row in rows:
        reference = references[row.network]
        # Rows that are compared by their variances have fixed what the reference has not, and are no pairs with it.
        if row is not reference and not study.compares_variances:
            delta = difference((row,), (reference,), study.metric, table=tables[row.network])
            row = replace(row, delta=delta, same_checkpoints=share_checkpoints((row, reference)))
        compared.append(row)
    tested = []
    higher = study.metric_facts.higher_is_better
    for row in _tested(compared, references):
        if not math.isnan(row.p_value):
            row = replace(row, improvement=_improvement(row, references[row.network], higher))
        tested.append(row)
    return StudySummary(study.name, study.metric, study.reference, tuple(tested))


def _improvement(row: VariantSummary, reference: VariantSummary, higher: bool) -> Improvement | None:
    sign = 1.0 if higher else -1.0
    if row.same_checkpoints:
        return over_checkpoints([sign * value for value in paired_differences(row.values, reference.values).values()])
    values, reference_values = ([sign * value for value in side.values.values()] for side in (row, reference))
    return over_trainings(values, reference_values)


def _measured(
    study: Study, plan: Plan, results: Results, network: str, variant: str, repeats: Mapping[int, Repeat]
) -> VariantSummary:
    checkpoints: dict[int, str] = {}
    correctness: dict[int, Correctness] = {}
    unlearned: dict[int, str] = {}
    trained_elsewhere = False
    for cell in plan.cells_of_row(study.name, network, variant):
        checkpoint = checkpoint_of(plan, cell.fingerprint)
        checkpoints[cell.seed] = checkpoint
        trained_elsewhere = trained_elsewhere or plan.node(cell.fingerprint).file is not None
        if cell.fingerprint in results.correctness:
            correctness[cell.seed] = results.correctness[cell.fingerprint]
        # An evaluation of a training that never learned has not learned either.
        if checkpoint in results.unlearned:
            unlearned[cell.seed] = results.unlearned[checkpoint]
    row = row_of(network, variant, repeats, checkpoints, correctness)
    return replace(row, unlearned=unlearned, trained_elsewhere=trained_elsewhere)


def row_of(
    network: str,
    variant: str,
    repeats: Mapping[int, Repeat],
    checkpoints: Mapping[int, str],
    correctness: Mapping[int, Correctness],
) -> VariantSummary:
    """Return a row of some repeats that is not compared with any other yet; all arguments are by seed."""
    values: dict[int, float] = {}
    absent: dict[int, str] = {}
    for seed, repeat in repeats.items():
        if repeat.finished:
            values[seed] = repeat.value
        else:
            absent[seed] = repeat.status
    # A mean over some of the repeats would change with those that come later, so there is none.
    mean = unknown(len(values)) if absent else estimate(tuple(values.values()))
    return VariantSummary(
        network=network,
        variant=variant,
        key=row_key(network, variant),
        expected=len(repeats),
        values=values,
        absent=absent,
        estimate=mean,
        checkpoints=checkpoints,
        correctness=correctness,
    )


def _tested(rows: Sequence[VariantSummary], references: Mapping[str, VariantSummary]) -> Iterator[VariantSummary]:
    """Yield the rows with the p-values of their differences, corrected over all that can be compared."""
    tested = {}
    for row in rows:
        # A training that never learned differs from its reference for a reason that no variant explains.
        learned = not row.unlearned and not references[row.network].unlearned
        if row.delta and row.delta.has_interval and learned:
            tested[row.key] = row.delta.p_value
    # Comparisons that carry no test do not count for the correction.
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    for row in rows:
        yield replace(row, p_value=tested.get(row.key, math.nan), p_holm=corrected.get(row.key, math.nan))
