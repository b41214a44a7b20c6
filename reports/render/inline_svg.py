"""This module turns a drawing into an `svg` element of a page, with names and colours that suit the page."""

from __future__ import annotations

import re

from markupsafe import Markup

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
"""Colours of `reports.figures.style` as variables of the page, which has other values in its dark mode."""

_PROLOG = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_METADATA = re.compile(r"<(metadata|style)\b.*?</\1>", re.DOTALL)
_SIZE = re.compile(r' (?:width|height)="[^"]*pt"')
_REFERENCE = re.compile(r'( id="|href="#|url\(#)')
_COLOUR = re.compile(r"(?<=[:\s])#[0-9a-f]{6}(?=[;\"])")
_UNUSED = re.compile(r' id="image[0-9a-f]+"')
"""Names of pictures, which are those of their content: two that are the same would share one."""
_BLANK = re.compile(r"\n\s*")


def inline_svg(figure: Figure, prefix: str) -> Markup:
    """Return a figure as an `svg` element; `prefix` keeps its names apart from those of others on the page."""
    # Markup without escaping: matplotlib draws letters as outlines, so that no name of a figure is text in it.
    text = _PROLOG.sub("", draw(figure, "svg").decode("utf-8"))
    head, bracket, tail = _METADATA.sub("", _COMMENT.sub("", _UNUSED.sub("", text))).partition(">")
    # Without a size of its own the drawing takes the width of the page.
    head = _SIZE.sub("", head)
    label = Markup('<svg role="img" aria-label="{}" ').format(printable(figure.alt))
    head = head.replace("<svg ", label, 1)
    body = _COLOUR.sub(lambda match: _COLOURS.get(match.group(), match.group()), tail)
    body = _REFERENCE.sub(rf"\g<1>{prefix}-", body)
    return Markup(head + bracket + _BLANK.sub("\n", body).strip())
