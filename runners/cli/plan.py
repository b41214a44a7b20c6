"""Defines the verb `plan`: the nodes needed after sharing, how long they take, and the objections of study lint.

`plan` answers in under a second, without torch, unless it must build a network that is not the project's; only
`--calibrate` starts workers.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click

from ablations.claims import Contrast
from ablations.datasets.facts import DatasetFacts
from ablations.planning.frozen_plan import FrozenPlan, frozen_plans, write_frozen
from ablations.planning.lint import Lint, lint
from ablations.planning.plan import Plan
from ablations.protocol.seeds import ALPHA, MOST_LIKELY_SEEDS, likely_seeds
from ablations.spec.layers import BUILT_IN_LAYERS, LAYERS
from ablations.spec.names import BUILT_IN_NETWORKS
from ablations.spec.parts import BLOCKS, ModelSpec
from ablations.spec.titles import model_title, placement_title
from ablations.study import Study
from reports.content.plan_words import network_titles
from reports.content.published import published_contrast
from runners.api.plans import find_plan
from runners.api.selection import Selection
from runners.cli.options.frozen import tell_frozen
from runners.cli.options.groups import examples
from runners.cli.options.json_output import json_option, print_json
from runners.cli.options.launch import BudgetOptions, TaskOptions, budget_options, task_options
from runners.cli.options.selection import selection_options
from runners.cli.studies.plan_document import plan_document
from runners.console.tables import lint_overview, plan_overview, row_overview, todo_words
from runners.console.terminal import console, is_quiet, is_verbose, print_lines
from runners.estimates.forecast import Forecaster
from runners.estimates.spread import Spread, spread_of
from runners.launching.announce import fit, tell_estimate, tell_lints, time_networks
from runners.provenance import project_commit
from runners.state.nodes import StateStore

_NAMED = 3
"""The most networks that are named of those that are converted in the same way."""


@click.command(
    epilog=examples(
        "plan aggregation temperature --preset quick",
        'plan "temperature/tau_*" --preset small',
        "plan my_study.yaml --set train.epochs=4 --seeds 5 --strict",
        "plan --all --preset small --calibrate --workers 2",
        "plan --all --preset small --max-hours 12 --trim",
        "plan aggregation temperature --preset small --seeds 9 --freeze",
        "plan temperature kernels --until-decided --max-seeds 20",
        "plan aggregation --json",
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
@json_option("studies, nodes, cells, time and lints")
def plan(
    selection: Selection,
    tasks: TaskOptions,
    budget: BudgetOptions,
    *,
    calibrate: bool,
    strict: bool,
    freeze: bool,
    as_data: bool,
) -> None:
    """Count what a run would train, and estimate how long it takes.

    Also what of it is done, and what a reviewer would object to. Starts no training. STUDIES are names, files, or rows
    of either: temperature/tau_1, "temperature/tau_*". How long it takes is known from earlier runs on this machine, or
    from --calibrate. With -v each row, with -q what is left to do.
    """
    plugins = selection.load_plugins()
    study_plan = find_plan(selection)
    forecaster = Forecaster(selection.runs_dir, tasks.dispatch_settings(selection.runs_dir))
    if calibrate:
        # First, as a budget can only be checked against known times.
        time_networks(study_plan, forecaster, plugins)
    if budget.max_hours is not None:
        study_plan = fit(study_plan, forecaster, hours=budget.max_hours, may_trim=budget.trim)
    if as_data:
        lints = lint(study_plan, forecaster.parameters)
        seeds = likely_seeds_lines(study_plan, StateStore(selection.layout.state))
        print_json("plan", plan_document(study_plan, forecaster, lints, seeds))
        warnings = [item for item in lints if not item.is_allowed]
    else:
        warnings = list(show(study_plan, forecaster, selection, describe_every=calibrate))
    if strict and warnings:
        # Before it is frozen: what a reviewer would object to is mended first.
        sys.exit(1)
    if freeze:
        write_down(study_plan, selection)
    elif not as_data:
        tell_frozen(study_plan, frozen_plans(selection.layout.frozen, study_plan))


def show(study_plan: Plan, forecaster: Forecaster, selection: Selection, *, describe_every: bool) -> Iterable[Lint]:
    """Print a plan and return the lints that are not allowed."""
    if is_quiet():
        print_lines([todo_words(study_plan), *forecaster.lines(study_plan)])
        warnings = [item for item in lint(study_plan, forecaster.parameters) if not item.is_allowed]
        if warnings:
            console().print(lint_overview(warnings, with_allowed=False))
        return warnings
    console().print(plan_overview(study_plan))
    if is_verbose():
        console().print(row_overview(study_plan))
    describe_networks(study_plan, every=describe_every)
    tell_estimate(study_plan, forecaster)
    warnings_told = tell_lints(study_plan, forecaster, with_allowed=True)
    print_lines(likely_seeds_lines(study_plan, StateStore(selection.layout.state)))
    return warnings_told


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


def likely_seeds_lines(study_plan: Plan, states: StateStore) -> Iterator[str]:
    """Yield a heading, then a line per primary claim on the seeds that it likely needs; nothing without claims."""
    lines, without_spread = [], []
    has_typical = False
    for study in study_plan.studies:
        claim = study.primary_claim
        if claim is None or study.trains_nothing:
            continue
        contrasts = study.contrasts_of(claim)
        for network, title in network_titles(study).items():
            name = f"{study.name}, {title}" if title else study.name
            spreads = [spread_of(study_plan, states, study, contrast, network) for contrast in contrasts]
            known = [spread for spread in spreads if spread is not None]
            if not contrasts:
                reason = "at this preset" if study.before_rows is None else "with these rows"
                lines.append(f"  {name}, “{claim.name}”: not asked {reason}")
            elif len(known) < len(contrasts):
                without_spread.append(name)
            else:
                words = _likely_words(study_plan, study, dict(zip(contrasts, known, strict=True)))
                lines.append(f"  {name}, “{claim.name}”: {words}")
                has_typical |= any(spread.is_typical for spread in known)
    if not lines and not without_spread:
        return
    yield "Seeds that each primary claim likely needs to be reproduced, with 80 % power:"
    yield from lines
    if without_spread:
        yield (
            f"  {'; '.join(without_spread)}: not known, as nothing tells how much these differences vary from seed to "
            "seed. Run with --seeds 2 or more, then plan again: what is measured here is used."
        )
    if has_typical:
        yield "A typical spread was measured elsewhere with the preset as it is. Two seeds of your own tell more."


def _likely_words(study_plan: Plan, study: Study, spreads: Mapping[Contrast, Spread]) -> str:
    """Return the seeds that the neediest contrast of a claim takes, for each truth that is of interest, in words."""
    needs: dict[str, list[int | None]] = {}
    looks_reached: dict[str, list[int | None]] = {}
    alpha, looks = ALPHA / study_plan.primary_claims, study_plan.request.looks_of(study)
    for contrast, spread in spreads.items():
        for truth, (above, below) in _truths(study, contrast).items():
            distances = above / spread.sd, below / spread.sd
            needs.setdefault(truth, []).append(likely_seeds(*distances, rows=spread.rows, alpha=alpha))
            if looks:
                reached = likely_seeds(*distances, rows=spread.rows, alpha=alpha, looks=looks)
                looks_reached.setdefault(truth, []).append(reached)
    phrases = []
    for truth, seeds in needs.items():
        # A truth that only some of the contrasts have says nothing of the whole claim.
        if len(seeds) == len(spreads):
            phrase = f"{_most(seeds, f'over {MOST_LIKELY_SEEDS}')} if {truth}"
            if looks:
                phrase += f" ({_most(looks_reached[truth], 'no look')} with --until-decided)"
            phrases.append(phrase)
    widest = max(spreads.values(), key=lambda spread: spread.sd)
    return f"{'; '.join(phrases)}; spread {widest.sd:.2g}{study.metric_facts.unit} ({widest.source})"


def _truths(study: Study, contrast: Contrast) -> dict[str, tuple[float, float]]:
    """Return true differences that are of interest: each with its distances to the bounds of a reproduced verdict."""
    size, unit = study.smallest_of_interest, study.metric_facts.unit
    if size == 1:
        unit = unit.removesuffix("s")
    published = published_contrast(study, contrast)
    truths = {"nothing differs": 0.0}
    if contrast.kind == "better":
        truths = {f"the true difference is {size:g}{unit}": size}
    if published is not None:
        truths["it is as published"] = published.value
    distances: dict[str, tuple[float, float]] = {}
    for words, truth in truths.items():
        if contrast.kind == "better":
            distances[words] = (truth - contrast.margin, math.inf)
        elif contrast.kind == "at_least_as_good":
            distances[words] = (truth + size, math.inf)
        else:
            distances[words] = (truth + size, size - truth)
    return distances


def _most(numbers: Sequence[int | None], beyond: str) -> str:
    """Return the largest of several numbers of seeds in words, `beyond` if no number is enough for one of them."""
    largest = 0
    for seeds in numbers:
        if seeds is None:
            return beyond
        largest = max(largest, seeds)
    return str(largest)


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
