"""Defines the verbs `report`, `verify` and `compare`. They read the tracking store and launch nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ablations.invocation import complete_invocation
from ablations.visible import visible
from runners.cli import inputs
from runners.cli.inputs import tell_damages
from runners.cli.options import (
    all_option,
    canary_option,
    examples,
    format_option,
    output_option,
    plugin_option,
    preset_option,
    runs_option,
    seeds_option,
    set_option,
    side_options,
    tuned_options,
)
from runners.cli.write_report import destination, maker, parse_formats, say, write_report
from runners.console.terminal import console


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

    renderers = parse_formats(formats)
    uri, last_options = inputs.tracking_uri(runs_dir), last_run(runs_dir)
    is_scaled = asked["preset"] or asked["overrides"] or asked["seeds"]
    was_last = not asked["all_studies"] and set(studies) <= set(last_options.get("studies", ()))
    # Studies of the last run without a preset mean that run; other studies mean their own newest report.
    if was_last or not (studies or asked["all_studies"]):
        studies, plugins, asked = as_last_time(studies, plugins, asked, last_options)
    inputs.load_plugins(plugins)
    # Before the newest report is looked up in it.
    prepare_store(uri)
    if not is_scaled and not was_last:
        asked |= last_request(studies, uri, asked)
    complete_invocation(studies=studies, plugins=plugins, **asked)
    plan = inputs.find_plan(studies, runs_dir, **asked)
    tell_damages(plan, runs_dir)
    write_report(plan, runs_dir, uri, renderers, output=output)


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
    outcome = compute_again(file, uri or inputs.tracking_uri(runs_dir), maker())
    for line in outcome.lines():
        # A report may come from a stranger: a name in it must not be able to begin a line of its own.
        console().print(visible(line, lines=False), markup=False, soft_wrap=True)
    sys.exit(1 if outcome.differences else 0)


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
    renderers = parse_formats(formats)
    target = destination(output, runs_dir)
    uri = inputs.tracking_uri(runs_dir)
    tables, files = compare_sides(left, right, uri, renderers, target.folder, stem=target.stem, **asked)
    for table in tables:
        console().print(table)
    say("comparison", files)


def last_request(studies: Sequence[str], uri: str, now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the newest tracked summary of the first named study, combined with those given now.

    Empty if there is no such summary.
    """
    from ablations.registry import study_name
    from reports.collect.summary_runs import latest_request

    tracked = latest_request(study_name(studies[0]), uri) if studies else None
    if tracked is None:
        return {}
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in tracked["overrides"].items())
    options = {"preset": tracked["preset"], "overrides": overrides, "seeds": tracked["seeds"]}
    tuned_from = now["tuned_from"] or (None if now["tuned"] else tracked["tuned_from"])
    return options | {"canary": now["canary"] or tracked["canary"], "tuned_from": tuned_from}
