"""Defines the verbs `tune` and `search`, whose trainings Optuna proposes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.planning.request import make_request
from ablations.registry import find_studies
from runners.cli import inputs, outcome
from runners.cli.options import (
    UNSYNCED,
    all_option,
    dispatch_options,
    examples,
    format_option,
    offline_option,
    output_option,
    plugin_option,
    preset_option,
    recovery_options,
    runs_option,
    set_option,
)
from runners.cli.write_report import parse_formats, write_search_report
from runners.console.terminal import console
from runners.estimates.forecast import Forecaster
from runners.state.files import check_writable

if TYPE_CHECKING:
    from rich.table import Table

    from ablations.planning.optimisation_plans import OptimisationPlan, SearchPlan
    from ablations.planning.request import Request
    from runners.console.progress import Summary
    from runners.launching.tuning_results import Tuned
    from runners.state.nodes import StateStore

DEFAULT_BUDGET = 12


@click.command(
    epilog=examples(
        "tune temperature --budget 12",
        "tune temperature kernels --preset small --budget 30 --workers 8",
        "tune my_study.yaml --set train.epochs=4",
    )
)
@click.argument("studies", nargs=-1)
@click.option(
    "--budget",
    type=click.IntRange(1, 10_000),
    default=DEFAULT_BUDGET,
    show_default=True,
    help="Trials for each variant, at most as many as there are distinct ones. A larger one later goes on from there.",
)
@all_option
@preset_option
@set_option
@runs_option
@plugin_option
@dispatch_options
@recovery_options
@offline_option
def tune(
    studies: tuple[str, ...],
    *,
    budget: int,
    all_studies: bool,
    preset: str | None,
    overrides: tuple[str, ...],
    runs_dir: Path,
    plugins: tuple[str, ...],
    offline: bool,
    **asked: Any,
) -> None:
    """Tune the nuisance factors of each variant, the same number of trials each, on the validation split.

    What is found goes to a file per study in RUNS_DIR/tuning, and `run --tuned` trains with it.
    """
    from ablations.planning.optimisation_plans import make_tuning_plan
    from runners.console.tables import data_remarks
    from runners.dispatch import prepare_workers
    from runners.launching import session
    from runners.launching.tuning_results import track_tuned
    from runners.state.files import check_writable
    from runners.state.nodes import StateStore

    launch_options: dict[str, Any] = {"dispatch": inputs.take_dispatch(asked, runs_dir)}
    # Workers begin to import torch while the plan is still being made.
    prepare_workers(launch_options["dispatch"])
    launch_options["recovery"] = inputs.take_recovery(asked)
    launch_options["plugins"] = inputs.load_plugins(plugins)
    request = make_request(preset, overrides, None)
    tuning = make_tuning_plan(find_studies(studies, all_studies, request), request, budget)
    states, plan = StateStore(runs_dir / "state"), tuning.as_plan()
    plan = replace(plan, done=states.done(plan.proposed))
    console().print(overview(tuning, plan.done))
    for remark in data_remarks(plan):
        console().print(remark, markup=False, soft_wrap=True)
    check_writable(runs_dir)
    uri = inputs.tracking_uri(runs_dir)
    launch_options["forecaster"] = Forecaster(runs_dir, launch_options["dispatch"])
    summary = _carry_out(tuning, runs_dir, None if offline else uri, launch_options)
    outcome.tell(summary, uri, verb="tune")
    # Also after an interrupt: the trials that have ended are worth keeping.
    results = write_down(tuning, states, runs_dir)
    if not offline and not summary.untracked:
        track_tuned(session.make_tracker(plan, runs_dir, uri), results)
    console().print(result_overview(results))
    # A tuning that fell short is a failure even if no trial failed: its variants were not given the same budget.
    is_short = any(tuned.best is None or not tuned.spent.is_whole for tuned in results)
    code = 1 if summary.failures or is_short else UNSYNCED if summary.untracked else 0
    sys.exit(outcome.exit_code(summary) if summary.interrupted else code)


def write_down(tuning: OptimisationPlan, states: StateStore, runs_dir: Path) -> list[Tuned]:
    """Write the results of a tuning into a file per study, print the paths, and return the results."""
    from runners.launching.tuning_results import read_results, write_tuned
    from runners.provenance import project_commit

    results = read_results(tuning, states)
    for path in write_tuned(tuning, results, inputs.tuning_folder(runs_dir), project_commit()):
        console().print(f"tuned values: {path}", soft_wrap=True, markup=False)
    return results


def overview(tuning: OptimisationPlan, done: frozenset[str]) -> Table:
    """Return a table of the tuned trainings: their variants, factors with ranges, and the trials that have ended."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Tuning at preset {tuning.request.preset.name}", title_justify="left")
    for heading in ("training", "variants", "factors"):
        table.add_column(heading, overflow="fold")
    table.add_column("trials done", justify="right")
    for group in tuning.optimisations:
        nodes = tuning.nodes_of(group)
        ended = sum(node.fingerprint in done for node in nodes)
        title = nodes[0].subject
        ranges = "\n".join(f"{name}: {factor}" for name, factor in group.factors.items())
        count = f"{ended} of {len(nodes)}"
        # There are fewer distinct settings than the budget allows.
        if len(nodes) < tuning.budget:
            count += ", all there are"
        table.add_row(Text(title), Text(_serves(tuning.serves[group.fingerprint])), Text(ranges), count)
    return table


def result_overview(found: list[Tuned]) -> Table:
    """Return a table of the best values of each tuned training and of the trials spent on it."""
    from rich.table import Table
    from rich.text import Text

    from ablations import vocabulary as names
    from runners.console.tables import shown

    table = Table(title="Tuned", title_justify="left")
    for heading in ("variants", "found"):
        table.add_column(heading, overflow="fold")
    for heading in ("validation top-1", "complete", "stopped early", "diverged", "epochs"):
        table.add_column(heading, justify="right")
    for tuned in found:
        best, spent = tuned.best, tuned.spent
        values = best.values if best is not None else {}
        assignments = "\n".join(f"{key} = {shown(value)}" for key, value in values.items()) or "nothing"
        top1 = f"{best.metrics[names.TUNING_TOP1]:.2f} %" if best is not None else "–"
        counts = (spent.complete, spent.pruned, spent.diverged, spent.epochs)
        table.add_row(Text(_serves(tuned.serves)), Text(assignments), top1, *map(str, counts))
    return table


def _serves(serves: Mapping[str, list[str]]) -> str:
    return "\n".join(f"{study}: {', '.join(keys)}" for study, keys in serves.items())


_trials_option = click.option(
    "--trials",
    type=click.IntRange(2, 100_000),
    default=40,
    show_default=True,
    help="Settings that are proposed and trained. More of them later go on from what is there.",
)
_repeats_option = click.option(
    "--repeats",
    type=click.IntRange(0, 1000),
    default=3,
    show_default=True,
    help="Times that the best are trained again, under other seeds.",
)


@click.command(
    epilog=examples(
        "search parts --trials 40",
        "search parts --preset small --trials 120 --repeats 5 --workers 8",
        "search my_search.yaml --set train.epochs=4",
    )
)
@click.argument("name")
@_trials_option
@_repeats_option
@preset_option
@set_option
@runs_option
@plugin_option
@format_option
@output_option
@dispatch_options
@recovery_options
@offline_option
def search(
    name: str,
    *,
    trials: int,
    repeats: int,
    preset: str | None,
    overrides: tuple[str, ...],
    runs_dir: Path,
    plugins: tuple[str, ...],
    formats: str,
    output: Path | None,
    offline: bool,
    **asked: Any,
) -> None:
    """Search which parts matter: accuracy up, multiply-adds down, on the validation split; then write the report.

    NAME is a built-in search (parts) or a YAML file with factors. The report has the Pareto front, trained again
    under other seeds, and the importance of each factor.
    """
    launch_options, renderers = _how(asked, plugins, runs_dir), parse_formats(formats)
    plan = _plan(name, trials, repeats, make_request(preset, overrides, None))
    for remark in _remarks(plan):
        console().print(remark, markup=False, soft_wrap=True)
    check_writable(runs_dir)
    uri = inputs.tracking_uri(runs_dir)
    summary = _carry_out(plan, runs_dir, None if offline else uri, launch_options)
    outcome.tell(summary, uri, verb="search")
    # A report on part of a search would pass for its result.
    if not summary.interrupted and not offline and not summary.untracked:
        write_search_report(plan, uri, renderers, runs_dir, output)
    sys.exit(outcome.exit_code(summary))


def _how(asked: dict[str, Any], plugins: Sequence[str], runs_dir: Path) -> dict[str, Any]:
    """Load the plug-ins and return the keyword arguments of `session.launch`."""
    dispatch = inputs.take_dispatch(asked, runs_dir)
    return {
        "dispatch": dispatch,
        "recovery": inputs.take_recovery(asked),
        "plugins": inputs.load_plugins(plugins),
        "forecaster": Forecaster(runs_dir, dispatch),
    }


def _plan(name: str, trials: int, repeats: int, asked: Request) -> SearchPlan:
    from ablations.planning.optimisation_plans import make_search_plan
    from ablations.planning.search import get_search

    return make_search_plan(get_search(name), asked, trials, repeats)


def _remarks(plan: SearchPlan) -> Iterator[str]:
    """Yield the remarks on a search that a user should read before it begins."""
    from runners.console.tables import data_remarks

    if plan.distinct is not None:
        yield f"There are {plan.distinct} distinct settings to try, fewer than {plan.budget}: each is tried once."
    yield from data_remarks(plan.as_plan())


def _carry_out(plan: OptimisationPlan, runs_dir: Path, uri: str | None, options: dict[str, Any]) -> Summary:
    from runners.launching.optimisation import carry_out

    return carry_out(plan, runs_dir, uri, options)
