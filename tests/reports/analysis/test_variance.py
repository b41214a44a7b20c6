"""Shares of a variance: by hand, against scipy's F distribution, where there are none, and how often they cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablations.study import Study, Variant
from reports.analysis.statistics import estimate, unknown
from reports.analysis.summary import StudySummary, VariantSummary
from reports.analysis.variance import UNKNOWN, VarianceShares, variance_ratio, variance_shares

EVERYTHING = {"data.split_seed": "trial"}
ROWS: dict[str, dict[str, Any]] = {
    "everything": EVERYTHING,
    "weights": {"train.order_seed": 1},
    "order": {"train.weights_seed": 1},
    "split": {"train.weights_seed": 1, "train.order_seed": 1, **EVERYTHING},
}


def study(rows: dict[str, dict[str, Any]]) -> Study:
    variants = tuple(Variant(name=name, changes=changes) for name, changes in rows.items())
    return Study(name="s", title="S", question="?", reference="everything", compares="variances", variants=variants)


def row(name: str, values: Sequence[float | None], unlearned: bool = False) -> VariantSummary:
    measured = {seed: value for seed, value in enumerate(values) if value is not None}
    absent = {seed: "failed" for seed, value in enumerate(values) if value is None}
    mean = unknown(len(measured)) if absent else estimate(tuple(measured.values()))
    reasons = {0: "its loss ended where guessing is"} if unlearned else {}
    return VariantSummary("", name, name, len(values), measured, absent, mean, unlearned=reasons)


def shares_of(rows: dict[str, dict[str, Any]], *summaries: VariantSummary) -> VarianceShares:
    return variance_shares(study(rows), StudySummary("s", "test/top1", "everything", summaries))


FOUR = (
    row("everything", (80.0, 82.0, 84.0)),
    row("weights", (80.0, 81.0, 82.0)),
    row("order", (83.0, 83.0, 86.0)),
    row("split", (80.0, 80.5, 81.0)),
)


def test_shares_by_hand() -> None:
    """Variances 4, 1, 3 and 1/4: shares 1/4, 3/4 and 1/16, which sum to 17/16."""
    shares = shares_of(ROWS, *FOUR)
    assert [source.sd.value for source in shares.rows] == pytest.approx([2.0, 1.0, math.sqrt(3), 0.5])
    assert [source.share.value for source in shares.rows[1:]] == pytest.approx([1 / 4, 3 / 4, 1 / 16])
    assert not shares.rows[0].share.is_known
    assert shares.total.value == pytest.approx(17 / 16)
    # Of F(2, 2) the quantile of 97.5 % is 39, and that of 2.5 % is 1/39.
    assert (shares.rows[1].share.low, shares.rows[1].share.high) == pytest.approx((0.25 / 39, 0.25 * 39))
    # Of a chi-square of 2 degrees of freedom the quantile of p is −2 ln(1 − p).
    assert shares.rows[0].sd.low == pytest.approx(2 * math.sqrt(2 / (-2 * math.log(0.025))))
    assert shares.rows[0].sd.high == pytest.approx(2 * math.sqrt(2 / (-2 * math.log(0.975))))


@pytest.mark.parametrize("variances", [(2.0,), (2.0, 2.0, 2.0), (5.0, 1.0, 0.1), (3.0, 0.0)])
@pytest.mark.parametrize(("df", "reference_df"), [(2, 2), (8, 8), (4, 19)])
def test_the_interval_holds_the_ratios_that_a_two_sided_f_test_keeps(
    variances: tuple[float, ...], df: int, reference_df: int
) -> None:
    ratio = variance_ratio(variances, df, 1.5, reference_df)
    df_of_sum = sum(variances) ** 2 / sum(variance**2 / df for variance in variances)
    for end in (ratio.low, ratio.high):
        f_statistic = ratio.value / end
        smaller_tail = min(
            stats.f.cdf(f_statistic, df_of_sum, reference_df), stats.f.sf(f_statistic, df_of_sum, reference_df)
        )
        assert smaller_tail == pytest.approx(0.025)
    assert ratio.low < ratio.value < ratio.high
    assert ratio.value == pytest.approx(sum(variances) / 1.5)


def test_equal_variances_add_up_their_degrees_of_freedom() -> None:
    three, one = variance_ratio([2.0] * 3, 4, 3.0, 5), variance_ratio([6.0], 12, 3.0, 5)
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_a_tiny_spread_has_a_share_as_any_other() -> None:
    tiny, usual = variance_ratio([1e-200, 2e-200], 4, 1e-200, 4), variance_ratio([1.0, 2.0], 4, 1.0, 4)
    assert (tiny.value, tiny.low, tiny.high) == pytest.approx((usual.value, usual.low, usual.high))


@pytest.mark.parametrize("n", [5, 9, 20])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("is_shared", [False, True])
def test_coverage(n: int, share: float, is_shared: bool) -> None:
    """Additive sources; with `is_shared` a row sees the same draws of its source as the reference, seed by seed."""
    draw = np.random.default_rng(0)
    repetitions, others = 3000, (1 - share) / 2
    sds = np.sqrt([share, others, others])[:, None, None]
    sources = sds * draw.normal(size=(3, repetitions, n))
    together = sources.sum(0)
    if not is_shared:
        sources = sds * draw.normal(size=(3, repetitions, n))
    covered_share = covered_total = 0
    for variances, whole in zip(sources.var(-1, ddof=1).T, together.var(-1, ddof=1), strict=True):
        ratio = variance_ratio(variances[:1], n - 1, whole, n - 1)
        # Where one source is all, the two variances are equal but for rounding.
        covered_share += ratio.low <= share * (1 + 1e-9) and share <= ratio.high * (1 + 1e-9)
        total = variance_ratio(variances, n - 1, whole, n - 1)
        covered_total += total.low <= 1 <= total.high
    # Two standard errors of 3,000 repetitions are 0.8 points at 95 %.
    assert covered_share / repetitions >= 0.95 - 0.01
    assert covered_total / repetitions >= 0.935 - 0.01
    if not is_shared:
        assert covered_share / repetitions <= 0.95 + 0.01


@pytest.mark.parametrize(
    ("replaced", "known"),
    [
        (row("weights", (80.0, None, 82.0)), ["order", "split"]),
        (row("order", (80.0, 81.0, 82.0), unlearned=True), ["weights", "split"]),
        (row("everything", (80.0, 80.0, 80.0)), []),
        (row("everything", (80.0, None, 81.0)), []),
    ],
)
def test_a_row_without_a_variance_has_no_share_and_leaves_no_sum(replaced: VariantSummary, known: list[str]) -> None:
    rows = [replaced if item.variant == replaced.variant else item for item in FOUR]
    shares = shares_of(ROWS, *rows)
    assert [source.row.variant for source in shares.rows if source.share.is_known] == known
    assert shares.total == UNKNOWN


def test_one_seed_has_no_variance() -> None:
    shares = shares_of(ROWS, *(row(name, (80.0,)) for name in ROWS))
    assert not any(source.sd.is_known or source.share.is_known for source in shares.rows)
    assert shares.total == UNKNOWN


def test_repeats_that_are_all_the_same_have_a_share_of_0_without_an_interval() -> None:
    shares = shares_of(ROWS, *FOUR[:3], row("split", (80.0, 80.0, 80.0)))
    split = shares.rows[3]
    assert (split.sd.value, split.share.value) == (0.0, 0.0)
    assert not split.sd.has_interval
    assert not split.share.has_interval
    assert shares.total.value == pytest.approx(1.0)
    assert shares.total.has_interval


@pytest.mark.parametrize("rows", [("everything", "weights", "order"), ("everything", "weights", "split", "both")])
def test_without_a_row_for_each_source_there_is_no_sum(rows: tuple[str, ...]) -> None:
    changes = {**ROWS, "both": {**EVERYTHING, "train.weights_seed": 1}}
    shares = shares_of({name: changes[name] for name in rows}, *(row(name, (80.0, 81.0, 83.0)) for name in rows))
    assert all(source.share.is_known for source in shares.rows[1:])
    assert shares.total == UNKNOWN


def test_a_source_with_two_rows_leaves_no_sum() -> None:
    rows = {**ROWS, "weights elsewhere": {"train.order_seed": 2}}
    shares = shares_of(rows, *(row(name, (80.0, 81.0, 83.0)) for name in rows))
    assert shares.total == UNKNOWN


def test_a_row_of_two_sources_has_a_share_and_is_not_added_up() -> None:
    rows = {**ROWS, "both": {**EVERYTHING, "train.weights_seed": 1}}
    shares = shares_of(rows, *FOUR, row("both", (80.0, 90.0, 70.0)))
    assert shares.rows[-1].share.value == pytest.approx(25.0)
    assert shares.total.value == pytest.approx(17 / 16)
