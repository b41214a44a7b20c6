"""Defines the verb `plan`: the nodes needed after sharing, how long they take, and the objections of study lint.

`plan` answers in under a second, without torch, unless it must build a network that is not the project's; only
`--calibrate` starts workers.
"""

from __future__ import annotations

import sys
import time

import click

from ablations.datasets.facts import DatasetFacts
from ablations.planning.frozen_plan import FrozenPlan, frozen_plans, write_frozen
from ablations.planning.plan import Plan
from ablations.spec.layers import BUILT_IN_LAYERS, LAYERS
from ablations.spec.names import BUILT_IN_NETWORKS
from ablations.spec.parts import BLOCKS, ModelSpec
from ablations.spec.titles import model_title, placement_title
from runners.cli.options.frozen import tell_frozen
from runners.cli.options.groups import examples
from runners.cli.options.launch import BudgetOptions, TaskOptions, budget_options, task_options
from runners.cli.options.selection import Selection, selection_options
from runners.cli.plans import find_plan
from runners.console.tables import plan_overview
from runners.console.terminal import console, print_lines
from runners.estimates.forecast import Forecaster
from runners.launching.announce import fit, tell_estimate, tell_lints, time_networks
from runners.provenance import project_commit

_NAMED = 3
"""The most networks that are named of those that are converted in the same way."""


@click.command(
    epilog=examples(
        "plan aggregation temperature --preset quick",
        "plan my_study.yaml --set train.epochs=4 --seeds 5 --strict",
        "plan --all --preset small --calibrate --workers 2",
        "plan --all --preset small --max-hours 12 --trim",
        "plan aggregation temperature --preset small --seeds 9 --freeze",
    )
)
@selection_options()
@task_options
@budget_options
@click.option("--calibrate", is_flag=True, help="Time a few steps of each network that was not timed here yet.")
@click.option("--strict", is_flag=True, help="Leave with exit code 1 if study lint finds anything that is not allowed.")
@click.option(
    "--freeze",
    is_flag=True,
    help="Write the plan, its primary claims and its stopping rule to a dated file with a SHA-256, before it is run.",
)
def plan(
    selection: Selection,
    tasks: TaskOptions,
    budget: BudgetOptions,
    *,
    calibrate: bool,
    strict: bool,
    freeze: bool,
) -> None:
    """Trainings and evaluations after sharing, how long they take, and what a reviewer would object to.

    Starts no training. How long it takes is known from earlier runs on this machine, or from --calibrate.
    """
    plugins = selection.load_plugins()
    study_plan = find_plan(selection)
    forecaster = Forecaster(selection.runs_dir, tasks.dispatch_settings(selection.runs_dir))
    if calibrate:
        # First, as a budget can only be checked against known times.
        time_networks(study_plan, forecaster, plugins)
    if budget.max_hours is not None:
        study_plan = fit(study_plan, forecaster, hours=budget.max_hours, may_trim=budget.trim)
    console().print(plan_overview(study_plan))
    describe_networks(study_plan, every=calibrate)
    tell_estimate(study_plan, forecaster)
    warnings = tell_lints(study_plan, forecaster, with_allowed=True)
    if strict and warnings:
        # Before it is frozen: what a reviewer would object to is mended first.
        sys.exit(1)
    if freeze:
        write_down(study_plan, selection)
    else:
        tell_frozen(study_plan, frozen_plans(selection.layout.frozen, study_plan))


def write_down(study_plan: Plan, selection: Selection) -> None:
    """Freeze a plan, and print where it lies and what of it is known already."""
    commit = project_commit()
    frozen = FrozenPlan.of(study_plan, time.time(), commit.sha, modified=commit.dirty, named=selection.studies)
    path = write_frozen(frozen, selection.layout.frozen)
    lines = [f"Frozen {frozen.when}: {path}", f"SHA-256 {frozen.digest}"]
    for claim in frozen.content["primary_claims"]:
        lines.append(f"  decides: {claim['study']}, {claim['claim']} (size of interest {claim['size_of_interest']:g})")
    if study_plan.done:
        count = len(study_plan.done)
        lines.append(f"{count} of its {len(study_plan.nodes)} results are there already; the report will say so.")
    if commit.dirty:
        lines.append("The code has changes that no commit holds; commit them first, so that others can have it.")
    print_lines(lines)


def describe_networks(study_plan: Plan, *, every: bool) -> None:
    """Print which layers of a plan's dynamic networks are dynamic, and why the others were left static.

    Without `every`, only networks that are not the project's are described, and those with layers of a plug-in's kind:
    the project's need not be built for that, and torch is imported only if there is something to build.
    """
    titles: dict[tuple[ModelSpec, DatasetFacts], dict[str, None]] = {}
    for node in study_plan.network_nodes:
        model = node.spec.model
        is_ours = model.name in BUILT_IN_NETWORKS and model.layer in BUILT_IN_LAYERS
        if not model.is_static and (every or not is_ours):
            title = model_title(model)
            if model.where is not None and model.where != BLOCKS:
                title += f" at {placement_title(model.where)}"
            # Variants with the same dynamic layers share one network, which is built once.
            titles.setdefault((_as_placed(model), node.spec.data.facts), {})[title] = None
    by_description: dict[str, list[str]] = {}
    for (model, facts), model_titles in titles.items():
        by_description.setdefault(describe_conversion(model, facts), []).extend(model_titles)
    for description, names in by_description.items():
        listing = ", ".join(names[:_NAMED])
        if len(names) > _NAMED:
            listing += f" and {len(names) - _NAMED} more"
        print_lines([f"{listing}: {description}"])


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
    """Return a small network with the same dynamic layers: kernel count and attention do not decide which they are.

    A kind may be unable to replace some layers, and a plug-in's may refuse one for any of its settings, so that these
    stay.
    """
    kind = LAYERS[model.layer]
    if model.layer not in BUILT_IN_LAYERS or kind.cannot_replace or "where" not in kind.reads:
        return model
    irrelevant = dict.fromkeys(("options", "reduction", "normalization", "aggregation"))
    return model.model_copy(update={"layer": "dynamic", "num_kernels": 1, **irrelevant})
