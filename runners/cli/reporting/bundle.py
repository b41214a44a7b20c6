"""Defines the verb `bundle`, which packs a report and all that it rests on into one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from reports.render import parse_formats
from runners.api.selection import Selection
from runners.cli.options.frozen import FrozenOptions, frozen_options
from runners.cli.options.groups import GivenPath, examples, grouped
from runners.cli.options.report import ALL_FORMATS
from runners.cli.options.selection import selection_options
from runners.state.layout import RunsFolder

_ENDING = ".zip"


@dataclass(frozen=True)
class BundleOptions:
    """The values of `bundle_options`: the report's formats, and the file; `None` for one named after the request.

    Raises:
        UnknownNameError: If there is no such format.
        UsageError: If the file has another ending than that of a zip.
    """

    formats: str
    output: Path | None

    def __post_init__(self) -> None:
        # A wrong name is an error before minutes are spent on the report.
        parse_formats(self.formats)
        # By its ending `report`, `compare` and other programs know what it is.
        if self.output is not None and not self.output.is_dir() and self.output.suffix.lower() != _ENDING:
            raise click.UsageError(f"--output {self.output}: a bundle ends in {_ENDING}.")

    def path(self, runs_dir: Path, stem: str) -> Path:
        """Return the file to write: the one that was named, or `<stem>.zip` in that folder or among the reports."""
        if self.output is not None and not self.output.is_dir():
            return self.output
        folder = self.output or RunsFolder(runs_dir).reports
        return folder / f"{stem}{_ENDING}"


bundle_options = grouped(
    "options",
    BundleOptions,
    click.option(
        "--format", "formats", default=ALL_FORMATS, show_default=True, help="Formats of the report, with pdf or html."
    ),
    click.option(
        "--output",
        type=GivenPath(file_okay=True),
        metavar="FILE",
        help="The file, which ends in .zip, or a folder (default: reports/ in the runs folder).",
    ),
)


@click.command(
    epilog=examples("bundle aggregation temperature", "bundle temperature --preset small --output paper.zip")
)
@selection_options()
@bundle_options
@frozen_options
def bundle(selection: Selection, options: BundleOptions, frozen: FrozenOptions) -> None:
    """Pack a report and its runs into one file to be checked.

    The file has all that a reader needs to check it, without weights. The report is that of the same options of
    `report`. `verify` checks the file without a tracking store.
    """
    # pandas, MLflow and more come with it, for which `bundle --help` shall not wait.
    from runners.cli.reporting.packing import pack

    pack(selection, frozen, parse_formats(options.formats), options.path)
