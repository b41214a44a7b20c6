"""Defines the verbs `report`, `verify` and `compare`. They read the tracking store, and no launch is begun."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations.errors import OptionError
from ablations.invocation import complete_invocation
from ablations.planning.plan import Plan
from ablations.planning.request import Request, make_request
from ablations.registry import study_name
from ablations.visible import visible
from reports.content.file_names import Destination
from reports.render import FORMATS
from runners.cli.bundles.options import RetrainOptions, retrain_options
from runners.cli.options.frozen import FrozenOptions, frozen_options
from runners.cli.options.groups import Option, examples, grouped
from runners.cli.options.report import ReportOptions, print_files, report_options
from runners.cli.options.selection import SELECTION_OPTIONS, Selection, selection_options
from runners.cli.plans import as_last_time, find_plan, last_selection
from runners.console.terminal import console, print_lines
from runners.provenance import project_commit
from runners.upkeep.damages import damages_of

if TYPE_CHECKING:
    from reports.evidence.manifest import Maker


def maker() -> Maker:
    """Return the commit of the running code, for a report's manifest."""
    from reports.evidence.manifest import Maker

    commit = project_commit()
    return Maker(commit.sha, commit.dirty)


@click.command(
    epilog=examples(
        "report aggregation --format pdf,html,tex",
        "report temperature --preset small",
        "report paper.zip --format html",
    )
)
@selection_options()
@report_options()
@frozen_options
def report(selection: Selection, report: ReportOptions, frozen: FrozenOptions) -> None:
    """Write the report of what has been tracked; without studies, of the last run.

    Without --preset, --set and --seeds, with those of the last run, or else of the newest report of the first study.
    A bundle in place of studies is made into its report again, in a folder beside it.
    """
    if len(selection.studies) == 1 and _is_bundle(selection.studies[0]):
        _report_again(Path(selection.studies[0]), selection, report, frozen)
        return
    selection, plan = as_reported(frozen.completed(selection))
    print_lines(damages_of(selection.runs_dir, [node.fingerprint for node in plan.nodes]))
    from runners.cli.write_report import write_report

    write_report(plan, selection.runs_dir, selection.tracking_uri, report, frozen=frozen.plans(plan, selection))


def _is_bundle(name: str) -> bool:
    return name.lower().endswith(".zip")


def _report_again(path: Path, selection: Selection, report: ReportOptions, frozen: FrozenOptions) -> None:
    """Write the report in a bundle again.

    Raises:
        OptionError: If options say what the bundle itself says.
    """
    bare = Selection(selection.studies, runs_dir=selection.runs_dir, plugins=selection.plugins)
    if selection != bare or frozen.frozen is not None:
        raise OptionError(
            f"{path} is a bundle, which says itself what was asked. Leave out all options but --format, --output and "
            "--plugin."
        )
    selection.load_plugins()
    from reports.bundles.remaking import remake_report

    # Not into the runs folder, which may have a report of that name, and not over the bundle's neighbours.
    target = Destination.of(report.output, path.with_suffix(""), FORMATS)
    print_files("report", remake_report(path, report.renderers, target.folder, maker(), stem=target.stem))


def as_reported(selection: Selection) -> tuple[Selection, Plan]:
    """Return a selection completed by the last run or the newest report, as `report` means it, and its plan.

    Plug-ins are loaded on the way.
    """
    runs_dir, uri, is_scaled = selection.runs_dir, selection.tracking_uri, selection.is_scaled
    previous = last_selection(runs_dir)
    # Studies of the last run without a preset mean that run; other studies mean their own newest report.
    is_last_run = not selection.all_studies and set(selection.studies) <= set(previous.studies)
    if is_last_run:
        selection = as_last_time(selection, previous)
    selection.load_plugins()
    # Imported only here, as MLflow comes with it, which `verify` of a bundle must do without.
    from runners.tracking import prepare_store

    # Before the newest report is looked up in it.
    prepare_store(uri)
    if not is_scaled and not is_last_run:
        selection = as_last_report(selection)
    complete_invocation(**selection.as_options())
    plan = find_plan(selection)
    if selection.until_decided and not selection.seeds_by_study:
        plan = _as_last_looked_at(plan, selection)
    return selection, plan


def _as_last_looked_at(plan: Plan, selection: Selection) -> Plan:
    """Return a plan with a stopping rule with the seeds that its studies had in their last report under that rule."""
    from reports.collect.summary_runs import seeds_at_last_look

    seeds = seeds_at_last_look(plan, selection.tracking_uri)
    return find_plan(replace(selection, seeds_by_study=seeds))


def as_last_report(selection: Selection) -> Selection:
    """Return a selection at the scale of the newest tracked summary of its first study, if there is one."""
    from reports.collect.summary_runs import latest_request

    if not selection.studies:
        return selection
    tracked = latest_request(study_name(selection.studies[0]), selection.tracking_uri)
    if tracked is None:
        return selection
    # As JSON, which the parser of `--set` reads back as the same value and type.
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in tracked["overrides"].items())
    tuned_from = selection.tuned_from
    if tuned_from is None and not selection.tuned:
        tuned_from = tracked["tuned_from"]
    return replace(
        selection,
        preset=tracked["preset"],
        overrides=overrides,
        seeds=tracked["seeds"],
        # What was asked for on the command line is kept; the rest is that of the report.
        canary=selection.canary or tracked["canary"],
        tuned_from=tuned_from,
        until_decided=selection.until_decided or tracked["max_seeds"] is not None,
        max_seeds=selection.max_seeds or tracked["max_seeds"],
    )


@click.command(
    epilog=examples(
        "verify runs/reports/aggregation.pdf",
        "verify report.html --tracking-uri http://127.0.0.1:5000",
        "verify paper.zip --retrain 2 --draw 'a word of mine'",
    )
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--tracking-uri", "uri", help="The store with its runs (default: MLFLOW_TRACKING_URI, or that of --runs-dir)."
)
@selection_options("runs_dir", "plugins")
@retrain_options
def verify(selection: Selection, retraining: RetrainOptions, *, file: Path, uri: str | None) -> None:
    """Compute every number of a report again from its tracked runs, and name each that differs.

    The PDF and the HTML page carry a manifest of their runs; a bundle (`bundle`) holds the runs themselves, and each of
    its bytes is checked. Exit code 1 says that something differs.
    """
    plugins = selection.load_plugins()
    store = uri or selection.tracking_uri
    from reports.bundles.checking import verify_file

    outcome = verify_file(file, store, maker())
    # A report may come from a stranger: a name in it must not be able to begin a line of its own.
    print_lines(visible(line, lines=False) for line in outcome.lines())
    count = len(outcome.differences)
    # A bundle that was changed says nothing of what was measured.
    if retraining.retrain and outcome.is_readable:
        from runners.cli.bundles.retrain import retrain

        count += retrain(file, store, retraining, plugins)
    sys.exit(1 if count else 0)


@dataclass(frozen=True)
class SideOptions:
    """The options of one side of a comparison, which win over those for both."""

    uri: str | None
    preset: str | None
    overrides: tuple[str, ...]
    tuned_from: Path | None

    def request(self, selection: Selection) -> Request:
        """Return the request for this side; `selection` has the options for both."""
        preset, overrides = self.preset or selection.preset, (*selection.overrides, *self.overrides)
        return make_request(preset, overrides, selection.seeds, tuned_from=self.tuned_from)


def _side_options(side: str) -> Option:
    """Return a decorator that adds the options of a side and hands a verb its `left_options` or `right_options`."""
    return grouped(
        f"{side}_options",
        SideOptions,
        click.option(f"--{side}-uri", metavar="URI", help=f"Tracking store or runs folder of the {side}."),
        click.option(f"--{side}-preset", metavar="PRESET", help=f"Preset of the {side}."),
        click.option(
            f"--{side}-set",
            f"{side}_overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help=f"Change a setting of the {side}.",
        ),
        click.option(
            f"--{side}-tuned-from",
            type=click.Path(exists=True, path_type=Path),
            metavar="PLACE",
            help=f"The {side} as trained with the tuned values in this file or folder.",
        ),
        prefix=f"{side}_",
    )


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
@SELECTION_OPTIONS["preset"]
@SELECTION_OPTIONS["overrides"]
@_side_options("left")
@_side_options("right")
@SELECTION_OPTIONS["seeds"]
@click.option(
    "--match", "matched", multiple=True, metavar="LEFT=RIGHT", help="Hold one row against another. Repeatable."
)
@selection_options("runs_dir", "plugins")
@report_options(default="", text="Report formats beside the table here, separated by commas.")
def compare(
    left_options: SideOptions,
    right_options: SideOptions,
    selection: Selection,
    report: ReportOptions,
    *,
    left: str,
    right: str | None,
    matched: tuple[str, ...],
) -> None:
    """Two studies side by side, or one on two commits (STUDY@COMMIT), data sets, settings or tracking servers.

    Each row's mean on both sides, the difference with its interval, and what else is not the same.
    """
    selection.load_plugins()
    left_request, right_request = left_options.request(selection), right_options.request(selection)
    uri, target = selection.tracking_uri, report.destination(selection.runs_dir)
    from reports.compare import compare_sides, comparison_request

    tables, files = compare_sides(
        comparison_request(left, left_options.uri or uri, left_request),
        comparison_request(left if right is None else right, right_options.uri or uri, right_request),
        report.renderers,
        target.folder,
        matched=matched,
        stem=target.stem,
    )
    for table in tables:
        console().print(table)
    print_files("comparison", files)
