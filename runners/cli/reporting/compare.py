"""Defines the verb `compare`, which holds two studies, or two sides of one, against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations.errors import OptionError
from ablations.planning.request import Request, make_request
from runners.api.selection import Selection
from runners.cli.completion import candidates
from runners.cli.options.foreign import ForeignOptions, foreign_options
from runners.cli.options.groups import Option, examples, grouped
from runners.cli.options.report import ReportOptions, print_files, report_options
from runners.cli.options.selection import SELECTION_OPTIONS, selection_options
from runners.console.terminal import console

if TYPE_CHECKING:
    from reports.compare import SideRequest


@dataclass(frozen=True)
class SideOptions:
    """The options of one side of a comparison, which win over those for both."""

    uri: str | None
    preset: str | None
    overrides: tuple[str, ...]
    tuned_from: Path | None
    results: str | None

    def request(self, selection: Selection) -> Request:
        """Return the request for this side; `selection` has the options for both."""
        preset, overrides = self.preset or selection.preset, (*selection.overrides, *self.overrides)
        request = make_request(preset, overrides, selection.seeds, tuned_from=self.tuned_from)
        if request.sweeps:
            raise OptionError("a side has one value of each setting: sweeps are for plan, run and what follows a run.")
        return request


def _side_options(side: str) -> Option:
    """Return a decorator that adds the options of a side and hands a verb its `left_options` or `right_options`."""
    return grouped(
        f"{side}_options",
        SideOptions,
        click.option(f"--{side}-uri", metavar="URI", help=f"Tracking store or runs folder of the {side}."),
        click.option(
            f"--{side}-results",
            metavar="SOURCE",
            help=f"Results from elsewhere on the {side}: CSV or mlflow:URI/EXPERIMENT.",
        ),
        click.option(
            f"--{side}-preset", metavar="PRESET", shell_complete=candidates.presets, help=f"Preset of the {side}."
        ),
        click.option(
            f"--{side}-set",
            f"{side}_overrides",
            multiple=True,
            metavar="KEY=VALUE",
            shell_complete=candidates.overrides,
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
        "compare study.yaml --left-results before.csv --right-results after.csv",
    )
)
@click.argument("left", required=False, shell_complete=candidates.studies)
@click.argument("right", required=False, shell_complete=candidates.studies)
@SELECTION_OPTIONS["preset"]
@SELECTION_OPTIONS["overrides"]
@_side_options("left")
@_side_options("right")
@SELECTION_OPTIONS["seeds"]
@click.option(
    "--match", "matched", multiple=True, metavar="LEFT=RIGHT", help="Hold one row against another. Repeatable."
)
@foreign_options(with_results=False)
@selection_options("runs_dir", "plugins")
@report_options(default="", text="Report formats beside the table here, separated by commas.")
def compare(
    left_options: SideOptions,
    right_options: SideOptions,
    selection: Selection,
    report: ReportOptions,
    foreign: ForeignOptions,
    *,
    left: str | None,
    right: str | None,
    matched: tuple[str, ...],
) -> None:
    """Hold two studies, or two sides of one, against each other.

    Two sides of one study are two commits (STUDY@COMMIT), data sets, settings or tracking servers. Each row's mean on
    both sides, the difference with its interval, and what else is not the same. A side may be results from elsewhere; a
    study file then says what they are.
    """
    if foreign.is_given and left_options.results is None and right_options.results is None:
        raise click.UsageError("--reference and the like are about --left-results and --right-results: which?")
    selection.load_plugins()
    target = report.destination(selection.runs_dir)
    from reports.compare import compare_sides

    tables, files = compare_sides(
        _side(left, left_options, selection, foreign),
        _side(left if right is None else right, right_options, selection, foreign),
        report.renderers,
        target.folder,
        matched=matched,
        stem=target.stem,
    )
    for table in tables:
        console().print(table)
    print_files("comparison", files)


def _side(name: str | None, options: SideOptions, selection: Selection, foreign: ForeignOptions) -> SideRequest:
    """Return the request for a side.

    Raises:
        UsageError: If no study is named, and there are no results from elsewhere.
        OptionError: If the options of the side do not fit each other.
    """
    from reports.compare import comparison_request

    if options.results is not None:
        if options.uri or options.preset or options.overrides or options.tuned_from:
            raise OptionError("results from elsewhere have no store, preset or settings on their side. Leave them out.")
        return foreign.request(options.results, () if name is None else (name,))
    if name is None:
        raise click.UsageError("Missing argument 'LEFT': a study, or --left-results and --right-results.")
    return comparison_request(name, options.uri or selection.tracking_uri, options.request(selection))
