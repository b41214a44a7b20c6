"""This package holds the renderers, which write a document to a file. They compute nothing; each knows one format.

Importing this package is light: the renderers, and matplotlib or Typst with them, are loaded when one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import UnknownNameError

if TYPE_CHECKING:
    from reports.content.blocks import Document

FORMATS = ("pdf", "html", "tex", "md", "csv", "json")
"""Names of the formats, which are endings of files too."""

TABLE_FORMATS = ("tex", "md", "html", "csv", "json")
"""The formats of a single table (`reports.render.one_table`)."""

Renderer = Callable[["Document", Path, str], Path]
"""A function of the document, the folder and the file name without its ending, which returns the path of the file.

It raises `OutputError` if the file cannot be written.
"""


def get_renderer(name: str) -> Renderer:
    """Return the renderer of the format called `name`.

    Raises:
        UnknownNameError: If there is none, with the nearest names.
    """
    _check(name)
    # Every renderer needs matplotlib, which a verb that only checks names must not wait for.
    from reports.render import data_files, html, markdown, typst
    from reports.render.latex.document import render_latex

    renderers: dict[str, Renderer] = {
        "pdf": typst.render_pdf,
        "html": html.render_html,
        "tex": render_latex,
        "md": markdown.render_markdown,
        "csv": data_files.render_csv,
        "json": data_files.render_json,
    }
    return renderers[name]


def render(document: Document, formats: Iterable[str], folder: Path, stem: str) -> dict[str, Path]:
    """Write a document in each of the formats and return the files by format.

    Raises:
        UnknownNameError: If there is no such format.
        OutputError: If a file cannot be written.
    """
    return {name: get_renderer(name)(document, folder, stem) for name in dict.fromkeys(formats)}


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the report formats in `text`, which are separated by commas, each once.

    Raises:
        UnknownNameError: If one is unknown, with the nearest names.
    """
    names = dict.fromkeys(filter(None, map(str.strip, text.split(","))))
    for name in names:
        _check(name)
    return tuple(names)


def _check(name: str) -> None:
    if name not in FORMATS:
        raise UnknownNameError("report format", name, FORMATS)
