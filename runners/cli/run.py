"""Defines the verbs `run` and `retry`, which carry out a plan and then write its report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ablations.errors import OutputError, ReportError, TrackingError
from ablations.invocation import complete_invocation, suggested_command
from runners.cli import inputs, outcome
from runners.cli.inputs import tell_damages
from runners.cli.options import (
    all_option,
    budget_options,
    canary_option,
    dispatch_options,
    examples,
    force_option,
    format_option,
    offline_option,
    output_option,
    plugin_option,
    preset_option,
    recovery_options,
    runs_option,
    seeds_option,
    set_option,
    tuned_options,
)
from runners.cli.write_report import parse_formats, write_report
from runners.console.terminal import console
from runners.dispatch import prepare_workers
from runners.estimates.forecast import Forecaster
from runners.launching import announce
from runners.state.failures import patiently
from runners.state.files import check_writable
from runners.state.nodes import StateStore

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from runners.console.progress import Summary


@click.command(
    epilog=examples(
        "run aggregation resolution temperature --preset quick --workers 2",
        "run temperature --preset quick --seeds 5 --set train.epochs=4",
        "run aggregation --set inspect=tau_30",
        "run temperature --preset small --canary",
        "run temperature --tuned",
        "run my_study.yaml --plugin my_strategies",
        "run temperature --force temperature/tau_30 --retries 5",
        "run --all --preset small --dispatch ray --ray-address 10.0.0.1:6379 --runs-dir /shared/runs",
        "run --all --preset small --dispatch slurm --device cuda --slurm partition=gpu --slurm gpus=1",
        "run --all --preset small --max-hours 12 --trim",
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
@format_option
@output_option
@force_option
@budget_options
@dispatch_options
@recovery_options
@offline_option
def run(
    studies: tuple[str, ...],
    *,
    runs_dir: Path,
    plugins: tuple[str, ...],
    formats: str,
    output: Path | None,
    forced: tuple[str, ...],
    offline: bool,
    **asked: Any,
) -> None:
    """Train and evaluate what is missing, track it in MLflow, and write the report.

    What failed before is tried again, unless it would fail again in the same way: that is for `retry`. Leaves with 1
    if something failed, with 3 if the tracking store has not got everything, with 130 after Ctrl-C.
    """
    from runners.console.tables import plan_overview
    from runners.launching.rerun import begin_anew, undone
    from runners.state.last_run import remember_run

    launch_options: dict[str, Any] = {"dispatch": inputs.take_dispatch(asked, runs_dir)}
    # Workers begin to import torch while the plan is still being made.
    prepare_workers(launch_options["dispatch"])
    launch_options["recovery"] = inputs.take_recovery(asked)
    budget = inputs.take_budget(asked)
    loaded, renderers = inputs.load_plugins(plugins), parse_formats(formats)
    plan, states = inputs.find_plan(studies, runs_dir, **asked), StateStore(runs_dir / "state")
    launch_options["forecaster"] = forecaster = Forecaster(runs_dir, launch_options["dispatch"])
    if budget["hours"] is not None:
        # Nothing is put aside before the budget is known to suffice: a refusal must leave the runs folder as it was.
        to_do = undone(plan, forced, states)
        announce.time_networks(to_do, forecaster, loaded)
        fitting = announce.fit(to_do, forecaster, **budget)
        if fitting is not to_do:
            # Suggested commands and the record of the run then repeat the trimmed plan.
            studies, asked = inputs.as_trimmed(studies, asked, fitting)
            complete_invocation(studies=studies, all_studies=False, seeds=asked["seeds"])
            plan = inputs.find_plan(studies, runs_dir, **asked)
    if forced:
        plan = begin_anew(plan, forced, states)
    console().print(plan_overview(plan))
    announce.tell_lints(plan, forecaster)
    patiently(
        partial(check_writable, runs_dir), launch_options["recovery"]["policy"], partial(console().print, markup=False)
    )
    # Written before the launch, so that `status`, `retry` and `report` know the run even if it is killed.
    remember = partial(remember_run, runs_dir, studies, {**asked, "plugins": plugins})
    patiently(remember, launch_options["recovery"]["policy"], partial(console().print, markup=False))
    carry_out(
        plan,
        plan,
        studies,
        runs_dir=runs_dir,
        formats=renderers,
        output=output,
        plugins=loaded,
        offline=offline,
        **launch_options,
    )


@click.command(epilog=examples("retry", "retry aggregation temperature", "retry --retries 5 --retry-wait 60"))
@click.argument("studies", nargs=-1)
@all_option
@preset_option
@set_option
@seeds_option
@canary_option
@tuned_options
@runs_option
@plugin_option
@format_option
@output_option
@dispatch_options
@recovery_options
@offline_option
def retry(
    studies: tuple[str, ...],
    *,
    runs_dir: Path,
    plugins: tuple[str, ...],
    formats: str,
    output: Path | None,
    offline: bool,
    **asked: Any,
) -> None:
    """Run again what failed, whatever the reason: of the named studies, or of the last run.

    Without --preset, --set and --seeds, with those of the last run.
    """
    from runners.cli.inputs import as_last_time
    from runners.launching.rerun import only_failed
    from runners.state.last_run import last_run

    launch_options: dict[str, Any] = {"dispatch": inputs.take_dispatch(asked, runs_dir)}
    # Workers begin to import torch while the plan is still being made.
    prepare_workers(launch_options["dispatch"])
    launch_options["recovery"] = inputs.take_recovery(asked)
    studies, plugins, asked = as_last_time(studies, plugins, asked, last_run(runs_dir))
    complete_invocation(studies=studies, plugins=plugins, **asked)
    loaded, renderers = inputs.load_plugins(plugins), parse_formats(formats)
    plan = inputs.find_plan(studies, runs_dir, **asked)
    tell_damages(plan, runs_dir)
    failed = only_failed(plan, StateStore(runs_dir / "state"))
    if not failed.missing:
        console().print("Nothing has failed.")
        return
    console().print(f"Trying again: {len(failed.missing)} of {len(plan.missing)} that are missing.")
    launch_options["forecaster"] = Forecaster(runs_dir, launch_options["dispatch"])
    # Failures for a lasting reason are tried again, too: that is the purpose of `retry`.
    launch_options["recovery"]["again"] = True
    carry_out(
        failed,
        plan,
        studies,
        runs_dir=runs_dir,
        formats=renderers,
        output=output,
        plugins=loaded,
        offline=offline,
        **launch_options,
    )


def carry_out(
    plan: Plan,
    whole: Plan,
    studies: Sequence[str],
    *,
    runs_dir: Path,
    formats: Sequence[str],
    output: Path | None,
    offline: bool,
    **how: Any,
) -> NoReturn:
    """Launch a plan, print how it ended, write the report of the whole plan, and leave with the exit code.

    Args:
        plan: The nodes to run: the whole plan, or a part of it.
        whole: The plan that is reported.
        studies: Names and files as they were given.
        runs_dir: The runs folder.
        formats: Names of renderers.
        output: Where the report goes, or `None` for the runs folder.
        offline: Whether nothing is tracked now.
        how: The keyword arguments of `session.launch`.
    """
    from runners.launching import session

    uri = inputs.tracking_uri(runs_dir)
    summary = session.launch(plan, whole, runs_dir, None if offline else uri, **how)
    outcome.tell(summary, uri)
    if not summary.interrupted:
        try:
            _check_tracked(offline, summary, uri)
            write_report(whole, runs_dir, uri, formats, launch=summary.record, output=output)
        except (TrackingError, ReportError) as error:
            # Without a store the report is only late; with a store the error is real.
            if not offline and not summary.untracked:
                raise
            console().print(f"No report: {error} {_later()}", markup=False, soft_wrap=True)
        except (OutputError, OSError) as error:
            # Measurements are kept; the report can be written once there is room for it.
            console().print(f"No report: {error} {_later()}", markup=False, soft_wrap=True)
            sys.exit(outcome.exit_code(summary) or 1)
    sys.exit(outcome.exit_code(summary))


def _check_tracked(offline: bool, summary: Summary, uri: str) -> None:
    """Raise `TrackingError` if nothing can be reported: reports are made from the store."""
    from runners.launching import session

    if offline:
        raise TrackingError("reports are made from what is tracked, and nothing was.")
    if summary.untracked and not session.store_answers(uri):
        raise TrackingError("reports are made from the tracking store, and it is away.")


def _later() -> str:
    return f"Later: {suggested_command('sync', ())} && {suggested_command('report')}"
