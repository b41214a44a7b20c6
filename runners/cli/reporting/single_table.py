"""Writes or prints a single table of a report, for the verb `report --table`.

It imports pandas, MLflow and more, so the verb imports it only when it works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.text import Text

from ablations.errors import OptionError
from ablations.registry import available_studies
from ablations.study import Study
from reports.content.blocks import Document
from reports.content.file_names import Destination
from reports.content.formatting import printable
from reports.render import FORMATS, TABLE_FORMATS
from runners.api.maker import running_code
from runners.api.reporting import with_protocol
from runners.api.selection import Selection
from runners.cli.options.frozen import FrozenOptions
from runners.cli.options.report import ReportOptions, print_files
from runners.cli.options.table import TableOptions
from runners.cli.reporting.scale import as_reported
from runners.console.terminal import console
from runners.importing import without_collection

with without_collection():
    from reports.bundles.remaking import remade_document
    from reports.collect.runs import collect
    from reports.evidence.manifest import made_by
    from reports.foreign.make import ForeignRequest, compute_foreign
    from reports.make import study_document
    from reports.render.files import document_path, ensure_folder, write_atomically
    from reports.render.one_table import table_text
    from reports.render.terminal import table_on_terminal
    from reports.tables.export.choice import choose

Reported = tuple[Document, tuple[Study, ...]]
"""A report, and the studies that it is about."""


def tracked_report(selection: Selection, frozen: FrozenOptions, table: str) -> Reported:
    """Return the report on what has been tracked. Reading it is a look at the results, which is recorded.

    Without studies, it is about the study whose table is wanted.
    """
    if not selection.studies and not selection.all_studies and table in available_studies():
        selection = replace(selection, studies=(table,))
    selection, plan = as_reported(frozen.completed(selection))
    results = collect(plan, selection.tracking_uri)
    results = with_protocol(results, plan, selection.runs_dir, frozen.plans(plan, selection))
    return study_document(plan, results), tuple(plan.studies)


def bundled_report(path: Path) -> Reported:
    """Return the report in a bundle."""
    document, plan = remade_document(path)
    return document, tuple(plan.studies)


def foreign_report(request: ForeignRequest) -> Reported:
    """Return the report on results that were measured elsewhere."""
    report = compute_foreign(*request.read(), made_by(running_code()))
    return report.document, (report.study,)


def table_formats(options: ReportOptions, *, is_given: bool) -> tuple[str, ...]:
    """Return the formats of a single table: those of `--format`, if it was given, or that of the file's ending.

    Raises:
        OptionError: If a table cannot be had in one, or there are several and no file.
    """
    formats: Sequence[str] = options.renderers if is_given else ()
    if not formats and options.output is not None:
        ending = options.output.suffix.removeprefix(".")
        formats = (ending,) if ending in FORMATS else ("tex",)
    for name in formats:
        if name not in TABLE_FORMATS:
            raise OptionError(f"a single table is made as {', '.join(TABLE_FORMATS)}, not as {name}.")
    if options.output is None and len(formats) > 1:
        raise OptionError("several formats of a table need --output, as one is printed. Name a folder or a file.")
    return tuple(formats)


def write_table(reported: Reported, table: TableOptions, output: Path | None, formats: Iterable[str]) -> None:
    """Print the chosen table, as a terminal shows it without a format, or write it to files and print their paths."""
    document, studies = reported
    choice = table.choice()
    chosen = choose(document, studies, choice)
    if output is None:
        text = "".join(table_text(chosen, choice.name, name) for name in formats)
        if text:
            click.echo(text, nl=False)
            return
        console().print(Text(printable(chosen.caption)))
        for printed in table_on_terminal(chosen):
            console().print(printed)
        return
    target = Destination.of(output, Path(), FORMATS)
    files = {}
    for name in formats:
        path = document_path(ensure_folder(target.folder), target.stem or choice.name, name)
        files[name] = write_atomically(path, table_text(chosen, choice.name, name).encode("utf-8", "replace"))
    print_files("table", files)
