"""Defines the options of verbs that write a report: its formats and where its files go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from reports.content.file_names import Destination
from reports.render import FORMATS, parse_formats
from runners.cli.completion import candidates
from runners.cli.options.groups import GivenPath, Option, grouped
from runners.console.terminal import console
from runners.state.layout import RunsFolder

ALL_FORMATS = "pdf,html,md,tex"


@dataclass(frozen=True)
class ReportOptions:
    """The values of `report_options`.

    Attributes:
        formats: Names of renderers, as they were given.
        output: A folder, or a file of which each format has its own ending; `None` for the runs folder.

    Raises:
        UnknownNameError: If there is no such format.
    """

    formats: str
    output: Path | None

    def __post_init__(self) -> None:
        # A typo is refused here, before anything is trained.
        parse_formats(self.formats)

    @property
    def renderers(self) -> tuple[str, ...]:
        """The names of renderers."""
        return parse_formats(self.formats)

    def destination(self, runs_dir: Path) -> Destination:
        """Return the folder and the stem of the files."""
        return Destination.of(self.output, RunsFolder(runs_dir).reports, FORMATS)


_FORMATS_HELP = f"Report formats, separated by commas: {', '.join(FORMATS)}."


def report_options(default: str = ALL_FORMATS, text: str = _FORMATS_HELP) -> Option:
    """Return a decorator that adds the options of a report and hands a verb its `report: ReportOptions`.

    Args:
        default: The formats without `--format`.
        text: The help of `--format`.
    """
    return grouped(
        "report",
        ReportOptions,
        click.option(
            "--format",
            "formats",
            default=default,
            show_default=bool(default),
            shell_complete=candidates.listed(*FORMATS),
            help=text,
        ),
        click.option(
            "--output",
            type=GivenPath(file_okay=True),
            metavar="PATH",
            help="Write the report there: into a folder (one that exists, or ends with a slash), or to files of that "
            "name, each with its format's ending.",
        ),
    )


def print_files(title: str, files: Mapping[str, Path]) -> None:
    """Print the path of each file with its format."""
    for name, path in files.items():
        console().print(f"{title} ({name}): {path}", soft_wrap=True)
