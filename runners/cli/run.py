"""Defines the verbs `run` and `retry`, which carry out a plan and then write its report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

import click

from ablations.errors import OutputError, ReportError, TrackingError
from ablations.invocation import complete_invocation, suggested_command
from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.plan import Plan
from runners.api.launching import PreparedRun
from runners.api.plans import as_last_time, last_selection
from runners.api.selection import Selection
from runners.cli import outcome
from runners.cli.completion import candidates
from runners.cli.options.frozen import FrozenOptions, frozen_options, tell_frozen
from runners.cli.options.groups import examples
from runners.cli.options.launch import BudgetOptions, LaunchOptions, budget_options, launch_options
from runners.cli.options.report import ReportOptions, report_options
from runners.cli.options.selection import selection_options
from runners.console.progress import Summary
from runners.console.tables import plan_overview
from runners.console.terminal import announce_lines, print_lines, progress_console
from runners.estimates.forecast import HoursLeft
from runners.launching import announce
from runners.launching.rerun import only_failed
from runners.state.nodes import StateStore
from runners.upkeep.damages import damages_of


@click.command(
    epilog=examples(
        "run aggregation resolution temperature --preset quick --workers 2",
        "run temperature --preset quick --seeds 5 --set train.epochs=4",
        "run temperature/tau_30 --set train.epochs=4,8,16",
        "run aggregation --set inspect=tau_30",
        "run aggregation --set inspect=theirs.pth --set model.width=0.5",
        "run temperature --preset small --canary",
        "run temperature --tuned",
        "run my_study.yaml --plugin my_strategies",
        "run temperature --force temperature/tau_30 --retries 5",
        "run temperature/tau_1 my_study.yaml/wider",
        'run "aggregation/tau_1: average" --seed 0',
        "run --all --preset small --dispatch ray --ray-address 10.0.0.1:6379 --runs-dir /shared/runs",
        "run --all --preset small --dispatch slurm --device cuda --slurm partition=gpu --slurm gpus=1",
        "run --all --preset small --max-hours 12 --trim",
        "run --frozen runs/frozen/aggregation-20261130-201502-1f3a9c2b.json",
        "run temperature kernels --until-decided --max-seeds 20",
    )
)
@selection_options()
@report_options()
@frozen_options
@click.option(
    "--force",
    "forced",
    multiple=True,
    metavar="STUDY/VARIANT",
    shell_complete=candidates.rows,
    help="Train and evaluate a variant anew; what it was is kept in MLflow. Repeatable.",
)
@budget_options
@launch_options
def run(
    selection: Selection,
    report: ReportOptions,
    frozen: FrozenOptions,
    budget: BudgetOptions,
    options: LaunchOptions,
    *,
    forced: tuple[str, ...],
) -> None:
    """Train and evaluate what is missing, and write the report.

    It is tracked in MLflow, and the run ends with the tables of its studies. STUDIES are names, files, or rows of
    either: temperature/tau_1, "temperature/tau_*". A row brings what it needs, and the reference of its study.

    What failed before is tried again, unless it would fail again in the same way: that is for `retry`. Leaves with 1
    if something failed, with 3 if the tracking store has not got everything, with 130 after Ctrl-C.
    """
    selection = frozen.completed(selection)
    complete_invocation(**selection.as_options())
    _check_until_decided(selection, budget, options, forced)
    began = time.monotonic()
    prepared = PreparedRun.of(selection, options.launch_settings(options.dispatch_settings(selection.runs_dir), ()))
    if budget.max_hours is not None:
        prepared = prepared.within(budget.max_hours, forced, may_trim=budget.trim)
    prepared = prepared.with_forced(forced)
    plan, selection, forecaster = prepared.plan, prepared.selection, prepared.forecaster
    progress_console().print(plan_overview(plan))
    announce.tell_lints(plan, forecaster)
    frozen_plans = frozen.plans(plan, selection)
    tell_frozen(plan, frozen_plans)
    prepared.remember()
    launch = partial(_launched, options=options)
    summaries = [launch(prepared, plan)]
    if selection.until_decided and not summaries[0].interrupted:
        # It imports what reports need, which takes as long as many a launch.
        from runners.cli.until_decided import add_seeds

        hours = HoursLeft(budget.max_hours, began, forecaster)
        plan, further = add_seeds(
            plan, summaries[0], selection, lambda next_plan: launch(replace(prepared, plan=next_plan), next_plan), hours
        )
        summaries += further
    _report_and_leave(plan, summaries, selection, report, options, frozen=frozen_plans)


@click.command(epilog=examples("retry", "retry aggregation temperature", "retry --retries 5 --retry-wait 60"))
@selection_options()
@report_options()
@frozen_options
@launch_options
def retry(selection: Selection, report: ReportOptions, frozen: FrozenOptions, options: LaunchOptions) -> None:
    """Run again what failed, whatever the reason.

    Of the named studies, or of the last run. Without --preset, --set and --seeds, with those of the last run.
    """
    runs_dir = selection.runs_dir
    selection = as_last_time(frozen.completed(selection), last_selection(runs_dir))
    complete_invocation(**selection.as_options())
    # Failures for a lasting reason are tried again, too: that is the purpose of `retry`.
    prepared = PreparedRun.of(
        selection, replace(options, again=True).launch_settings(options.dispatch_settings(runs_dir), ())
    )
    plan = prepared.plan
    print_lines(damages_of(runs_dir, [node.fingerprint for node in plan.nodes]))
    failed = only_failed(plan, StateStore(selection.layout.state))
    if not failed.missing:
        print_lines(["Nothing has failed."])
        return
    announce_lines([f"Trying again: {len(failed.missing)} of {len(plan.missing)} that are missing."])
    frozen_plans = frozen.plans(plan, selection)
    summary = _launched(prepared, failed, options=options)
    if selection.until_decided and not summary.interrupted:
        print_lines([f"To go on until the primary claims are decided: {suggested_command('run')}"])
    _report_and_leave(plan, [summary], selection, report, options, frozen=frozen_plans)


def _check_until_decided(
    selection: Selection, budget: BudgetOptions, options: LaunchOptions, forced: tuple[str, ...]
) -> None:
    """Refuse options that contradict `--until-decided`.

    Raises:
        UsageError: If one is given.
    """
    if not selection.until_decided:
        return
    if options.offline:
        raise click.UsageError(
            "--until-decided reads verdicts from the tracking store, and --offline tracks nothing. Leave one out."
        )
    if budget.trim:
        raise click.UsageError(
            "--trim takes seeds away, and --until-decided adds them. Leave one out; --max-hours alone ends the adding."
        )
    if forced:
        raise click.UsageError(
            "--force trains anew, and --until-decided goes on from what is there. Run with --force and --seeds first."
        )


def _launched(prepared: PreparedRun, plan: Plan, *, options: LaunchOptions) -> Summary:
    """Launch a plan of a run, the whole or a part, print how it ended, and return its summary."""
    summary = prepared.launch(plan, offline=options.offline)
    outcome.tell(summary, prepared.selection.tracking_uri)
    return summary


def _report_and_leave(
    plan: Plan,
    summaries: Sequence[Summary],
    selection: Selection,
    report: ReportOptions,
    options: LaunchOptions,
    *,
    frozen: Sequence[FrozenPlan],
) -> NoReturn:
    """Write the report of a plan after its launches, unless the last one was interrupted, and leave with its code.

    Args:
        frozen: The frozen plans that the report is held against.
    """
    runs_dir, uri = selection.runs_dir, selection.tracking_uri
    summary = summaries[-1]
    if summary.interrupted:
        sys.exit(outcome.exit_code(summary))
    launches = [ended.record for ended in summaries if ended.record is not None]
    try:
        if options.offline:
            raise TrackingError("reports are made from what is tracked, and nothing was.")
        # pandas and the rest are imported only now, as many launches have nothing to report.
        from runners.cli.reporting.write_report import print_end_of_run, store_answers, write_report

        if summary.untracked and not store_answers(uri):
            raise TrackingError("reports are made from the tracking store, and it is away.")
        studies = write_report(plan, runs_dir, uri, report, launches=launches, frozen=frozen)
        print_end_of_run(studies)
    except (TrackingError, ReportError) as error:
        # Without a store the report is only late; with a store the error is real.
        if not options.offline and not summary.untracked:
            raise
        print_lines([_no_report(error)])
    except (OutputError, OSError) as error:
        # Measurements are kept; the report can be written once there is room for it.
        print_lines([_no_report(error)])
        sys.exit(outcome.exit_code(summary) or 1)
    sys.exit(outcome.exit_code(summary))


def _no_report(error: Exception) -> str:
    return f"No report: {error} Later: {suggested_command('sync', ())} && {suggested_command('report')}"
