"""The verb `plan`, and what `run` shares with it: how long a plan takes, the hours it may take, and study lint.

`plan` answers in under a second, without torch, unless it must build a network that is not the project's; only
`--calibrate` starts workers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runners.cli.options import (
    all_option,
    budget_options,
    canary_option,
    console,
    examples,
    plugin_option,
    preset_option,
    runs_option,
    seeds_option,
    set_option,
    task_options,
    tuned_options,
)
from runners.launching import session

if TYPE_CHECKING:
    from ablations.datasets.facts import DatasetFacts
    from ablations.planning.lint import Lint
    from ablations.planning.plan import Plan
    from ablations.spec.parts import ModelSpec
    from runners.dispatch import Dispatcher, DispatchSettings
    from runners.estimates.estimate import Estimate
    from runners.estimates.forecast import Forecaster

_NAMED = 3
"""How many networks are named of those that are converted alike."""


@click.command(
    epilog=examples(
        "plan aggregation temperature --preset quick",
        "plan my_study.yaml --set train.epochs=4 --seeds 5 --strict",
        "plan --all --preset small --calibrate --workers 2",
        "plan --all --preset small --max-hours 12 --trim",
    )
)
@click.argument("studies", nargs=-1)
@all_option
@preset_option
@set_option
@seeds_option
@canary_option
@tuned_options
@runs_option
@plugin_option
@task_options
@budget_options
@click.option("--calibrate", is_flag=True, help="Time a few steps of each network that was not timed here yet.")
@click.option("--strict", is_flag=True, help="Leave with exit code 1 if study lint finds anything that is not allowed.")
def plan(
    studies: tuple[str, ...],
    *,
    runs_dir: Path,
    plugins: tuple[str, ...],
    calibrate: bool,
    strict: bool,
    **asked: Any,
) -> None:
    """Trainings and evaluations after sharing, how long they take, and what a reviewer would object to.

    Starts no training. How long it takes is known from earlier runs on this machine, or from --calibrate.
    """
    from runners.console.tables import plan_overview
    from runners.dispatch import DispatchSettings

    tasks, budget = {key: asked.pop(key) for key in ("workers", "device", "threads")}, take_budget(asked)
    loaded = session.load_plugins(plugins)
    found = session.find_plan(studies, runs_dir, **asked)
    forecaster = make_forecaster(runs_dir, DispatchSettings(folder=runs_dir, **tasks))
    if calibrate:
        time_networks(found, forecaster, loaded)
    if budget["hours"] is not None:
        found = fit(found, forecaster, **budget)
    console().print(plan_overview(found))
    describe_networks(found, every=calibrate)
    tell_estimate(found, forecaster)
    warnings = tell_lints(found, forecaster, with_allowed=True)
    if strict and warnings:
        sys.exit(1)


def take_budget(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns what `budget_options` say, taken out of what was asked.

    Raises:
        UsageError: If a plan is to be trimmed to no number of hours.
    """
    hours, may_trim = asked.pop("max_hours"), asked.pop("trim")
    if may_trim and hours is None:
        raise click.UsageError("--trim needs --max-hours: to how many hours?")
    return {"hours": hours, "may_trim": may_trim}


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


def describe_networks(found: Plan, *, every: bool) -> None:
    """Print which layers of the dynamic networks of a plan are dynamic, and why others were left static.

    Without `every` only of networks that are not the project's: of those it is known without building them.
    """
    from ablations.spec.names import BUILT_IN_NETWORKS
    from ablations.spec.parts import BLOCKS
    from ablations.spec.titles import model_title, placement_title

    titles: dict[tuple[ModelSpec, DatasetFacts], dict[str, None]] = {}
    for node in found.network_nodes:
        model = node.spec.model
        if model.layer != "static" and (every or model.name not in BUILT_IN_NETWORKS):
            title = model_title(model)
            if model.where is not None and model.where != BLOCKS:
                title += f" at {placement_title(model.where)}"
            titles.setdefault((_as_placed(model), node.spec.data.facts), {})[title] = None
    if not titles:
        return
    # From here on torch is imported, and so only if there is something to build.
    from runners.estimates.calibration import describe_conversion

    alike: dict[str, list[str]] = {}
    for (model, facts), names in titles.items():
        alike.setdefault(describe_conversion(model, facts), []).extend(names)
    for text, every_name in alike.items():
        listing = ", ".join(every_name[:_NAMED])
        if len(every_name) > _NAMED:
            listing += f" and {len(every_name) - _NAMED} more"
        console().print(f"{listing}: {text}", markup=False, soft_wrap=True, highlight=False)


def _as_placed(model: ModelSpec) -> ModelSpec:
    """Return a network like a dynamic one in all that decides which of its layers are dynamic, and small."""
    others = dict.fromkeys(("reduction", "normalization", "aggregation"))
    return model.model_copy(update={"layer": "dynamic", "num_kernels": 1, **others})


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


def as_trimmed(
    studies: Sequence[str], asked: Mapping[str, Any], fitting: Plan
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Returns what a user who wanted the trimmed plan would have asked for: studies as they were named, and more."""
    from ablations.registry import available_studies

    named = dict.fromkeys([*studies, *(available_studies() if asked["all_studies"] else ())])
    kept = tuple(named)[: len(fitting.studies)]
    return kept, {**asked, "all_studies": False, "seeds": fitting.request.seeds}


def tell_estimate(found: Plan, forecaster: Forecaster) -> None:
    """Prints how long a plan takes and what it needs."""
    for line in forecaster.lines(forecaster.estimate(found)):
        console().print(line, markup=False, soft_wrap=True)


def announce(found: Plan, forecaster: Forecaster, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> Estimate | None:
    """Says how long a launch takes, after timing what is not known if that is cheap; and what counted sizes object to.

    The estimate is written down, and returned.
    """
    from runners.launching.rerun import remember_launch

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
