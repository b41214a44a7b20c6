"""The command line, thin: verbs live in `runners.launching.session`; those that report stand here, as
they need both rooms."""

from __future__ import annotations

import signal

from runners.interrupts import heed_signals, interruptible, leave_at_once

if __name__ == "__main__":
    # Before the other imports, which take most of a second: Ctrl-C in them would be a traceback.
    signal.signal(signal.SIGINT, leave_at_once)

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ablations.datasets.registry import forget_folders
from ablations.errors import OutputError, ReportError, TrackingError
from ablations.invocation import complete_invocation, suggested_command
from ablations.visible import visible
from runners.cli import basics, inputs, outcome
from runners.cli import plan as plan_commands
from runners.cli.app import Verbs, run_guarded
from runners.cli.explain import explain
from runners.cli.options import (
    INTERRUPTED,
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
    side_options,
    tuned_options,
)
from runners.cli.status import status
from runners.cli.tune import search_verb, tune
from runners.cli.upkeep import gc, sync
from runners.console.streams import go_on_without_output, steady_streams, writing_its_output
from runners.console.terminal import console
from runners.dispatch import prepare_workers
from runners.importing import without_collection
from runners.launching import announce, session
from runners.state.failures import patiently
from runners.state.files import check_writable, exclusively
from runners.state.nodes import StateStore

if TYPE_CHECKING:
    from ablations.launches import Record
    from ablations.planning.optimisation_plans import SearchPlan
    from ablations.planning.plan import Plan
    from reports.content.file_names import Destination
    from reports.evidence.manifest import Maker
    from runners.console.progress import Summary


_WORKING = frozenset(("run", "retry", "tune", "search", "sync", "report", "verify", "compare", "gc"))
"""The verbs that do more than print: where their output cannot be written they go on."""


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.pass_context
def cli(context: click.Context) -> None:
    """Ablation studies of dynamic convolution: declared as data, tracked in MLflow, told as a paper's tables."""
    forget_folders()
    if context.invoked_subcommand in _WORKING:
        go_on_without_output()


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

    how: dict[str, Any] = {"dispatch": inputs.take_dispatch(asked, runs_dir)}
    prepare_workers(how["dispatch"])
    how["recovery"] = inputs.take_recovery(asked)
    budget = inputs.take_budget(asked)
    loaded, wanted = inputs.load_plugins(plugins), parse_formats(formats)
    plan, states = inputs.find_plan(studies, runs_dir, **asked), StateStore(runs_dir / "state")
    how["forecaster"] = forecaster = announce.make_forecaster(runs_dir, how["dispatch"])
    if budget["hours"] is not None:
        to_do = undone(plan, forced, states)
        announce.time_networks(to_do, forecaster, loaded)
        fitting = announce.fit(to_do, forecaster, **budget)
        if fitting is not to_do:
            studies, asked = inputs.as_trimmed(studies, asked, fitting)
            complete_invocation(studies=studies, all_studies=False, seeds=asked["seeds"])
            plan = inputs.find_plan(studies, runs_dir, **asked)
    if forced:
        plan = begin_anew(plan, forced, states)
    console().print(plan_overview(plan))
    announce.tell_lints(plan, forecaster)
    patiently(partial(check_writable, runs_dir), how["recovery"]["policy"], partial(console().print, markup=False))
    remember = partial(remember_run, runs_dir, studies, {**asked, "plugins": plugins})
    patiently(remember, how["recovery"]["policy"], partial(console().print, markup=False))
    carry_out(
        plan, plan, studies, runs_dir=runs_dir, formats=wanted, output=output, plugins=loaded, offline=offline, **how
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

    how: dict[str, Any] = {"dispatch": inputs.take_dispatch(asked, runs_dir)}
    prepare_workers(how["dispatch"])
    how["recovery"] = inputs.take_recovery(asked)
    studies, plugins, asked = as_last_time(studies, plugins, asked, last_run(runs_dir))
    complete_invocation(studies=studies, plugins=plugins, **asked)
    loaded, wanted = inputs.load_plugins(plugins), parse_formats(formats)
    plan = inputs.find_plan(studies, runs_dir, **asked)
    _tell_damages(plan, runs_dir)
    failed = only_failed(plan, StateStore(runs_dir / "state"))
    if not failed.missing:
        console().print("Nothing has failed.")
        return
    console().print(f"Trying again: {len(failed.missing)} of {len(plan.missing)} that are missing.")
    how["forecaster"] = announce.make_forecaster(runs_dir, how["dispatch"])
    how["recovery"]["again"] = True
    carry_out(
        failed, plan, studies, runs_dir=runs_dir, formats=wanted, output=output, plugins=loaded, offline=offline, **how
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
    """Launches a plan, says how that ended, writes the report of the whole plan, and leaves with the exit code."""
    uri = inputs.tracking_uri(runs_dir)
    summary = session.launch(plan, whole, runs_dir, None if offline else uri, **how)
    outcome.tell(summary, uri)
    if not summary.interrupted:
        try:
            _check_tracked(offline, summary, uri)
            write_report(whole, runs_dir, uri, formats, launch=summary.record, output=output)
        except (TrackingError, ReportError) as error:
            if not offline and not summary.untracked:
                raise
            console().print(f"No report: {error} {_later()}", markup=False, soft_wrap=True)
        except (OutputError, OSError) as error:
            # What was measured is kept; a report can be written whenever there is room for it.
            console().print(f"No report: {error} {_later()}", markup=False, soft_wrap=True)
            sys.exit(outcome.exit_code(summary) or 1)
    sys.exit(outcome.exit_code(summary))


def _check_tracked(offline: bool, summary: Summary, uri: str) -> None:
    """Raises `TrackingError` if nothing can be reported: reports are made from the store."""
    if offline:
        raise TrackingError("reports are made from what is tracked, and nothing was.")
    if summary.untracked and not session.store_answers(uri):
        raise TrackingError("reports are made from the tracking store, and it is away.")


def _later() -> str:
    return f"Later: {suggested_command('sync', ())} && {suggested_command('report')}"


@click.command(epilog=examples("report aggregation --format pdf,html,tex", "report temperature --preset small"))
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
def report(
    studies: tuple[str, ...],
    *,
    runs_dir: Path,
    plugins: tuple[str, ...],
    formats: str,
    output: Path | None,
    **asked: Any,
) -> None:
    """Write the report of what has been tracked; without studies, of the last run.

    Without --preset, --set and --seeds, with those of the last run, or else of the newest report of the first study.
    """
    from runners.cli.inputs import as_last_time
    from runners.state.last_run import last_run
    from runners.tracking import prepare_store

    wanted = parse_formats(formats)
    uri, last = inputs.tracking_uri(runs_dir), last_run(runs_dir)
    is_scaled = asked["preset"] or asked["overrides"] or asked["seeds"]
    was_last = not asked["all_studies"] and set(studies) <= set(last.get("studies", ()))
    if was_last or not (studies or asked["all_studies"]):
        studies, plugins, asked = as_last_time(studies, plugins, asked, last)
    inputs.load_plugins(plugins)
    prepare_store(uri)
    if not is_scaled and not was_last:
        asked |= last_request(studies, uri, asked)
    complete_invocation(studies=studies, plugins=plugins, **asked)
    found = inputs.find_plan(studies, runs_dir, **asked)
    _tell_damages(found, runs_dir)
    write_report(found, runs_dir, uri, wanted, output=output)


def _tell_damages(plan: Plan, runs_dir: Path) -> None:
    from runners.upkeep.damages import damages_of

    for line in damages_of(runs_dir, [node.fingerprint for node in plan.nodes]):
        console().print(line, markup=False, soft_wrap=True)


@click.command(
    epilog=examples("verify runs/reports/aggregation.pdf", "verify report.html --tracking-uri http://127.0.0.1:5000")
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--tracking-uri", "uri", help="The store with its runs (default: MLFLOW_TRACKING_URI, or that of --runs-dir)."
)
@runs_option
@plugin_option
def verify(file: Path, uri: str | None, runs_dir: Path, plugins: tuple[str, ...]) -> None:
    """Compute every number of a report again from its tracked runs, and name each that differs.

    The PDF and the HTML page carry a manifest of their runs. Exit code 1 says that something differs.
    """
    from reports.verify import verify as compute_again

    inputs.load_plugins(plugins)
    found = compute_again(file, uri or inputs.tracking_uri(runs_dir), maker())
    for line in found.lines():
        # A line is about names in a file of somebody else's: none of them may begin a line of its own.
        console().print(visible(line, lines=False), markup=False, soft_wrap=True)
    sys.exit(1 if found.differences else 0)


@click.command(
    epilog=examples(
        "compare temperature@1a2b3c4 temperature@5d6e7f8 --preset small",
        "compare aggregation --right-set data.name=cifar10 --format md,html",
        "compare aggregation --right-uri http://tracking.example:5000",
        "compare my_study.yaml temperature --match dynamic=tau_30",
    )
)
@click.argument("left")
@click.argument("right", required=False)
@side_options
@seeds_option
@click.option(
    "--match", "matched", multiple=True, metavar="LEFT=RIGHT", help="Hold one row against another. Repeatable."
)
@runs_option
@plugin_option
@click.option("--format", "formats", default="", help="Report formats beside the table here, separated by commas.")
@output_option
def compare(
    left: str,
    right: str | None,
    *,
    runs_dir: Path,
    plugins: tuple[str, ...],
    formats: str,
    output: Path | None,
    **asked: Any,
) -> None:
    """Two studies side by side, or one on two commits (STUDY@COMMIT), data sets, settings or tracking servers.

    Each row's mean on both sides, the difference with its interval, and what else is not the same.
    """
    from reports.compare import compare_sides

    inputs.load_plugins(plugins)
    wanted = parse_formats(formats)
    there = _destination(output, runs_dir)
    uri = inputs.tracking_uri(runs_dir)
    shown, files = compare_sides(left, right, uri, wanted, there.folder, stem=there.stem, **asked)
    for part in shown:
        console().print(part)
    _say("comparison", files)


def maker() -> Maker:
    """Returns the code that is running, for a report's manifest."""
    from reports.evidence.manifest import Maker
    from runners.provenance import project_commit

    commit = project_commit()
    return Maker(commit.sha, commit.dirty)


def parse_formats(text: str) -> tuple[str, ...]:
    """Returns the report formats in `text`, refusing unknown ones before anything is trained."""
    from reports import render

    return render.parse_formats(text)


def write_search_report(
    plan: SearchPlan, uri: str, formats: Sequence[str], runs_dir: Path, output: Path | None = None
) -> None:
    """Writes the report files on a search and prints where they are."""
    from reports import make_search_report

    there = _destination(output, runs_dir)
    _say("report", make_search_report(plan, uri, formats, there.folder, stem=there.stem))


def _destination(output: Path | None, runs_dir: Path) -> Destination:
    """Returns where a report goes: where the user wants it, or into the runs folder."""
    from reports.content.file_names import Destination
    from reports.render import FORMATS

    return Destination.of(output, runs_dir / "reports", FORMATS)


def _say(what: str, files: Mapping[str, Path]) -> None:
    for name, path in files.items():
        console().print(f"{what} ({name}): {path}", soft_wrap=True)


def write_report(
    plan: Plan,
    runs_dir: Path,
    uri: str,
    formats: Sequence[str],
    *,
    launch: Record | None = None,
    output: Path | None = None,
) -> None:
    """Writes the report files, puts them into the studies' summary runs, and prints where they are.

    Args:
        plan: What is reported.
        runs_dir: The runs folder.
        uri: The tracking store.
        formats: Names of renderers.
        launch: The launch that has just ended; earlier ones are in the summary runs.
        output: Where the files go, or `None` for the runs folder.
    """
    with without_collection():
        from reports import canaries, make_report, verdicts
        from reports.collect.runs import collect
        from reports.document.prose import holes
        from reports.tables.study import tracked_rows
    from runners.tracking import write_study_summary
    from runners.tracking.descriptions import RunLink, VariantRecord

    check_writable(runs_dir)
    # Of two launches that end at once, each replaces the other's files and summaries as a whole.
    with exclusively(runs_dir / "reports.lock"):
        results = collect(plan, uri)
        if launch is not None:
            results = results.with_launch(launch)
        there = _destination(output, runs_dir)
        files = make_report(plan, uri, formats, there.folder, results=results, maker=maker(), stem=there.stem)
        tracker = session.make_tracker(plan, runs_dir, uri, for_nodes=False)
        judged, birds = verdicts(plan, results), canaries(plan, results)
        for study in plan.studies:
            entries = {key: entry.values for (name, key), entry in plan.tuned.items() if name == study.name}
            records = [
                VariantRecord(
                    row.key,
                    row.metrics,
                    row.title,
                    row.told,
                    [RunLink(**vars(run)) for run in row.runs],
                    entries.get(row.key, {}),
                )
                for row in tracked_rows(study, plan, results)
            ]
            told: dict[str, str] = {
                f"{claim.key} ({claim.rank})": claim.words for claim in judged if claim.study == study.name
            }
            told |= {bird.key: bird.verdict for bird in birds if bird.study.name == study.name}
            write_study_summary(
                tracker, plan, study, records, list(files.values()), verdicts=told, launches=results.launches
            )
    for bird in (bird for bird in birds if bird.state == "alarm"):
        console().print(f"CANARY ALARM: {bird.study.name}, {bird.key} {bird.verdict}; see the report.", markup=False)
    _say("report", files)
    missing = holes(plan, results)
    if missing:
        console().print(missing, markup=False, soft_wrap=True)


def last_request(studies: Sequence[str], uri: str, now: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the newest tracked summary of the first named study was asked with, if there is one, and is now."""
    from ablations.registry import study_name
    from reports.collect.runs import latest_request

    found = latest_request(study_name(studies[0]), uri) if studies else None
    if found is None:
        return {}
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in found["overrides"].items())
    asked = {"preset": found["preset"], "overrides": overrides, "seeds": found["seeds"]}
    tuned_from = now["tuned_from"] or (None if now["tuned"] else found["tuned_from"])
    return asked | {"canary": now["canary"] or found["canary"], "tuned_from": tuned_from}


for verb in (basics.list_studies, plan_commands.plan, tune, run, status, explain, retry, report, verify, compare):
    cli.add_command(verb)
for verb in (search_verb(parse_formats, write_search_report), sync, gc):
    cli.add_command(verb)
for verb in (basics.ui, basics.schema):
    cli.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's error is a sentence, never a traceback."""
    steady_streams()
    heed_signals()

    def carry_out_verb() -> None:
        writing_its_output(lambda: cli.main(arguments, standalone_mode=False))

    interruptible(lambda: run_guarded(carry_out_verb), INTERRUPTED)


if __name__ == "__main__":
    main()
