"""Renderers: a document → a file. They compute nothing; each knows one format's escaping and layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ablations.errors import UnknownNameError
from reports.blocks import Document
from reports.render.html import render_html
from reports.render.latex import render_latex
from reports.render.markdown import render_markdown
from reports.render.typst import render_pdf

Renderer = Callable[[Document, Path, str], Path]
"""Takes the document, the folder and the file name without its ending; returns the file."""

FORMATS: dict[str, Renderer] = {"pdf": render_pdf, "html": render_html, "tex": render_latex, "md": render_markdown}


def get_renderer(name: str) -> Renderer:
    """Returns the renderer of the format called `name`.

    Raises:
        UnknownNameError: If there is none, with the nearest names.
    """
    if name not in FORMATS:
        raise UnknownNameError("report format", name, FORMATS)
    return FORMATS[name]


def parse_formats(text: str) -> tuple[str, ...]:
    """Returns the report formats in `text`, which are separated by commas, each once.

    Raises:
        UnknownNameError: If one is unknown, with the nearest names.
    """
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in wanted:
        get_renderer(name)
    return wanted
