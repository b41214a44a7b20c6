"""This module writes files whole or not at all, inside the output folder, with one error for all that can go wrong."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ablations.atomic import write_bytes
from ablations.errors import OutputError
from ablations.vocabulary import slug
from reports.content.blocks import Document
from reports.figures.drawing import ImageFormat, draw

FIGURES, TABLES = "figures", "tables"
"""Folders beside a report that hold its figures, and its tables for other programs and papers."""


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
        file = f"{slug(figure.name)}.{image_format}"
        # Figures of several reports share a folder: the report's name keeps theirs apart.
        if not figure.name.startswith(f"{slug(stem)}-"):
            file = f"{slug(stem)}-{file}"
        paths[figure.name] = write_atomically(folder / FIGURES / file, draw(figure, image_format))
    return paths


def write_attachments(document: Document, folder: Path, stem: str) -> dict[str, Path]:
    """Write the files that lie beside a document and return them by their name without its ending.

    Raises:
        OutputError: If one cannot be written.
    """
    written = {}
    for attachment in document.attachments:
        name, _, ending = attachment.name.rpartition(".")
        if attachment.beside:
            path = document_path(folder, f"{slug(stem)}-{name}", ending)
            written[name] = write_atomically(path, attachment.content.encode("utf-8"))
    return written


def relative(path: Path) -> str:
    """Return the path of a figure relative to the folder of its document."""
    return f"{FIGURES}/{path.name}"
