"""Defines the verbs `tune` and `search`, whose trainings Optuna proposes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import click
from rich.table import Table
from rich.text import Text

from ablations import vocabulary as names
from ablations.planning.optimisation_plans import OptimisationPlan, SearchPlan, make_search_plan, make_tuning_plan
from ablations.planning.search import get_search
from runners.api.selection import Selection
from runners.cli import outcome
from runners.cli.options.groups import UNSYNCED, examples
from runners.cli.options.launch import LaunchOptions, launch_options
from runners.cli.options.report import ReportOptions, report_options
from runners.cli.options.selection import selection_options
from runners.console.tables import data_remarks, shown
from runners.console.terminal import announce_lines, console, print_lines, progress_console
from runners.dispatch import prepare_workers
from runners.estimates.forecast import Forecaster
from runners.launching.tuning_results import Tuned, read_results, track_tuned, write_tuned
from runners.provenance import project_commit
from runners.state.files import check_writable
from runners.state.nodes import StateStore

DEFAULT_BUDGET = 12


@click.command(
    epilog=examples(
        "tune temperature --budget 12",
        "tune temperature kernels --preset small --budget 30 --workers 8",
        "tune my_study.yaml --set train.epochs=4",
    )
)
@click.option(
    "--budget",
    type=click.IntRange(1, 10_000),
    default=DEFAULT_BUDGET,
    show_default=True,
    help="Trials for each variant, at most as many as there are distinct ones. A larger one later goes on from there.",
)
@selection_options("studies", "all_studies", "preset", "overrides", "runs_dir", "plugins")
@launch_options
def tune(selection: Selection, options: LaunchOptions, *, budget: int) -> None:
    """Tune each variant with as many trials as any other.

    Its nuisance factors are tuned, on the validation split. What is found goes to a file per study in RUNS_DIR/tuning,
    and `run --tuned` trains with it.
    """
    runs_dir, uri = selection.runs_dir, selection.tracking_uri
    dispatch = options.dispatch_settings(runs_dir)
    # Workers begin to import torch while the plan is still being made.
    prepare_workers(dispatch)
    plugins = selection.load_plugins()
    request = selection.request()
    tuning = make_tuning_plan(selection.find_studies(request), request, budget)
    states, plan = StateStore(selection.layout.state), tuning.as_plan()
    plan = replace(plan, done=states.done(plan.proposed))
    progress_console().print(overview(tuning, plan.done))
    announce_lines(data_remarks(plan))
    check_writable(runs_dir)
    settings, forecaster = options.launch_settings(dispatch, plugins), Forecaster(runs_dir, dispatch)
    # A launch needs mlflow, which `tune --help` shall not wait for.
    from runners.launching import session
    from runners.launching.optimisation import carry_out

    summary = carry_out(tuning, runs_dir, None if options.offline else uri, settings, forecaster)
    outcome.tell(summary, uri, verb="tune")
    # Also after an interrupt: the trials that have ended are worth keeping.
    results = read_results(tuning, states)
    paths = write_tuned(tuning, results, runs_dir, project_commit())
    print_lines(f"tuned values: {path}" for path in paths)
    if not options.offline and not summary.untracked:
        track_tuned(session.make_tracker(plan, runs_dir, uri), results)
    console().print(result_overview(results))
    if summary.interrupted:
        sys.exit(outcome.exit_code(summary))
    # A tuning that fell short is a failure even if no trial failed: its variants were not given the same budget.
    if summary.failures or any(tuned.best is None or not tuned.spent.is_whole for tuned in results):
        sys.exit(1)
    sys.exit(UNSYNCED if summary.untracked else 0)


def overview(tuning: OptimisationPlan, done_nodes: frozenset[str]) -> Table:
    """Return a table of the tuned trainings: their variants, factors with ranges, and the trials that have ended."""
    table = Table(title=f"Tuning at preset {tuning.request.preset.name}", title_justify="left")
    for heading in ("training", "variants", "factors"):
        table.add_column(heading, overflow="fold")
    table.add_column("trials done", justify="right")
    for group in tuning.optimisations:
        nodes = tuning.nodes_of(group)
        ended = sum(node.fingerprint in done_nodes for node in nodes)
        title = nodes[0].subject
        ranges = "\n".join(f"{name}: {factor}" for name, factor in group.factors.items())
        count = f"{ended} of {len(nodes)}"
        # There are fewer distinct settings than the budget allows.
        if len(nodes) < tuning.budget:
            count += ", all there are"
        table.add_row(Text(title), Text(_serves(tuning.serves[group.fingerprint])), Text(ranges), count)
    return table


def result_overview(results: Sequence[Tuned]) -> Table:
    """Return a table of the best values of each tuned training and of the trials spent on it."""
    table = Table(title="Tuned", title_justify="left")
    for heading in ("variants", "found"):
        table.add_column(heading, overflow="fold")
    for heading in ("validation top-1", "complete", "stopped early", "diverged", "epochs"):
        table.add_column(heading, justify="right")
    for tuned in results:
        best, spent = tuned.best, tuned.spent
        assignments: list[str] = []
        top1 = "–"
        if best is not None:
            assignments += [f"{key} = {shown(value)}" for key, value in best.values.items()]
            top1 = f"{best.metrics[names.TUNING_TOP1]:.2f} %"
        counts = (spent.complete, spent.pruned, spent.diverged, spent.epochs)
        table.add_row(Text(_serves(tuned.serves)), Text("\n".join(assignments) or "nothing"), top1, *map(str, counts))
    return table


def _serves(serves: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(f"{study}: {', '.join(keys)}" for study, keys in serves.items())


@click.command(
    epilog=examples(
        "search parts --trials 40",
        "search parts --preset small --trials 120 --repeats 5 --workers 8",
        "search my_search.yaml --set train.epochs=4",
    )
)
@click.argument("name")
@click.option(
    "--trials",
    type=click.IntRange(2, 100_000),
    default=40,
    show_default=True,
    help="Settings that are proposed and trained. More of them later go on from what is there.",
)
@click.option(
    "--repeats",
    type=click.IntRange(0, 1000),
    default=3,
    show_default=True,
    help="Times that the best are trained again, under other seeds.",
)
@selection_options("preset", "overrides", "runs_dir", "plugins")
@report_options()
@launch_options
def search(
    selection: Selection, report: ReportOptions, options: LaunchOptions, *, name: str, trials: int, repeats: int
) -> None:
    """Search which parts matter: accuracy against multiply-adds.

    On the validation split; then the report is written. NAME is a built-in search (parts) or a YAML file with factors.
    The report has the Pareto front, trained again under other seeds, and the importance of each factor.
    """
    runs_dir, uri = selection.runs_dir, selection.tracking_uri
    dispatch = options.dispatch_settings(runs_dir)
    plugins = selection.load_plugins()
    plan = make_search_plan(get_search(name), selection.request(), trials, repeats)
    announce_lines(_remarks(plan))
    check_writable(runs_dir)
    settings, forecaster = options.launch_settings(dispatch, plugins), Forecaster(runs_dir, dispatch)
    from runners.launching.optimisation import carry_out

    summary = carry_out(plan, runs_dir, None if options.offline else uri, settings, forecaster)
    outcome.tell(summary, uri, verb="search")
    # A report on part of a search would pass for its result.
    if not summary.interrupted and not options.offline and not summary.untracked:
        from runners.cli.reporting.write_report import write_search_report

        write_search_report(plan, runs_dir, uri, report)
    sys.exit(outcome.exit_code(summary))


def _remarks(plan: SearchPlan) -> Iterator[str]:
    """Yield the remarks on a search that a user should read before it begins."""
    if plan.distinct is not None:
        yield f"There are {plan.distinct} distinct settings to try, fewer than {plan.budget}: each is tried once."
    yield from data_remarks(plan.as_plan())
