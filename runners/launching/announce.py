"""Prints before a launch how long it takes and the objections of study lint; times networks that are not known yet.

`plan` and the launching verbs call it. The numbers come from `runners.estimates`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ablations.planning.lint import Lint, lint
from ablations.planning.plan import Plan
from runners.console.tables import lint_overview
from runners.console.terminal import progress_console
from runners.dispatch import Dispatcher, make_dispatcher
from runners.estimates.estimate import PlanEstimate
from runners.estimates.forecast import Forecaster, difference, within
from runners.state.last_run import remember_launch


def time_networks(plan: Plan, forecaster: Forecaster, plugins: tuple[str, ...]) -> None:
    """Have workers time the networks of a plan that were never timed here, and count parameters that lint compares."""
    estimate = forecaster.estimate(plan)
    # Times of this machine say nothing of the machines of a cluster.
    if estimate is None or not (estimate.unknown or forecaster.uncounted(plan)):
        return
    terminal = progress_console()
    terminal.print(f"Timing {len(estimate.unknown)} networks with {forecaster.workers} workers …", highlight=False)
    with make_dispatcher(forecaster.dispatch) as dispatcher:
        for problem in forecaster.calibrate(plan, dispatcher, plugins):
            terminal.print(f"not timed: {problem}", markup=False, soft_wrap=True)
        forecaster.count(plan, dispatcher, plugins)


def fit(plan: Plan, forecaster: Forecaster, *, hours: float, may_trim: bool) -> Plan:
    """Return a plan that takes no longer than `hours`, and print what was trimmed.

    Raises:
        BudgetError: If it takes longer and may not be trimmed, or cannot be.
    """
    fitting = within(plan, hours, forecaster, may_trim=may_trim)
    if fitting is not plan:
        progress_console().print(difference(plan, fitting, forecaster), markup=False, soft_wrap=True)
    return fitting


def tell_estimate(plan: Plan, forecaster: Forecaster) -> None:
    """Print the time, memory and disk that a plan takes."""
    for line in forecaster.lines(plan):
        progress_console().print(line, markup=False, soft_wrap=True)


def announce(
    plan: Plan, forecaster: Forecaster, dispatcher: Dispatcher, plugins: tuple[str, ...]
) -> PlanEstimate | None:
    """Print how long a launch takes, and the lint of unequal sizes once networks are counted; return the estimate.

    Networks that are not known are timed first if that is cheap. The estimate is written to the record of the launch.
    """
    if forecaster.is_cheap(plan):
        forecaster.calibrate(plan, dispatcher, plugins)
    # Counting builds networks, so it needs a worker with torch; lint could not compare their sizes before.
    if forecaster.uncounted(plan):
        forecaster.count(plan, dispatcher, plugins)
        tell_lints(plan, forecaster, codes=("unequal-size",))
    estimate = forecaster.estimate(plan)
    tell_estimate(plan, forecaster)
    estimated = None
    if estimate is not None and estimate.is_complete and estimate.wall_seconds is not None:
        estimated = vars(estimate.wall_seconds)
    remember_launch(forecaster.runs_dir, {"estimated": estimated, "workers": forecaster.workers})
    return estimate


def tell_lints(
    plan: Plan, forecaster: Forecaster, *, with_allowed: bool = False, codes: Sequence[str] = ()
) -> tuple[Lint, ...]:
    """Print the lints of some codes or of all, and return those that are not allowed."""
    lints = [item for item in lint(plan, forecaster.parameters) if not codes or item.code in codes]
    warnings = tuple(item for item in lints if not item.is_allowed)
    if warnings or (with_allowed and lints):
        progress_console().print(lint_overview(lints, with_allowed=with_allowed))
    uncounted = forecaster.uncounted(plan)
    if with_allowed and uncounted:
        progress_console().print(
            f"Lint unequal-size: {len(uncounted)} networks are yet to be counted, by run or --calibrate."
        )
    return warnings
