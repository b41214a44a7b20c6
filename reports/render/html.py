"""This module writes a document as one HTML page that needs no other file: style, script, figures and data are in it.

The page is made of Jinja templates, which escape every name. Its policy allows no request and no script but its own, so
that no name could do anything even if it were markup.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.content.blocks import Attachment, Block, Column, Document, Figure, Interval, Number, Table, TableCell, Text
from reports.content.formatting import SetCell, closed, printable, set_rows
from reports.evidence.contents import data_csv
from reports.render.files import document_path, ensure_folder, write_atomically
from reports.render.inline_svg import inline_svg
from reports.render.table_layout import is_dense, is_long, spans, wrapping

_CLASSES = {"number": "n", "interval": "i", "mark": "m", "code": "c", "text": ""}
_SHOWN_ROWS = 500
"""Rows of a figure's data that are shown; all of them are in the file that can be saved."""


def render_html(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.html`; equal documents give equal bytes."""
    ensure_folder(folder)
    return write_atomically(document_path(folder, stem, "html"), html_text(document).encode("utf-8", "replace"))


def html_text(document: Document) -> str:
    """Return the document as a page."""
    style, script = _source("report.css"), _source("report.js")
    page = _environment().get_template("page.html")
    return page.render(document=document, style=style, script=script, policy=_policy(script), next_id=_numbering())


def table_html(table: Table) -> str:
    """Return a table as plain HTML without a style, for a page of somebody else."""
    rows = set_rows(table)
    return _environment().get_template("plain_table.html").render(block=table, rows=rows)


@functools.cache
def _environment() -> Environment:
    """Return the templates, in which every value is escaped and a misspelt name is an error."""
    environment = Environment(
        loader=PackageLoader("reports.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(closed=closed, printable=printable)
    environment.tests.update(finite=math.isfinite, long=is_long, dense=is_dense)
    environment.globals.update(
        csv_link=_csv_link,
        heading_class=_heading_class,
        inline_svg=inline_svg,
        rows_of=_rows,
        script_data=_script_data,
        shown_rows=_SHOWN_ROWS,
        spans=spans,
        template_of=_template_of,
    )
    return environment


def _source(name: str) -> Markup:
    # Our own file: style and script stand on the page as they are.
    return Markup(resources.files("reports.render").joinpath(f"templates/{name}").read_text(encoding="utf-8"))


def _policy(script: str) -> str:
    # The policy names the one script by its hash: any other script on the page does not run.
    sha = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{sha}'; base-uri 'none'"


def _numbering() -> Callable[[str], str]:
    """Return a function that gives the next id that begins with a letter: `f1`, `f2`, `t1`."""
    # A block that a document shows twice has two ids: ids follow the places on the page.
    counters = {"f": itertools.count(1), "t": itertools.count(1)}
    return lambda letter: f"{letter}{next(counters[letter])}"


def _template_of(block: Block) -> str:
    return f"{type(block).__name__.lower()}.html"


def _script_data(attachment: Attachment) -> Markup:
    """Return the content of an attachment for a script element, in which nothing is escaped and nothing may end it."""
    content = attachment.content
    if attachment.media_type == "application/json":
        # The same JSON: a sign below may only stand in a string, where this is another way to write it.
        content = content.replace("<", "\\u003c")
    # Within a script element nothing but its end tag and the start of a comment has a meaning.
    if "</" in content or "<!--" in content:
        return escape(content)
    return Markup(content)


def _csv_link(figure: Figure) -> str:
    return f"data:text/csv;charset=utf-8,{quote(data_csv(figure), errors='replace')}"


def _heading_class(column: Column) -> str | None:
    # Headings of code are words.
    return _CLASSES[column.kind].replace("c", "") or None


@dataclass(frozen=True)
class _Cell:
    """A cell as the template reads it; one that repeats the cell above is seen only once the table is sorted."""

    content: SetCell
    attributes: dict[str, str | float | None]
    is_repeated: bool


@dataclass(frozen=True)
class _Row:
    """A row as the template reads it."""

    cells: tuple[_Cell, ...]
    has_rule: bool


def _rows(table: Table) -> Iterator[_Row]:
    wraps = wrapping(table)
    # What stands above in each column, for cells that are left empty because they would repeat it.
    above: list[SetCell | None] = [None] * len(table.columns)
    for number, (row, set_row) in enumerate(zip(table.rows, set_rows(table), strict=True)):
        cells = []
        for index, (cell, content) in enumerate(zip(row, set_row, strict=True)):
            is_repeated = False
            if _is_left_out(table, cell, index):
                is_repeated = above[index] is not None
                content = above[index] or content
            else:
                above[index] = content
            attributes = {
                "scope": "row" if index == 0 else None,
                "class": _cell_class(table.columns[index], content, wraps[index] and index > 0, is_repeated),
                "data-value": _value(cell),
            }
            cells.append(_Cell(content, attributes, is_repeated))
        yield _Row(tuple(cells), number in table.rules)


def _is_left_out(table: Table, cell: TableCell, index: int) -> bool:
    """Return True if a cell is empty because it repeats the one above: a row's label, or a word of a group of rows."""
    is_listed = table.columns[index].kind in ("text", "code") and (index == 0 or bool(table.rules))
    return is_listed and isinstance(cell, Text) and not cell.text


def _cell_class(column: Column, content: SetCell, wraps: bool, is_repeated: bool) -> str | None:
    names = [_CLASSES[column.kind]]
    if wraps:
        names.append("wraps")
    if content.missing:
        names.append("missing")
    names.append(content.tone)
    if is_repeated:
        names.append("again")
    return " ".join(filter(None, names)) or None


def _value(cell: TableCell) -> float | None:
    """Return the number by which a column is sorted."""
    if isinstance(cell, Number | Interval) and math.isfinite(cell.value):
        return cell.value
    return None
