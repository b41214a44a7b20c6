"""Seed advice: each comparison by its own spread, with how little is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from ablations.study import Study, Variant
from reports.analysis.advice import Advice, advice_paragraph, seed_advice
from reports.analysis.statistics import seeds_for_better, seeds_for_same, spread_range
from reports.analysis.summary import StudySummary, summarize_study
from reports.content.formatting import per_cent
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


def _advice(values: Values, size: float | None = None, metric: str = "test/top1") -> tuple[Advice, ...]:
    return seed_advice(*_summary(values, size, metric))


def test_each_comparison_has_the_seeds_of_its_own_interval() -> None:
    _, summary = _summary(BY_TWO)
    advice = _advice(BY_TWO)
    assert [each.row.variant for each in advice] == ["b", "c"]
    for each, row in zip(advice, summary.tested, strict=True):
        delta = row.delta
        assert delta is not None
        assert each.sd == pytest.approx(delta.error * 3**0.5)
        per_seed = delta.df / 2
        assert each.for_difference == seeds_for_better(each.sd, 1.0, df_per_seed=per_seed)
        assert each.for_none == seeds_for_same(each.sd, 1.0, df_per_seed=per_seed)
        assert each.most_sd == spread_range(each.sd, delta.df)[1]


def test_two_rows_take_the_seeds_of_their_paired_t_interval() -> None:
    """Differences of deviation 1: a t test with ten seeds shows one point in 80 %."""
    (advice,) = _advice({"a": REFERENCE, "b": (81.0, 80.0, 82.0)})
    assert (advice.sd, advice.for_difference) == (pytest.approx(1.0), 10)


def test_a_quiet_and_a_loud_row_have_different_advice() -> None:
    """Spreads that differ thirtyfold are not pooled: what the loud row takes says nothing of the quiet one."""
    draw = np.random.default_rng(0)
    values = {name: tuple(80 + sd * draw.normal(size=9)) for name, sd in (("a", 0.1), ("b", 0.2), ("c", 6.0))}
    quiet, loud = _advice(values)
    assert quiet.sd < 0.5 < 3 < loud.sd
    assert (quiet.for_difference or 0) < 5
    assert (loud.for_difference or 0) > 100


@pytest.mark.parametrize(("metric", "size"), [("test/top1", 1.0), ("test/top5", 1.0), ("test/loss", 0.1)])
def test_the_size_of_interest_of_a_metric(metric: str, size: float) -> None:
    assert {each.size for each in _advice(BY_TWO, metric=metric)} == {size}
    assert {each.size for each in _advice(BY_TWO, 2.5, metric=metric)} == {2.5}


def test_what_is_said() -> None:
    paragraph = advice_paragraph(*_summary(BY_TWO))
    assert paragraph is not None
    assert paragraph.lead == "Seeds"
    b, c = _advice(BY_TWO)
    assert paragraph.text.startswith(
        f"With {per_cent(0.8)} power a true difference of 1 point would be shown, or be shown not to be there, by "
        f"{b.for_difference} or {b.for_none} seeds for “b” (spread of its difference from seed to seed {b.sd:.2f} "
        f"points), {c.for_difference} or {c.for_none} for “c” (spread of its difference from seed to seed "
        f"{c.sd:.2f} points); here are 3."
    )
    assert "After 3 seeds a spread is itself hardly known: it may be up to" in paragraph.text
    assert paragraph.text.endswith("The appendix has the number for each row.")


def test_many_seeds_know_their_spread() -> None:
    draw = np.random.default_rng(1)
    values = {name: tuple(80 + draw.normal(size=40)) for name in "abcd"}
    paragraph = advice_paragraph(*_summary(values))
    assert paragraph is not None
    assert "hardly known" not in paragraph.text
    assert "seeds for the row in the middle, " not in paragraph.text
    assert " for the row in the middle, " in paragraph.text


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
    assert seed_advice(*_summary(values)) == ()
    assert advice_paragraph(*_summary(values)) is None


def test_more_than_anyone_has() -> None:
    paragraph = advice_paragraph(*_summary(BY_TWO, size=1e-4))
    assert paragraph is not None
    assert "a true difference of 0.0001 points would be shown" in paragraph.text
    assert "by > 100,000 seeds for “b”" in paragraph.text


def test_evaluations_of_one_checkpoint_are_limited_by_their_test_images() -> None:
    """They do not share a spread, and few images leave an error that no number of seeds makes smaller."""
    plan = whole_plan("quick", "aggregation", "temperature", seeds=3)
    results = made_up_results(plan)
    together, apart = (seed_advice(study, summarize_study(study, plan, results)) for study in plan.studies)
    assert (len(together), len(apart)) == (8, 5)
    for advice in together:
        assert advice.row.delta is not None
        assert (advice.row.delta.df, advice.row.delta.covers_images) == (2.0, True)
        alone = seeds_for_better(advice.sd, advice.size)
        assert advice.for_difference is None or alone is None or advice.for_difference >= alone
    assert any(advice.row.delta is not None and advice.row.delta.df > 2.0 for advice in apart)
