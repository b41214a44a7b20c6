"""Defines the verb `bundle`, which packs a report and all that it rests on into one file."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import click

from reports.render import parse_formats
from runners.cli.options.frozen import FrozenOptions, frozen_options
from runners.cli.options.groups import GivenPath, examples, grouped
from runners.cli.options.report import ALL_FORMATS
from runners.cli.options.selection import Selection, selection_options
from runners.cli.report import as_reported, maker
from runners.console.terminal import print_lines
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
    """Pack a report, its runs and all else that a reader needs to check it into one file, without weights.

    The report is that of the same options of `report`. `verify` checks the file without a tracking store.
    """
    selection, plan = as_reported(frozen.completed(selection))
    runs_dir, uri = selection.runs_dir, selection.tracking_uri
    # Imported only now, as pandas and more come with it.
    from reports.bundles.packing import pack_report
    from reports.collect.runs import collect
    from reports.render.files import ensure_folder, write_atomically
    from runners.cli.write_report import with_protocol

    # Whoever packs a report may read it, so that this is a look at the results, too.
    results = with_protocol(collect(plan, uri), plan, runs_dir, frozen.plans(plan, selection))
    words = (str(Path.home()), str(runs_dir.absolute()), socket.gethostname())
    packed = pack_report(plan, uri, parse_formats(options.formats), maker(), words, results=results)
    path = options.path(runs_dir, packed.stem)
    ensure_folder(path.parent)
    write_atomically(path, packed.content)
    size = len(packed.content) / 1e6
    lines = [f"bundle: {path} ({size:.1f} MB, {packed.files} files, {packed.runs} runs)", f"sha256: {packed.sha256}"]
    for line in packed.revealing:
        lines.append(f"note: {line}. Whoever gets the bundle can read it.")
    print_lines(lines)
