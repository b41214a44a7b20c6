"""This module shows a document's facts and tables on a terminal, for a look before a file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from reports.content.blocks import Block, Document, Facts, Paragraph, Table
from reports.content.formatting import printable, set_rows

_JUSTIFY: dict[str, Any] = {"number": "right", "interval": "right", "mark": "center"}
_TONES = {"caveat": "yellow", "alarm": "bold red"}


def on_terminal(document: Document) -> Iterator[Any]:
    """Yield the objects that `rich` prints: the summary, and the tables of each section, without the appendix."""
    yield Text(printable(document.title), style="bold")
    yield Text(printable(document.subtitle), style="dim")
    for block in document.summary:
        yield from _block(block)
    for section in document.sections:
        for block in section.blocks:
            yield from _block(block)


@singledispatch
def _block(block: Block) -> Iterator[Any]:
    # Figures and lists are for the files.
    return iter(())


@_block.register
def _facts(block: Facts) -> Iterator[Any]:
    for name, value in block.items:
        yield Text.assemble((f"{printable(name)}: ", "dim"), printable(value))


@_block.register
def _paragraph(block: Paragraph) -> Iterator[Any]:
    lead = f"{printable(block.lead)}. " if block.lead else ""
    yield Text.assemble((lead, _TONES.get(block.role, "bold")), printable(block.text))


@_block.register
def _table(block: Table) -> Iterator[Any]:
    return table_on_terminal(block)


def table_on_terminal(block: Table) -> Iterator[Any]:
    """Yield the objects that `rich` prints of a table: its grid and its notes."""
    yield _grid(block)
    for note in block.notes:
        mark = f"{note.mark} " if note.mark else ""
        yield Text(f"{mark}{printable(note.text)}", style="dim")


def _grid(table: Table) -> Grid:
    grid = Grid(title=Text(printable(table.title), style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        heading = column.heading
        if column.group:
            heading = f"{column.group}\n{heading}"
        grid.add_column(Text(heading), justify=_JUSTIFY.get(column.kind, "left"), overflow="fold")
    for row in set_rows(table):
        grid.add_row(*(Text(cell.text + ",".join(cell.marks)) for cell in row))
    return grid
