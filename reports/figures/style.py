"""This module holds the sizes, colours and names that all drawings share."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.content.formatting import printable

WIDTH = 6.3
"""Inches: the width of the text on an A4 page."""
HALF_WIDTH = 3.05
"""Inches: the width of a figure of which two stand side by side."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D1F")
"""Okabe and Ito's colours, told apart by colour-blind readers; the yellow is darkened to be seen on white."""
BLACK = "#000000"
DASHES = ("-", "--", "-.", ":")
PANEL = 20
"""Characters that fit into a line above a panel."""
_LONGEST_NAME = 42
"""Characters of a name that are shown; a longer one would push the axes aside."""


def short_name(text: str) -> str:
    """Return a name as a drawing shows it: in one line, and cut where it is long."""
    clean = printable(text)
    if len(clean) > _LONGEST_NAME:
        clean = clean[: _LONGEST_NAME - 1] + "…"
    return clean


def distinct(values: pd.Series) -> list[Any]:
    """Return the values of a column, each once, in their order."""
    return list(dict.fromkeys(values))


def colour_of(index: int) -> str:
    """Return the colour of the line with an index; colours begin anew after the palette."""
    return PALETTE[index % len(PALETTE)]
