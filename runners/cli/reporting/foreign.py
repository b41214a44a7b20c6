"""Writes the reports on results that were measured elsewhere, and prints where the files are.

It imports pandas and more, so the verb imports it only when it writes.
"""

from __future__ import annotations

from pathlib import Path

from ablations.vocabulary import slug
from reports.content.file_names import Destination
from reports.render import FORMATS
from runners.api.maker import running_code
from runners.cli.options.report import ReportOptions, print_files
from runners.console.terminal import console
from runners.importing import without_collection

with without_collection():
    from reports.collect.foreign.source import default_name, kind_of
    from reports.foreign.make import ForeignRequest, make_foreign_report
    from reports.render.terminal import on_terminal


def write_foreign_report(request: ForeignRequest, options: ReportOptions, *, brief: bool) -> None:
    """Write the report on foreign results; print its tables and where its files are."""
    target = Destination.of(options.output, _folder(request), FORMATS)
    report, files = make_foreign_report(
        request, options.renderers, target.folder, running_code(), stem=target.stem, brief=brief
    )
    for printed in on_terminal(report.document):
        console().print(printed)
    print_files("report", files)


def _folder(request: ForeignRequest) -> Path:
    """Return the folder beside the study file, or beside the results, that holds the report by default."""
    if request.study_file is not None:
        return request.study_file.with_name(f"{request.study_file.stem}-report")
    name = f"{slug(default_name(request.address))}-report"
    if kind_of(request.address) == "csv":
        return Path(request.address).expanduser().with_name(name)
    # An experiment lies nowhere: its report goes into the current folder.
    return Path(name)
