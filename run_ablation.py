"""The command line, thin: verbs live in `runners.commands`; those that report stand here, as they need both rooms."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.errors import UnknownNameError
from ablations.options import (
    INTERRUPTED,
    Verbs,
    all_option,
    console,
    examples,
    format_option,
    plugin_option,
    preset_option,
    run_guarded,
    runs_option,
    seeds_option,
    set_option,
)
from runners import commands

if TYPE_CHECKING:
    from ablations.planning import Plan


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Ablation studies of dynamic convolution: declared as data, tracked in MLflow, told as a paper's tables."""


@click.command(
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

    plugins = commands.load_plugins(plugins)
    wanted = parse_formats(formats)
    plan = commands.find_plan(studies, runs_dir, **asked)
    out = console()
    out.print(plan_overview(plan))
    uri = commands.tracking_uri(runs_dir)
    summary = commands.launch(
        plan, runs_dir, uri, dispatch=dispatch, workers=workers or commands.cores(), device=device, plugins=plugins
    )
    commands.tell(summary, uri, studies)
    if not summary.interrupted:
        write_report(plan, runs_dir, uri, wanted)
    sys.exit(INTERRUPTED if summary.interrupted else 1 if summary.failures else 0)


@click.command(epilog=examples("report aggregation --format pdf,md,tex", "report temperature --preset small"))
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

    commands.load_plugins(plugins)
    wanted = parse_formats(formats)
    uri = commands.tracking_uri(runs_dir)
    prepare_store(uri)
    if not asked["preset"] and not asked["overrides"] and not asked["seeds"]:
        asked |= last_request(studies, uri)
    write_report(commands.find_plan(studies, runs_dir, **asked), runs_dir, uri, wanted)


def parse_formats(text: str) -> tuple[str, ...]:
    """Returns the report formats in `text`, refusing unknown ones before anything is trained."""
    from reports.render import FORMATS

    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in wanted:
        if name not in FORMATS:
            raise UnknownNameError("report format", name, FORMATS)
    return wanted


def write_report(plan: Plan, runs_dir: Path, uri: str, formats: Sequence[str]) -> None:
    """Writes the report files, puts them into the studies' summary runs, and prints where they are."""
    from reports import make_report, summarize, verdicts
    from reports.collect import collect
    from runners.tracking import write_study_summary
    from runners.tracking.studies import VariantRecord

    results = collect(plan, uri)
    files = make_report(plan, uri, formats, runs_dir / "reports", results=results)
    tracker = commands.make_tracker(plan, runs_dir, uri)
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


for verb in (commands.list_studies, commands.plan, run, report, commands.ui, commands.schema):
    cli.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's error is a sentence, never a traceback."""
    run_guarded(lambda: cli.main(arguments, standalone_mode=False))


if __name__ == "__main__":
    main()
