"""Trimming: the order in which a plan shrinks, and what never changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.study import Study, Variant
from runners.estimates.trimming import trim

Planner = Callable[..., Plan]
Step = tuple[tuple[str, ...], int | None]


def tried(plan: Plan) -> list[Step]:
    """Returns the plans that are tried, the first one first, if none fits."""
    steps: list[Step] = []

    def refuse(candidate: Plan) -> bool:
        steps.append((tuple(study.name for study in candidate.studies), candidate.request.seeds))
        return False

    assert trim(plan, refuse) is None
    return steps


def test_seeds_go_first_and_then_the_studies_named_last(plan: Planner) -> None:
    found = plan("temperature", "aggregation", "placement", seeds=4)
    every = ("temperature", "aggregation", "placement")
    assert tried(found) == [
        (every, 4), (every, 3), (every, 2), (("temperature", "aggregation"), 2), (("temperature",), 2),
    ]  # fmt: skip


def test_no_study_gets_more_seeds_than_it_had(plan: Planner) -> None:
    # At quick, three seeds by default and two of placement.
    found = plan("temperature", "placement")
    assert tried(found) == [
        (("temperature", "placement"), None), (("temperature", "placement"), 2), (("temperature",), 2),
    ]  # fmt: skip


def test_the_study_with_the_fewest_seeds_says_where_to_begin() -> None:
    variants = (Variant(name="a"),)
    few, many = (
        Study(name=name, title="T", question="?", reference="a", variants=variants, seeds=seeds)
        for name, seeds in (("few", 3), ("many", 6))
    )
    steps = tried(make_plan([many, few], Request(get_preset("quick"))))
    assert [seeds for _, seeds in steps] == [None, 3, 2, 2]


@pytest.mark.parametrize(("seeds", "steps"), [(1, [None]), (2, [None])])
def test_two_seeds_or_one_stay(plan: Planner, seeds: int, steps: list[None]) -> None:
    assert len(tried(plan("temperature", seeds=seeds))) == len(steps)


def test_what_is_counted_has_no_seeds(plan: Planner) -> None:
    assert tried(plan("cost")) == [(("cost",), None)]
    assert [names for names, _ in tried(plan("temperature", "cost", seeds=2))] == [
        ("temperature", "cost"), ("temperature",),
    ]  # fmt: skip


def test_a_plan_that_fits_stays_itself(plan: Planner) -> None:
    found = plan("temperature")
    assert trim(found, lambda candidate: True) is found


def test_the_largest_plan_that_fits_is_the_one_of_fewer_seeds(plan: Planner) -> None:
    found = plan("temperature", seeds=5, done={"known"})
    smaller = trim(found, lambda candidate: len(candidate.trials) <= 18)
    assert smaller is not None
    assert smaller.request.seeds == 3
    assert smaller.done == {"known"}
    assert set(smaller.trials) < set(found.trials)
    by_hand = plan("temperature", seeds=3, done={"known"})
    assert (smaller.trials, smaller.cells, smaller.studies) == (by_hand.trials, by_hand.cells, by_hand.studies)


def test_overrides_that_only_a_dropped_study_reads_end_it() -> None:
    request = Request(get_preset("quick"), {"inspect": "tau_30"}, seeds=2)
    studies = [get_study(name, request.base()) for name in ("temperature", "aggregation")]
    assert [names for names, _ in tried(make_plan(studies, request))] == [("temperature", "aggregation")]
    assert len(tried(make_plan(studies[::-1], request))) == 2
