"""Seed advice: from the spread of the differences to seeds, with how little is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from ablations.study import Study, Variant
from reports.advice import Advice, advice_paragraph, seed_advice
from reports.statistics import seeds_for_better
from reports.summary import StudySummary, summarize_study
from tests.reports.everything import made_up_results, results_of, whole_plan
from tests.reports.made_up import plan_of

Values = Mapping[str, Sequence[float | None]]

REFERENCE = (80.0, 81.0, 82.0)
BY_TWO = {"a": REFERENCE, "b": (81.0, 80.0, 82.0), "c": (78.0, 81.0, 84.0)}
"""Differences 1, −1, 0 (deviation 1) and −2, 0, 2 (deviation 2)."""


def _summary(values: Values, size: float | None = None, metric: str = "test/top1") -> tuple[Study, StudySummary]:
    rows = tuple(Variant(name=name, changes={"model.num_kernels": 2 + i}) for i, name in enumerate(values))
    study = Study(
        name="mine", title="Mine", question="?", reference="a", variants=rows, size_of_interest=size, metric=metric
    )
    plan = plan_of(study, seeds=len(next(iter(values.values()))))
    return study, summarize_study(study, plan, results_of(plan, values))


def _advice(values: Values, size: float | None = None, metric: str = "test/top1") -> Advice:
    found = seed_advice(*_summary(values, size, metric))
    assert found is not None
    return found


def test_the_spread_is_pooled_and_the_seeds_are_those_of_its_power() -> None:
    """√(5/2) = 1.58; two comparisons with one reference: 2 · 2 / (1 + 1/4) = 3.2 degrees of freedom."""
    found = _advice(BY_TWO)
    assert (found.spread.sd, found.spread.df, found.comparisons) == pytest.approx((2.5**0.5, 3.2, 2))
    low = 2.5**0.5 * (3.2 / stats.chi2.ppf(0.975, 3.2)) ** 0.5
    high = 2.5**0.5 * (3.2 / stats.chi2.ppf(0.025, 3.2)) ** 0.5
    assert (found.seeds, found.fewest, found.most) == tuple(seeds_for_better(sd, 1.0) for sd in (2.5**0.5, low, high))
    assert found.seeds == 22


@pytest.mark.parametrize(("size", "seeds"), [(2.0, 8), (1.0, 22), (0.5, 81)])
def test_a_smaller_size_of_interest_takes_more_seeds(size: float, seeds: int) -> None:
    assert _advice(BY_TWO, size).seeds == seeds


@pytest.mark.parametrize(("metric", "size"), [("test/top1", 1.0), ("test/top5", 1.0), ("test/loss", 0.1)])
def test_the_size_of_interest_of_a_metric(metric: str, size: float) -> None:
    assert _advice(BY_TWO, metric=metric).size == size


def test_so_many_seeds_show_the_difference_in_four_of_five_studies() -> None:
    """Simulated studies with the number of seeds that is advised: a paired t test finds the difference in 80 %."""
    seeds = _advice(BY_TWO).seeds
    assert seeds is not None
    draw = np.random.default_rng(0).normal(1.0, 2.5**0.5, size=(20_000, seeds))
    assert np.mean(stats.ttest_1samp(draw, 0, axis=1).pvalue < 0.05) == pytest.approx(0.81, abs=0.015)


def test_what_is_said() -> None:
    paragraph = advice_paragraph(*_summary(BY_TWO))
    assert paragraph is not None
    assert paragraph.lead == "Seeds"
    assert paragraph.text == (
        "From seed to seed a paired difference varies by 1.58 points (standard deviation, pooled over 2 comparisons; "
        "95 % interval 0.91 to 5.52). At that spread 22 seeds show a true difference of 1 point with 80 % power "
        "(t test at 5 %, one comparison), 9 to 242 within its interval; here are 3. After 3 seeds the spread is itself "
        "hardly known: the range is the answer. A star in this table takes at least 7."
    )


def test_many_seeds_know_their_spread() -> None:
    draw = np.random.default_rng(1)
    values = {name: tuple(80 + draw.normal(size=40)) for name in "abc"}
    paragraph = advice_paragraph(*_summary(values))
    assert paragraph is not None
    assert "hardly known" not in paragraph.text
    assert "A star" not in paragraph.text


@pytest.mark.parametrize(
    "values",
    [
        {"a": (80.0,), "b": (81.0,)},
        {"a": (80.0, 81.0), "b": (81.0, 82.0)},
        {"a": (80.0, None), "b": (81.0, 83.0)},
        {"a": (80.0, 81.0)},
    ],
    ids=["one seed", "no spread", "a missing repeat", "no comparison"],
)
def test_no_spread_no_advice(values: Values) -> None:
    assert seed_advice(*_summary(values)) is None
    assert advice_paragraph(*_summary(values)) is None


def test_more_than_anyone_has() -> None:
    paragraph = advice_paragraph(*_summary(BY_TWO, size=1e-4))
    assert paragraph is not None
    assert "more than 100,000 seeds show a true difference of 0.0001 points" in paragraph.text
    assert ", more than 100,000 within its interval" in paragraph.text


def test_evaluations_of_one_checkpoint_say_no_more_than_one_of_the_spread() -> None:
    plan = whole_plan("quick", "aggregation", "temperature", seeds=3)
    results = made_up_results(plan)
    together, apart = (seed_advice(study, summarize_study(study, plan, results)) for study in plan.studies)
    assert together is not None
    assert apart is not None
    assert (together.spread.df, together.comparisons) == (2.0, 8)
    assert apart.spread.df == pytest.approx(7 * 2 / (1 + 6 / 4))
