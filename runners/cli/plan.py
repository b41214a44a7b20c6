"""Defines the verb `plan`: the nodes needed after sharing, how long they take, and the objections of study lint.

`plan` answers in under a second, without torch, unless it must build a network that is not the project's; only
`--calibrate` starts workers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runners.cli import inputs
from runners.cli.inputs import take_budget
from runners.cli.options import (
    all_option,
    budget_options,
    canary_option,
    examples,
    plugin_option,
    preset_option,
    runs_option,
    seeds_option,
    set_option,
    task_options,
    tuned_options,
)
from runners.console.terminal import console
from runners.estimates.forecast import Forecaster
from runners.launching.announce import fit, tell_estimate, tell_lints, time_networks

if TYPE_CHECKING:
    from ablations.datasets.facts import DatasetFacts
    from ablations.planning.plan import Plan
    from ablations.spec.parts import ModelSpec

_NAMED = 3
"""The most networks that are named of those that are converted in the same way."""


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
    loaded = inputs.load_plugins(plugins)
    study_plan = inputs.find_plan(studies, runs_dir, **asked)
    forecaster = Forecaster(runs_dir, DispatchSettings(folder=runs_dir, **tasks))
    if calibrate:
        # First, as a budget can only be checked against known times.
        time_networks(study_plan, forecaster, loaded)
    if budget["hours"] is not None:
        study_plan = fit(study_plan, forecaster, **budget)
    console().print(plan_overview(study_plan))
    describe_networks(study_plan, every=calibrate)
    tell_estimate(study_plan, forecaster)
    warnings = tell_lints(study_plan, forecaster, with_allowed=True)
    if strict and warnings:
        sys.exit(1)


def describe_networks(found: Plan, *, every: bool) -> None:
    """Print which layers of a plan's dynamic networks are dynamic, and why the others were left static.

    Without `every`, only networks that are not the project's are described: the project's need not be built for that.
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
            # Variants with the same dynamic layers share one network, which is built once.
            titles.setdefault((_as_placed(model), node.spec.data.facts), {})[title] = None
    if not titles:
        return
    by_description: dict[str, list[str]] = {}
    for (model, facts), names in titles.items():
        by_description.setdefault(describe_conversion(model, facts), []).extend(names)
    for text, listed in by_description.items():
        listing = ", ".join(listed[:_NAMED])
        if len(listed) > _NAMED:
            listing += f" and {len(listed) - _NAMED} more"
        console().print(f"{listing}: {text}", markup=False, soft_wrap=True, highlight=False)


def describe_conversion(model: ModelSpec, facts: DatasetFacts) -> str:
    """Return a description of the dynamic layers of a network, or of why it cannot be built."""
    # They import torch, and so only if there is something to build.
    import dyconv
    from runners.training.network import build_network

    try:
        report = dyconv.conversion_report(build_network(model, facts, seed=0))
    except Exception as error:
        return f"It cannot be built: {error}"
    return "" if report is None else str(report)


def _as_placed(model: ModelSpec) -> ModelSpec:
    """Return a small network with the same dynamic layers: kernel count and attention do not decide which they are."""
    irrelevant = dict.fromkeys(("reduction", "normalization", "aggregation"))
    return model.model_copy(update={"layer": "dynamic", "num_kernels": 1, **irrelevant})
