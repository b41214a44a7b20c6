"""This package holds the renderers, which write a document to a file. They compute nothing; each knows one format.

Importing this package is light: a renderer is loaded, and matplotlib or Typst with it, when it first writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import UnknownNameError

if TYPE_CHECKING:
    from reports.content.blocks import Document

Renderer = Callable[["Document", Path, str], Path]
"""A function of the document, the folder and the file name without its ending, which returns the path of the file."""


def _pdf(document: Document, folder: Path, stem: str) -> Path:
    from reports.render.typst import render_pdf

    return render_pdf(document, folder, stem)


def _html(document: Document, folder: Path, stem: str) -> Path:
    from reports.render.html import render_html

    return render_html(document, folder, stem)


def _latex(document: Document, folder: Path, stem: str) -> Path:
    from reports.render.latex import render_latex

    return render_latex(document, folder, stem)


def _markdown(document: Document, folder: Path, stem: str) -> Path:
    from reports.render.markdown import render_markdown

    return render_markdown(document, folder, stem)


FORMATS: dict[str, Renderer] = {"pdf": _pdf, "html": _html, "tex": _latex, "md": _markdown}


def get_renderer(name: str) -> Renderer:
    """Return the renderer of the format called `name`.

    Raises:
        UnknownNameError: If there is none, with the nearest names.
    """
    if name not in FORMATS:
        raise UnknownNameError("report format", name, FORMATS)
    return FORMATS[name]


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the report formats in `text`, which are separated by commas, each once.

    Raises:
        UnknownNameError: If one is unknown, with the nearest names.
    """
    formats = tuple(dict.fromkeys(name_text.strip() for name_text in text.split(",") if name_text.strip()))
    for name in formats:
        get_renderer(name)
    return formats
