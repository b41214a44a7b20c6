"""This module turns numbers into text in pieces that align: each piece of a cell lines up with those of its column.

A piece is padded on its left with invisible characters (digits, a sign) up to the widest of its column, so that every
renderer aligns decimal points without measuring anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ablations.visible import visible
from reports.content.blocks import Cell, Interval, Missing, Number, Table, Text, Tone

MINUS, DASH = "−", "—"


@dataclass(frozen=True)
class Piece:
    """A bit of a cell's text.

    Attributes:
        text: Its visible text.
        pad: Invisible text in front of it.
        numeric: True if it is padded.
        tail: Invisible text that stands for decimals which other numbers of the column have.
    """

    text: str
    pad: str = ""
    numeric: bool = True
    tail: str = ""


@dataclass(frozen=True)
class SetCell:
    """A cell ready to be set: its pieces, the marks of its footnotes, and the tone of its words."""

    pieces: tuple[Piece, ...]
    marks: tuple[str, ...] = ()
    missing: bool = False
    tone: Tone = ""

    @property
    def text(self) -> str:
        """The visible text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def visible(self) -> tuple[Piece, ...]:
        """The pieces up to the last that shows anything; marks stand behind them."""
        return self.pieces[: len(self.pieces) - len(self._trailing)]

    @property
    def filler(self) -> str:
        """The invisible text behind the visible pieces, which stands for pieces that other cells of the column have."""
        return "".join(piece.tail for piece in self.visible) + "".join(piece.pad for piece in self._trailing)

    @property
    def _trailing(self) -> tuple[Piece, ...]:
        visible_indices = [index for index, piece in enumerate(self.pieces) if piece.text]
        return self.pieces[visible_indices[-1] + 1 :] if visible_indices else ()


def number(value: float, decimals: int = 2, signed: bool = False) -> str:
    """Return a number with fixed decimals and a true minus; a zero has no sign."""
    # Rounded first: −0.001 with two decimals is a zero, and has no sign.
    text = f"{abs(value):.{decimals}f}"
    if not text.strip("0."):
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def interval(low: float, high: float, decimals: int = 2) -> str:
    """Return `[−1.20, +0.31]`."""
    return f"[{number(low, decimals, True)}, {number(high, decimals, True)}]"


def per_cent(share: float) -> str:
    """Return a share as `5 %`."""
    return f"{100 * share:g} %"


def printable(text: str) -> str:
    """Return text with white space as single spaces and invisible characters spelled out, for example `[U+0007]`."""
    return visible(" ".join(text.split()))


def set_rows(table: Table) -> tuple[tuple[SetCell, ...], ...]:
    """Return the cells of a table as aligned pieces, row by row."""
    columns = [_align([_pieces(row[index]) for row in table.rows]) for index in range(len(table.columns))]
    return tuple(zip(*columns, strict=True)) if table.rows else ()


def _pieces(cell: Cell) -> SetCell:
    if isinstance(cell, Text):
        return SetCell((Piece(printable(cell.text), numeric=False),), cell.marks, tone=cell.tone)
    if isinstance(cell, Missing):
        dash_text = f"{DASH} {printable(cell.reason)}" if cell.reason else DASH
        return SetCell((Piece(dash_text, numeric=False),), cell.marks, missing=True)
    if isinstance(cell, Number):
        return SetCell(tuple(_number_pieces(cell)), cell.marks)
    return SetCell(tuple(_interval_pieces(cell)), cell.marks)


def _number_pieces(cell: Number) -> list[Piece]:
    pieces = [Piece(number(cell.value, cell.decimals, cell.signed))]
    if cell.spread is not None and math.isfinite(cell.spread):
        pieces += [Piece(" ± ", numeric=False), Piece(number(cell.spread, cell.decimals))]
    return pieces


def _interval_pieces(cell: Interval) -> list[Piece]:
    pieces = [Piece(number(cell.value, cell.decimals, signed=True))]
    if cell.low is not None and cell.high is not None:
        low, high = (number(end, cell.decimals, signed=True) for end in (cell.low, cell.high))
        pieces += [Piece(" [", numeric=False), Piece(low), Piece(", ", numeric=False), Piece(high)]
        pieces.append(Piece("]", numeric=False))
    return pieces


def _align(cells: Sequence[SetCell]) -> list[SetCell]:
    cells = _completed(cells)
    # Words take no part: a dash or a reason must not widen the numbers' pieces.
    aligned = [cell for cell in cells if cell.pieces[0].numeric]
    # The cell with the most pieces decides the column's layout; shorter cells are filled up to it.
    longest = max(aligned, key=lambda cell: len(cell.pieces), default=SetCell(()))
    widest = [
        _widest([cell.pieces[index] for cell in aligned if index < len(cell.pieces)])
        for index in range(len(longest.pieces))
    ]
    return [_padded(cell, widest) if cell.pieces[0].numeric else cell for cell in cells]


def _completed(cells: Sequence[SetCell]) -> list[SetCell]:
    """Return cells whose single numbers have as many decimals, seen or not, as the longest of the column."""
    decimal_counts = [_places(cell) for cell in cells]
    longest = max((count for count in decimal_counts if count is not None), default=0)
    tail = "." + "0" * (longest - 1)
    return [
        cell
        if count is None or count == longest
        else replace(cell, pieces=(replace(cell.pieces[0], tail=tail[count:]),))
        for cell, count in zip(cells, decimal_counts, strict=True)
    ]


def _places(cell: SetCell) -> int | None:
    """Return the number of characters of a single number from its point on; `None` if the cell is no single number."""
    piece, *further_pieces = cell.pieces
    return None if further_pieces or not piece.numeric else len(piece.text) - len(piece.text.partition(".")[0])


def _widest(pieces: Sequence[Piece]) -> Piece:
    """Return a piece that is as wide as the widest, a sign in front if any has one."""
    longest = max((_bare(piece.text) + piece.tail for piece in pieces), key=len)
    # One sign in a column leaves room for a sign in every cell of it.
    has_sign = any(piece.numeric and _bare(piece.text) != piece.text for piece in pieces)
    return Piece(("+" if has_sign else "") + longest, numeric=pieces[0].numeric)


def _bare(text: str) -> str:
    return text.lstrip(MINUS + "+")


def _padded(cell: SetCell, widest: Sequence[Piece]) -> SetCell:
    pieces = [_pad(piece, width.text) for piece, width in zip(cell.pieces, widest, strict=False)]
    # Pieces that this cell lacks take up the same room, so that later ones still line up.
    pieces += [Piece("", width.text, width.numeric) for width in widest[len(pieces) :]]
    return replace(cell, pieces=tuple(pieces))


def _pad(piece: Piece, width: str) -> Piece:
    if not piece.numeric:
        return piece
    # A digit and a sign have fixed widths: a missing digit is padded with 0, a missing sign with +.
    bare = _bare(piece.text)
    sign = width[: len(width) - len(_bare(width))] if bare == piece.text else ""
    return replace(piece, pad=sign + "0" * (len(_bare(width)) - len(bare) - len(piece.tail)))
