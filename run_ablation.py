"""The command line: what to run, where to track it, what to report. Everything it does is done in another room."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.errors import AblationError, UnknownNameError

if TYPE_CHECKING:
    from ablations.planning import Plan, Request
    from ablations.study import Study
    from runners.launch import Summary

DEFAULT_FORMATS = "pdf,md,tex"
INTERRUPTED = 130

preset_option = click.option("--preset", default=None, help="Scale: smoke, quick, small or paper (default: quick).")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of every variant. Repeatable."
)
seeds_option = click.option("--seeds", type=click.IntRange(1, 1000), help="Repeats per variant.")
runs_option = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder for states, the local tracking store and reports.",
)
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="MODULE", help="Import your own strategies or studies. Repeatable."
)
all_option = click.option("--all", "all_studies", is_flag=True, help="Every registered study.")
format_option = click.option(
    "--format", "formats", default=DEFAULT_FORMATS, show_default=True, help="Report formats, separated by commas."
)


def examples(*lines: str) -> str:
    """Returns the epilog of a verb: commands that can be copied."""
    return "\b\nExamples:\n" + "\n".join(f"  python run_ablation.py {line}" for line in lines)


class Verbs(click.Group):
    """Verbs in the order of their definition, with the nearest one named on a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the verbs in the order in which a user needs them."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the verb, or explains that there is none."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            raise UnknownNameError("verb", cmd_name, self.commands)
        return found


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Ablation studies of dynamic convolution: declared as data, tracked in MLflow, told as a paper's tables."""


@cli.command("list", epilog=examples("list", "list --preset small"))
@preset_option
@plugin_option
def list_studies(preset: str | None, plugins: tuple[str, ...]) -> None:
    """Studies: their question, variants, trainings needed and published table."""
    from ablations.listing import study_overview

    load_plugins(plugins)
    console().print(study_overview(make_request(preset, (), None)))


@cli.command(
    epilog=examples("plan aggregation temperature --preset quick", "plan my_study.yaml --set train.epochs=4 --seeds 5")
)
@click.argument("studies", nargs=-1)
@all_option
@preset_option
@set_option
@seeds_option
@runs_option
@plugin_option
def plan(studies: tuple[str, ...], runs_dir: Path, plugins: tuple[str, ...], **asked: Any) -> None:
    """Trainings and evaluations after deduplication, and what is already done. Starts nothing."""
    from ablations.listing import plan_overview

    load_plugins(plugins)
    console().print(plan_overview(find_plan(studies, runs_dir, **asked)))


@cli.command(
    epilog=examples(
        "run aggregation resolution temperature --preset quick --workers 2",
        "run temperature --preset quick --seeds 5 --set train.epochs=4",
        "run aggregation --set inspect=tau_30",
        "run my_study.yaml --plugin my_strategies",
    )
)
@click.argument("studies", nargs=-1)
@all_option
@preset_option
@set_option
@seeds_option
@runs_option
@plugin_option
@format_option
@click.option("--workers", type=click.IntRange(1, 256), help="Tasks at once (default: one per core).")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 or auto.")
@click.option("--dispatch", default="processes", show_default=True, help="processes or inline (for debugging).")
def run(
    studies: tuple[str, ...],
    *,
    runs_dir: Path,
    plugins: tuple[str, ...],
    formats: str,
    workers: int | None,
    device: str,
    dispatch: str,
    **asked: Any,
) -> None:
    """Train and evaluate what is missing, track it in MLflow, and write the report."""
    from ablations.listing import plan_overview

    plugins = load_plugins(plugins)
    wanted = parse_formats(formats)
    plan = find_plan(studies, runs_dir, **asked)
    out = console()
    out.print(plan_overview(plan))
    uri = tracking_uri(runs_dir)
    summary = launch(plan, runs_dir, uri, dispatch=dispatch, workers=workers or cores(), device=device, plugins=plugins)
    tell(summary, uri, studies)
    if not summary.interrupted:
        write_report(plan, runs_dir, uri, wanted)
    sys.exit(INTERRUPTED if summary.interrupted else 1 if summary.failures else 0)


@cli.command(epilog=examples("report aggregation --format pdf,md,tex", "report temperature --preset small"))
@click.argument("studies", nargs=-1)
@all_option
@preset_option
@set_option
@seeds_option
@runs_option
@plugin_option
@format_option
def report(studies: tuple[str, ...], runs_dir: Path, plugins: tuple[str, ...], formats: str, **asked: Any) -> None:
    """Write the report of what has been tracked; without --preset, --set and --seeds, of the last run."""
    from runners.tracking import prepare_store

    load_plugins(plugins)
    wanted = parse_formats(formats)
    uri = tracking_uri(runs_dir)
    prepare_store(uri)
    if not asked["preset"] and not asked["overrides"] and not asked["seeds"]:
        asked |= last_request(studies, uri)
    write_report(find_plan(studies, runs_dir, **asked), runs_dir, uri, wanted)


@cli.command(epilog=examples("ui", "ui --port 5001"))
@runs_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(runs_dir: Path, port: int) -> None:
    """The MLflow UI on the right store, bound to 127.0.0.1."""
    from runners.tracking import prepare_store

    uri = tracking_uri(runs_dir)
    prepare_store(uri)
    if uri.startswith(("http://", "https://")):
        console().print(f"The tracking server is {uri}; open it in a browser.")
        return
    console().print(f"MLflow UI on http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    sys.exit(subprocess.run([*command, "--port", str(port)], check=False).returncode)


@cli.command(epilog=examples("schema > study.schema.json"))
def schema() -> None:
    """The JSON schema of a study file, for completion in an editor."""
    from ablations.schema import study_schema

    click.echo(json.dumps(study_schema(), indent=2))


def console() -> Any:
    """Returns where text for people goes."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tracking_uri(runs_dir: Path) -> str:
    """Returns `MLFLOW_TRACKING_URI`, or the SQLite store in `runs_dir`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs_dir}/mlflow.db"


def load_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Loads the plug-ins named on the command line and those that are installed; returns them all."""
    from runners.plugins import installed_plugins
    from runners.plugins import load_plugins as load

    wanted = tuple(dict.fromkeys([*plugins, *installed_plugins()]))
    load(wanted)
    return wanted


def make_request(preset: str | None, overrides: Sequence[str], seeds: int | None) -> Request:
    """Returns what the options ask for."""
    from ablations.documents import parse_override
    from ablations.planning import Request
    from ablations.presets import get_preset

    return Request(get_preset("quick" if preset is None else preset), dict(map(parse_override, overrides)), seeds)


def parse_formats(text: str) -> tuple[str, ...]:
    """Returns the report formats in `text`, refusing unknown ones before anything is trained."""
    from reports.render import FORMATS

    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in wanted:
        if name not in FORMATS:
            raise UnknownNameError("report format", name, FORMATS)
    return wanted


def find_plan(
    studies: Sequence[str],
    runs_dir: Path,
    *,
    all_studies: bool,
    preset: str | None,
    overrides: Sequence[str],
    seeds: int | None,
) -> Plan:
    """Returns the plan of the named studies, knowing what has been measured under `runs_dir`."""
    from ablations.planning import make_plan
    from runners.state import StateStore

    request = make_request(preset, overrides, seeds)
    fresh = make_plan(find_studies(studies, all_studies, request), request)
    done = StateStore(runs_dir / "state").done(node.fingerprint for node in fresh.nodes)
    return replace(fresh, done=done)


def find_studies(names: Sequence[str], all_studies: bool, request: Request) -> list[Study]:
    """Returns the studies that are named, each once.

    Raises:
        AblationError: If none is named, or one is unknown.
    """
    from ablations.registry import available_studies, get_study

    if not names and not all_studies:
        known = ", ".join(available_studies())
        raise AblationError(f"no study is named. Known are: {known}; or give a YAML file, or --all.")
    wanted = dict.fromkeys([*names, *(available_studies() if all_studies else ())])
    base = request.base()
    return [get_study(name, base) for name in wanted]


def launch(
    plan: Plan, runs_dir: Path, uri: str, *, dispatch: str, workers: int, device: str, plugins: tuple[str, ...]
) -> Summary:
    """Carries out a plan and follows it in the tracking store."""
    from runners.dispatch import make_dispatcher
    from runners.display import make_display
    from runners.follower import Follower
    from runners.launch import Launch, Settings
    from runners.preflight import find_problem

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = Settings((runs_dir / "state").resolve(), device=device, plugins=plugins)
    # Workers import torch while the tracking store is made.
    dispatcher = make_dispatcher(dispatch, workers)
    with dispatcher if plan.missing else nullcontext():
        tracker = make_tracker(plan, runs_dir, uri)
        problem = dispatcher.ask(find_problem, plan, plugins) if plan.missing else None
        if problem is not None:
            raise AblationError(problem)
        with make_display(console()) as display:
            return Launch(plan, dispatcher, Follower(tracker), display, settings).run()


def make_tracker(plan: Plan, runs_dir: Path, uri: str) -> Any:
    """Returns the tracker of a plan's preset and data set, after checking that its store and folder can be written."""
    from ablations.vocabulary import experiment_name
    from runners.files import check_writable
    from runners.provenance import project_commit
    from runners.tracking import Tracker, prepare_store

    check_writable(runs_dir)
    prepare_store(uri)
    preset = plan.request.preset.name
    experiment = experiment_name(preset, plan.request.base().data.name)
    return Tracker(uri, experiment, runs_dir / "artifacts", commit=project_commit(), preset=preset)


def tell(summary: Summary, uri: str, studies: Sequence[str]) -> None:
    """Says how a launch ended and what can be done about it."""
    from rich.markup import escape

    from runners.display import clock

    out = console()
    if summary.finished or summary.failures:
        out.print(f"{summary.finished} finished, {len(summary.failures)} failed in {clock(summary.seconds)}")
    for failure in summary.failures:
        out.print(escape(f"  failed: {failure.title}\n    {failure.reason}\n    log: {failure.log_file}"))
    if summary.blocked:
        out.print(f"  {summary.blocked} evaluations were left out because their training failed")
    if summary.untracked:
        out.print(escape(f"tracking store {uri}: {summary.untracked}. Nothing is lost: run the same command again."))
    if summary.interrupted:
        names = " ".join(studies)
        out.print(escape(f"Interrupted. What is finished is kept; the same command goes on from there: run {names} …"))


def write_report(plan: Plan, runs_dir: Path, uri: str, formats: Sequence[str]) -> None:
    """Writes the report files, puts them into the studies' summary runs, and prints where they are."""
    from reports import make_report, summarize, verdicts
    from reports.collect import collect
    from runners.tracking import write_study_summary
    from runners.tracking.studies import VariantRecord

    results = collect(plan, uri)
    files = make_report(plan, uri, formats, runs_dir / "reports", results=results)
    tracker = make_tracker(plan, runs_dir, uri)
    judged = verdicts(plan, results)
    for study, summary in zip(plan.studies, summarize(plan, results), strict=True):
        records = [VariantRecord(row.key, row.as_metrics(study.metric)) for row in summary.variants]
        told = {claim.key: claim.verdict for claim in judged if claim.study == study.name}
        write_study_summary(tracker, plan, study, records, list(files.values()), verdicts=told)
    out = console()
    for name, path in files.items():
        out.print(f"report ({name}): {path}", soft_wrap=True)


def last_request(studies: Sequence[str], uri: str) -> dict[str, Any]:
    """Returns preset, overrides and seeds of the newest tracked summary of the first named study, if there is one."""
    from reports.collect import latest_request

    found = latest_request(studies[0], uri) if studies else None
    if found is None:
        return {}
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in found["overrides"].items())
    return {"preset": found["preset"], "overrides": overrides, "seeds": found["seeds"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's error is a sentence, never a traceback."""
    run_guarded(lambda: cli.main(arguments, standalone_mode=False))


def run_guarded(action: Callable[[], Any]) -> None:
    """Runs `action`, turning the errors of this project and of click into a message and an exit code."""
    try:
        action()
    except AblationError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
