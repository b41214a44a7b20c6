"""Makes a plan that takes too long smaller, by a stated rule. Pure: nothing is printed or written.

The rule (`RULE`): first fewer seeds, the same number for all studies, down to two; then the study that was named last
is left out, and so on, until one is left. Settings of the trainings are never changed: what is asked stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from ablations.errors import BudgetError, SpecError
from ablations.launches import duration, range_words
from ablations.planning.plan import Plan, make_plan
from runners.estimates.forecast import Forecaster

FEWEST_SEEDS = 2
"""With one seed there is no interval."""

RULE = "fewer seeds first, down to 2, then without the studies named last"


def trim(plan: Plan, fits: Callable[[Plan], bool]) -> Plan | None:
    """Return the largest plan by the rule that fits; the plan itself if it fits, `None` if none fits.

    Args:
        plan: The plan.
        fits: Returns True if a plan is small enough.
    """
    return next((smaller for smaller in (plan, *_smaller(plan)) if fits(smaller)), None)


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Yield ever smaller plans, by the rule."""
    seeds = plan.request.seeds
    for seeds in _fewer_seeds(plan):
        yield from _again(plan, len(plan.studies), seeds)
    # From here on with the smallest number of seeds that was tried above.
    for count in range(len(plan.studies) - 1, 0, -1):
        yield from _again(plan, count, seeds)


def _fewer_seeds(plan: Plan) -> range:
    """Return the numbers of seeds to try, the largest first.

    None gives a study more seeds than it has, unless it has only one. Studies of cost have no seeds to reduce.
    """
    counts = [plan.request.seeds_of(study) for study in plan.studies if not study.is_about_cost]
    if not counts:
        return range(0)
    largest = min(max(counts) - 1, max(min(counts), FEWEST_SEEDS))
    return range(largest, FEWEST_SEEDS - 1, -1)


def _again(plan: Plan, studies: int, seeds: int | None) -> Iterator[Plan]:
    remaining = [study.whole for study in plan.studies[:studies]]
    # If no remaining study reads an override, the plan would answer another question: it is skipped.
    with suppress(SpecError):
        yield make_plan(remaining, replace(plan.request, seeds=seeds), plan.done)


def within(plan: Plan, hours: float, forecaster: Forecaster, *, may_trim: bool) -> Plan:
    """Return a plan that likely takes at most `hours`: the plan itself, or a smaller one if that is allowed.

    Raises:
        BudgetError: If it takes longer, how long it takes cannot be told, or no smaller plan is left.
    """
    estimate = forecaster.estimate(plan)
    if estimate is None:
        raise BudgetError("how long this takes on other machines cannot be told. Leave --max-hours out.")
    if not estimate.is_complete or estimate.wall is None:
        titles = "; ".join(dict.fromkeys(estimate.unknown.values()))
        raise BudgetError(
            f"how long this takes cannot be told yet. Not timed on this machine: {titles}. "
            "`plan --calibrate` times a few steps of each."
        )
    if _fits(plan, hours, forecaster):
        return plan
    explanation = (
        f"this takes about {range_words(estimate.wall)} with {forecaster.workers} workers; --max-hours is {hours:g}"
    )
    if not may_trim:
        raise BudgetError(
            f"{explanation}. Ask for fewer --seeds, a smaller --preset or fewer studies, or let --trim do so ({RULE})."
        )
    smaller = trim(plan, lambda candidate: _fits(candidate, hours, forecaster))
    if smaller is None:
        raise BudgetError(f"{explanation}, and the smallest plan takes longer than that too. {_rule()}")
    return smaller


def _fits(plan: Plan, hours: float, forecaster: Forecaster) -> bool:
    estimate = forecaster.estimate(plan)
    return estimate is not None and estimate.wall is not None and estimate.wall.likely <= hours * 3600


def _rule() -> str:
    return f"The rule of --trim: {RULE}."


def difference(plan: Plan, smaller: Plan, forecaster: Forecaster) -> str:
    """Return a sentence on what was trimmed and how long the smaller plan takes."""
    left_out = [study.name for study in plan.studies[len(smaller.studies) :]]
    changes = [f"without {', '.join(left_out)}"] if left_out else []
    if smaller.request.seeds != plan.request.seeds:
        changes.insert(0, f"{smaller.request.seeds} seeds")
    estimate = forecaster.estimate(smaller)
    takes = (
        duration(estimate.wall.likely)
        if estimate is not None and estimate.wall is not None
        else "as long as that takes"
    )
    return f"Trimmed ({RULE}): {', '.join(changes)}. It takes about {takes} then, and the report is about this plan."
