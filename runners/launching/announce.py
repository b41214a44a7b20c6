"""Says before a launch how long it takes and what study lint objects to; times what is not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runners.console.terminal import console

if TYPE_CHECKING:
    from ablations.planning.lint import Lint
    from ablations.planning.plan import Plan
    from runners.dispatch import Dispatcher, DispatchSettings
    from runners.estimates.estimate import Estimate
    from runners.estimates.forecast import Forecaster


def make_forecaster(runs_dir: Path, dispatch: DispatchSettings) -> Forecaster:
    """Returns what estimates plans for tasks as they are dispatched."""
    from runners.estimates.forecast import Forecaster

    return Forecaster(runs_dir, dispatch)


def time_networks(found: Plan, forecaster: Forecaster, plugins: tuple[str, ...]) -> None:
    """Has workers time what is not known of a plan, and count what must be counted."""
    from runners.dispatch import make_dispatcher

    unknown = len(forecaster.unknown(found))
    if not forecaster.is_local or not (unknown or forecaster.uncounted(found)):
        return
    out = console()
    out.print(f"Timing {unknown} networks with {forecaster.workers} workers …", highlight=False)
    with make_dispatcher(forecaster.dispatch) as dispatcher:
        for trouble in forecaster.calibrate(found, dispatcher, plugins):
            out.print(f"not timed: {trouble}", markup=False, soft_wrap=True)
        forecaster.count(found, dispatcher, plugins)


def fit(found: Plan, forecaster: Forecaster, *, hours: float, may_trim: bool) -> Plan:
    """Returns a plan that takes no longer than `hours`, and says what of it was trimmed.

    Raises:
        BudgetError: If it takes longer and may not be trimmed, or cannot be.
    """
    from runners.estimates.trimming import difference, within

    fitting = within(found, hours, forecaster, may_trim=may_trim)
    if fitting is not found:
        console().print(difference(found, fitting, forecaster), markup=False, soft_wrap=True)
    return fitting


def tell_estimate(found: Plan, forecaster: Forecaster) -> None:
    """Prints how long a plan takes and what it needs."""
    for line in forecaster.lines(forecaster.estimate(found)):
        console().print(line, markup=False, soft_wrap=True)


def announce(found: Plan, forecaster: Forecaster, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> Estimate | None:
    """Says how long a launch takes, after timing what is not known if that is cheap; and what counted sizes object to.

    The estimate is written down, and returned.
    """
    from runners.state.last_run import remember_launch

    if forecaster.is_cheap(found):
        forecaster.calibrate(found, dispatcher, plugins)
    if forecaster.uncounted(found):
        forecaster.count(found, dispatcher, plugins)
        tell_lints(found, forecaster, codes=("unequal-size",))
    estimate = forecaster.estimate(found)
    tell_estimate(found, forecaster)
    wall = estimate.wall if estimate is not None and estimate.is_complete else None
    remember_launch(forecaster.runs_dir, {"estimated": wall and vars(wall), "workers": forecaster.workers})
    return estimate


def tell_lints(
    found: Plan, forecaster: Forecaster, *, with_allowed: bool = False, codes: Sequence[str] = ()
) -> tuple[Lint, ...]:
    """Prints what study lint finds, of some codes or of all, and returns what of it is not allowed."""
    from ablations.planning.lint import lint
    from runners.console.tables import lint_overview

    lints = [one for one in lint(found, forecaster.parameters()) if not codes or one.code in codes]
    warnings = tuple(one for one in lints if not one.is_allowed)
    if warnings or (with_allowed and lints):
        console().print(lint_overview(lints, with_allowed=with_allowed))
    uncounted = forecaster.uncounted(found)
    if with_allowed and uncounted:
        console().print(f"Lint unequal-size: {len(uncounted)} networks are yet to be counted, by run or --calibrate.")
    return warnings
