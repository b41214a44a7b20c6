"""Keeps a plan within the hours it may take: refuses one that is too long, or trims it by the rule of `trimming`."""

from __future__ import annotations

from ablations.errors import BudgetError
from ablations.planning.plan import Plan
from runners.estimates.forecast import Forecaster
from runners.estimates.trimming import RULE, trim
from runners.estimates.words import duration, range_words


def within(plan: Plan, hours: float, forecaster: Forecaster, *, may_trim: bool) -> Plan:
    """Returns a plan that likely takes no longer than `hours`: the plan itself, or a smaller one if that is allowed.

    Raises:
        BudgetError: If it takes longer, how long it takes cannot be told, or no smaller plan is left.
    """
    found = forecaster.estimate(plan)
    if found is None:
        raise BudgetError("how long this takes on other machines cannot be told. Leave --max-hours out.")
    if not found.is_complete or found.wall is None:
        titles = "; ".join(dict.fromkeys(found.unknown.values()))
        raise BudgetError(
            f"how long this takes cannot be told yet. Not timed on this machine: {titles}. "
            "`plan --calibrate` times a few steps of each."
        )
    if _fits(plan, hours, forecaster):
        return plan
    told = f"this takes about {range_words(found.wall)} with {forecaster.workers} workers; --max-hours is {hours:g}"
    if not may_trim:
        raise BudgetError(
            f"{told}. Ask for fewer --seeds, a smaller --preset or fewer studies, or let --trim do so ({RULE})."
        )
    smaller = trim(plan, lambda candidate: _fits(candidate, hours, forecaster))
    if smaller is None:
        raise BudgetError(f"{told}, and the smallest plan takes longer than that too. {_rule()}")
    return smaller


def _fits(plan: Plan, hours: float, forecaster: Forecaster) -> bool:
    found = forecaster.estimate(plan)
    return found is not None and found.wall is not None and found.wall.likely <= hours * 3600


def _rule() -> str:
    return f"The rule of --trim: {RULE}."


def difference(plan: Plan, smaller: Plan, forecaster: Forecaster) -> str:
    """Returns in words what was trimmed and how long the rest takes."""
    left_out = [study.name for study in plan.studies[len(smaller.studies) :]]
    words = [f"without {', '.join(left_out)}"] if left_out else []
    if smaller.request.seeds != plan.request.seeds:
        words.insert(0, f"{smaller.request.seeds} seeds")
    found = forecaster.estimate(smaller)
    takes = duration(found.wall.likely) if found is not None and found.wall is not None else "as long as that takes"
    return f"Trimmed ({RULE}): {', '.join(words)}. It takes about {takes} then, and the report is about this plan."
