"""Defines the verb `compare`, which holds two studies, or two sides of one, against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from ablations.planning.request import Request, make_request
from runners.cli.options.groups import Option, examples, grouped
from runners.cli.options.report import ReportOptions, print_files, report_options
from runners.cli.options.selection import SELECTION_OPTIONS, Selection, selection_options
from runners.console.terminal import console


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
