"""A plan that takes too long, made smaller by a stated rule. Pure.

The rule (`RULE`): first fewer seeds, the same number for all studies, down to two; then the study that was named last
is left out, and so on, until one is left. Settings of the trainings are never changed: what is asked stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from ablations.errors import SpecError
from ablations.planning.plan import Plan, make_plan

FEWEST_SEEDS = 2
"""With one seed there is no interval."""

RULE = "fewer seeds first, down to 2, then without the studies named last"


def trim(plan: Plan, fits: Callable[[Plan], bool]) -> Plan | None:
    """Returns the largest plan by the rule that fits, the plan itself if it does, or `None` if none does.

    Args:
        plan: The plan.
        fits: Tells whether a plan is small enough.
    """
    return next((smaller for smaller in (plan, *_smaller(plan)) if fits(smaller)), None)


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Yields ever smaller plans."""
    seeds = plan.request.seeds
    for seeds in _fewer_seeds(plan):
        yield from _again(plan, len(plan.studies), seeds)
    for count in range(len(plan.studies) - 1, 0, -1):
        yield from _again(plan, count, seeds)


def _fewer_seeds(plan: Plan) -> range:
    """Returns the numbers of seeds to be tried, the largest first; none gives a study more than it had, if it can."""
    counts = [plan.request.seeds_of(study) for study in plan.studies if not study.is_about_cost]
    if not counts:
        return range(0)
    most = min(max(counts) - 1, max(min(counts), FEWEST_SEEDS))
    return range(most, FEWEST_SEEDS - 1, -1)


def _again(plan: Plan, studies: int, seeds: int | None) -> Iterator[Plan]:
    kept = [study.whole for study in plan.studies[:studies]]
    # What is left may read no override any more; then it is another question.
    with suppress(SpecError):
        yield make_plan(kept, replace(plan.request, seeds=seeds), plan.done)
