"""This module writes files whole or not at all, inside the output folder, with one error for all that can go wrong."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ablations.atomic import write_bytes
from ablations.errors import OutputError
from ablations.vocabulary import slug
from reports.content.blocks import Cell, Document, Table, Text
from reports.figures.drawing import ImageFormat, draw

FIGURES = "figures"


def ensure_folder(folder: Path) -> Path:
    """Create a folder and check that files can be made in it.

    Raises:
        OutputError: If the folder cannot be made, or no file in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise _explained(folder, error) from None


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all and return its path.

    Raises:
        OutputError: If it cannot be written; the old file, if any, is untouched.
    """
    try:
        write_bytes(path, content)
    except OSError as error:
        raise _explained(path, error) from None
    return path


def _explained(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}. Choose another folder or free it.")


def document_path(folder: Path, stem: str, ending: str) -> Path:
    """Return the path of a document; no `stem` leads out of the folder."""
    return folder / f"{slug(stem)}.{ending}"


def write_figures(document: Document, folder: Path, stem: str, image_format: ImageFormat) -> dict[str, Path]:
    """Draw the figures of a document into `folder/figures` and return their paths by name.

    Raises:
        OutputError: If one cannot be written.
    """
    if not document.figures:
        return {}
    ensure_folder(folder / FIGURES)
    paths = {}
    for figure in document.figures:
        # Figures of several reports share a folder: the report's name keeps theirs apart.
        prefix = "" if figure.name.startswith(f"{slug(stem)}-") else f"{slug(stem)}-"
        file = f"{prefix}{slug(figure.name)}.{image_format}"
        paths[figure.name] = write_atomically(folder / FIGURES / file, draw(figure, image_format))
    return paths


def write_attachments(document: Document, folder: Path, stem: str) -> dict[str, Path]:
    """Write the files that lie beside a document and return them by their ending.

    Raises:
        OutputError: If one cannot be written.
    """
    written = {}
    for attachment in document.attachments:
        name, _, ending = attachment.name.rpartition(".")
        if attachment.beside:
            path = document_path(folder, f"{slug(stem)}-{name}", ending)
            written[ending] = write_atomically(path, attachment.content.encode("utf-8"))
    return written


def relative(path: Path) -> str:
    """Return the path of a figure relative to the folder of its document."""
    return f"{FIGURES}/{path.name}"


_LONG_TEXT = 40
_LONG_TABLE = 28


@dataclass(frozen=True)
class Span:
    """A heading over the columns from `start` to before `end`; without text it is a gap."""

    text: str
    start: int
    end: int


def spans(table: Table) -> tuple[Span, ...]:
    """Return the group headings of a table from left to right, gaps included; none if no column has a group."""
    headings, start = [], 0
    # Neighbours of one group share a heading; the same group further right has one of its own.
    for group, columns in groupby(table.columns, key=lambda column: column.group):
        end = start + len(list(columns))
        headings.append(Span(group, start, end))
        start = end
    return tuple(headings) if any(span.text for span in headings) else ()


def is_long(table: Table) -> bool:
    """Return True if a table has to run over several pages, in small print."""
    return len(table.rows) > _LONG_TABLE


def has_numbers(table: Table) -> bool:
    """Return True if a table is about numbers and stays in one piece, rather than a list whose text may wrap freely."""
    kinds = [column.kind for column in table.columns]
    return "interval" in kinds or kinds.count("number") > 1


def wrapping(table: Table) -> tuple[bool, ...]:
    """Return for each column True if its text is so long that it has to wrap."""
    return tuple(
        column.kind in ("text", "code") and any(_length(row[index]) > _LONG_TEXT for row in table.rows)
        for index, column in enumerate(table.columns)
    )


def _length(cell: Cell) -> int:
    return len(cell.text) if isinstance(cell, Text) else 0
