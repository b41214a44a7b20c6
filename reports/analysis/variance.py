"""This module takes the spread between repeats apart by source: initial weights, order, validation split.

A study that compares variances (`Study.compares`) has a reference in which all sources vary and rows in which the
others are fixed at one value. The design is that of Bouthillier et al. 2021, "Accounting for variance in machine
learning benchmarks". Pure: numbers in, numbers out.

A row alone keeps the interactions of its source with those that are fixed. So shares sum to one if the sources act
independently and add up, and to more if they interact: in the terms of Saltelli (2008), a share is the total effect of
its source, at one value of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from ablations.spec.settings import varied_sources
from ablations.study import Study
from reports.analysis.statistics import LEVEL, spread_range
from reports.analysis.summary import StudySummary, VariantSummary


@dataclass(frozen=True)
class Quantity:
    """A positive quantity with its interval; what is not known is NaN."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def is_known(self) -> bool:
        """True if there is a value."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """True if there is an interval."""
        return not math.isnan(self.low)


UNKNOWN = Quantity()


@dataclass(frozen=True)
class SourceVariance:
    """One row of a study of variances.

    Attributes:
        sources: The sources of randomness that vary in it, keys of `spec.settings.SOURCES`.
        sd: Standard deviation between its repeats, in the unit of the metric.
        share: Its variance as a share of the variance with all sources varying; unknown for that row itself.
    """

    row: VariantSummary
    sources: frozenset[str]
    sd: Quantity = UNKNOWN
    share: Quantity = UNKNOWN


@dataclass(frozen=True)
class VarianceShares:
    """The rows of a study of variances, in its order.

    Attributes:
        total: The summed variances of the rows with one source each, as a share of the variance with all of them
            varying. Unknown where a source of the reference has no such row, or a row has no variance.
    """

    rows: tuple[SourceVariance, ...]
    total: Quantity = UNKNOWN


def variance_shares(study: Study, summary: StudySummary) -> VarianceShares:
    """Return the variance of each row of a study, and its share of the reference's.

    Rows with a missing repeat, a training that never learned or a single seed have no variance. A row whose repeats are
    all the same has the share 0 without an interval, which would claim a certainty that few seeds cannot give.
    """
    reference = next(row for row in summary.variants if row.variant == study.reference)
    rows = []
    for row in summary.variants:
        changes = study.variant(row.variant).changes
        # The reference is what others are shares of: its own share is one by definition and has no interval.
        share = UNKNOWN
        if row is not reference and _has_variance(row) and _has_variance(reference):
            share = variance_ratio([_variance(row)], row.estimate.n - 1, _variance(reference), reference.estimate.n - 1)
        rows.append(SourceVariance(row, varied_sources({**study.baseline, **changes}), _sd(row), share))
    return VarianceShares(tuple(rows), _total(rows, reference))


def _total(rows: Sequence[SourceVariance], reference: VariantSummary) -> Quantity:
    whole = next(source.sources for source in rows if source.row is reference)
    single = [source for source in rows if len(source.sources) == 1]
    # Rows that vary two sources together would count what these do twice, and are in no sum.
    covered = [source.sources for source in single]
    # Each source once: with a source that has two rows, or none, the sum would be of something else.
    if len(set(covered)) < len(covered) or frozenset().union(*covered) != whole:
        return UNKNOWN
    measured = [source.row for source in single]
    if not measured or not _has_variance(reference) or not all(map(_has_variance, measured)):
        return UNKNOWN
    variances = [_variance(row) for row in measured]
    # All complete rows have as many repeats as the plan asks for, so that the first one's number is that of all.
    return variance_ratio(variances, measured[0].estimate.n - 1, _variance(reference), reference.estimate.n - 1)


def _has_variance(row: VariantSummary) -> bool:
    # A training that never learned spreads by its failure, which would pass for a source of randomness.
    return row.complete and not row.unlearned and row.estimate.n > 1


def _variance(row: VariantSummary) -> float:
    return row.estimate.sd**2


def _sd(row: VariantSummary) -> Quantity:
    if not _has_variance(row):
        return UNKNOWN
    # The chi-square interval of a spread of zero is a point: a certainty that a few equal values do not give.
    if row.estimate.no_spread:
        return Quantity(0.0)
    return Quantity(row.estimate.sd, *spread_range(row.estimate.sd, row.estimate.n - 1))


def variance_ratio(
    variances: Sequence[float], df: float, reference: float, reference_df: float, level: float = LEVEL
) -> Quantity:
    """Return the sum of some variances over another variance, with its F interval over training seeds.

    The interval is (R / F₁, R / F₂) with the upper and lower quantiles of Fisher's F. Of one variance it is exact where
    values are normal and the repeats of both rows independent. Repeats of two rows under one seed share a source, and
    what they have in common makes the ratio vary less: the interval is then too wide, never too narrow. The sum of
    several has Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946), (Σ s²)² / Σ (s⁴ / df), and covers 93
    to 96 % for any shares from three seeds on, more where the rows are dependent
    (`tests/reports/analysis/test_variance.py`).

    Args:
        variances: One or more, at least 0, in the squared unit of the metric.
        df: Degrees of freedom of each of them, repeats minus one.
        reference: The variance that they are shares of.

    Returns:
        The ratio; without an interval if it is 0, and unknown if the reference is 0.
    """
    if reference <= 0:
        return UNKNOWN
    total = sum(variances)
    ratio = total / reference
    if total <= 0:
        return Quantity(0.0)
    # Divided by the sum first: the fourth power of a small spread would underflow.
    df_of_sum = df / sum((variance / total) ** 2 for variance in variances)
    tail = (1 - level) / 2
    upper = float(special.fdtri(df_of_sum, reference_df, 1 - tail))
    lower = float(special.fdtri(df_of_sum, reference_df, tail))
    return Quantity(ratio, ratio / upper, ratio / lower)
