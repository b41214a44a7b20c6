"""A drawing → SVG that can stand within a web page: no prolog, names of its own, colours that follow the page's."""

from __future__ import annotations

import re
from html import escape

from reports.content.blocks import Figure
from reports.content.formatting import printable
from reports.figures.drawing import draw

_COLOURS = {
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
    "#dddddd": "var(--grid)",
    "#0072b2": "var(--c0)",
    "#d55e00": "var(--c1)",
    "#009e73": "var(--c2)",
    "#cc79a7": "var(--c3)",
    "#56b4e9": "var(--c4)",
    "#e69f00": "var(--c5)",
    "#8c6d1f": "var(--c7)",
}
"""Colours of `reports.figures.drawing` as the page's, which are others in the dark."""

_PROLOG = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_METADATA = re.compile(r"<(metadata|style)\b.*?</\1>", re.DOTALL)
_SIZE = re.compile(r' (?:width|height)="[^"]*pt"')
_REFERENCE = re.compile(r'( id="|href="#|url\(#)')
_COLOUR = re.compile(r"(?<=[:\s])#[0-9a-f]{6}(?=[;\"])")
_UNUSED = re.compile(r' id="image[0-9a-f]+"')
"""Names of pictures, which are those of their content: two that are the same would share one."""
_BLANK = re.compile(r"\n\s*")


def inline_svg(figure: Figure, prefix: str) -> str:
    """Returns a figure as an `svg` element; `prefix` keeps its names apart from those of others on the page."""
    text = _PROLOG.sub("", draw(figure, "svg").decode("utf-8"))
    head, bracket, rest = _METADATA.sub("", _COMMENT.sub("", _UNUSED.sub("", text))).partition(">")
    head = _SIZE.sub("", head).replace("<svg ", f'<svg role="img" aria-label="{escape(printable(figure.alt))}" ', 1)
    body = _COLOUR.sub(lambda found: _COLOURS.get(found.group(), found.group()), rest)
    return head + bracket + _BLANK.sub("\n", _REFERENCE.sub(rf"\g<1>{prefix}-", body)).strip()
