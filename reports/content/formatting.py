"""This module turns numbers into text in pieces that align: each piece of a cell lines up with those of its column.

A piece is padded on its left with invisible characters (digits, a sign) up to the widest of its column, so that every
renderer aligns decimal points without measuring anything.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ablations.visible import visible
from reports.content.blocks import Missing, Number, Table, TableCell, Text, Tone
from reports.content.plan_words import ENDS

MINUS, DASH = "−", "—"


@dataclass(frozen=True)
class Piece:
    """A bit of a cell's visible text; a numeric one is padded.

    Attributes:
        pad: Invisible text in front of it.
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
        return self.pieces[: self._end]

    @property
    def filler(self) -> str:
        """The invisible text behind the visible pieces, which stands for pieces that other cells of the column have."""
        return "".join(piece.tail for piece in self.visible) + "".join(piece.pad for piece in self.pieces[self._end :])

    @property
    def _end(self) -> int:
        end = len(self.pieces)
        while end and not self.pieces[end - 1].text:
            end -= 1
        # A cell without any text leaves nothing out.
        return end or len(self.pieces)


def number(value: float, decimals: int = 2, signed: bool = False) -> str:
    """Return a number with fixed decimals and a true minus; a zero has no sign."""
    # Rounded first: −0.001 with two decimals is a zero, and has no sign.
    text = f"{abs(value):.{decimals}f}"
    if not text.strip("0."):
        return text
    if value < 0:
        return f"{MINUS}{text}"
    return f"+{text}" if signed else text


def interval(low: float, high: float, decimals: int = 2) -> str:
    """Return `[−1.20, +0.31]`."""
    return f"[{number(low, decimals, True)}, {number(high, decimals, True)}]"


def per_cent(share: float) -> str:
    """Return a share as `5 %`."""
    return f"{100 * share:g} %"


def printable(text: str) -> str:
    """Return text with white space as single spaces and invisible characters spelled out, for example `[U+0007]`."""
    return visible(" ".join(text.split()))


def closed(title: str) -> str:
    """Return a title as it stands before a sentence: with a period, unless it ends in a sign of its own."""
    text = printable(title)
    return text if text.endswith(ENDS) else f"{text}."


def set_rows(table: Table) -> tuple[tuple[SetCell, ...], ...]:
    """Return the cells of a table as aligned pieces, row by row."""
    columns = []
    for column, cells in zip(table.columns, zip(*table.rows, strict=True), strict=False):
        pieces = list(map(_pieces, cells))
        # What is centred has no decimal points to align.
        columns.append(pieces if column.kind == "mark" else _align(pieces))
    return tuple(zip(*columns, strict=True))


def _pieces(cell: TableCell) -> SetCell:
    if isinstance(cell, Text):
        return SetCell((Piece(printable(cell.text), numeric=False),), cell.marks, tone=cell.tone)
    if isinstance(cell, Missing):
        dash_text = f"{DASH} {printable(cell.reason)}" if cell.reason else DASH
        return SetCell((Piece(dash_text, numeric=False),), cell.marks, missing=True)
    tone: Tone = ""
    if isinstance(cell, Number):
        tone = cell.tone
        pieces = [Piece(number(cell.value, cell.decimals, cell.signed))]
        if cell.spread is not None and math.isfinite(cell.spread):
            pieces += [Piece(" ± ", numeric=False), Piece(number(cell.spread, cell.decimals))]
    else:
        pieces = [Piece(number(cell.value, cell.decimals, cell.signed))]
        if cell.low is not None and cell.high is not None:
            low, high = (number(end, cell.decimals, cell.signed) for end in (cell.low, cell.high))
            pieces += [Piece(" [", numeric=False), Piece(low), Piece(", ", numeric=False), Piece(high)]
            pieces.append(Piece("]", numeric=False))
    return SetCell(tuple(pieces), cell.marks, tone=tone)


def _align(cells: Iterable[SetCell]) -> list[SetCell]:
    cells = _completed(list(cells))
    # The cell with the most pieces decides the column's layout; shorter cells are filled up to it.
    columns: defaultdict[int, list[Piece]] = defaultdict(list)
    for cell in cells:
        # Words take no part: a dash or a reason must not widen the numbers' pieces.
        if cell.pieces[0].numeric:
            for index, piece in enumerate(cell.pieces):
                columns[index].append(piece)
    widest = list(map(_widest, columns.values()))
    return [_padded(cell, widest) for cell in cells]


def _completed(cells: Sequence[SetCell]) -> list[SetCell]:
    """Return cells whose single numbers have as many decimals, seen or not, as the longest of the column."""
    counts = list(map(_places, cells))
    longest = max(filter(None, counts), default=0)
    # The point is one of the characters that are counted.
    tail = "." + "0" * (longest - 1)
    completed = []
    for cell, count in zip(cells, counts, strict=True):
        if count is not None and count < longest:
            cell = replace(cell, pieces=(replace(cell.pieces[0], tail=tail[count:]),))
        completed.append(cell)
    return completed


def _places(cell: SetCell) -> int | None:
    """Return the number of characters of a single number from its point on; `None` if the cell is no single number."""
    piece, *further_pieces = cell.pieces
    if further_pieces or not piece.numeric:
        return None
    return len(piece.text) - len(piece.text.partition(".")[0])


def _widest(pieces: Sequence[Piece]) -> Piece:
    """Return a piece that is as wide as the widest, a sign in front if any has one."""
    sign = longest = ""
    for piece in pieces:
        bare = _bare(piece.text)
        if piece.numeric and bare != piece.text:
            # One sign in a column leaves room for a sign in every cell of it.
            sign = "+"
        longest = max(longest, bare + piece.tail, key=len)
    return Piece(sign + longest, numeric=pieces[0].numeric)


def _bare(text: str) -> str:
    return text.lstrip(MINUS + "+")


def _padded(cell: SetCell, widest: Sequence[Piece]) -> SetCell:
    if not cell.pieces[0].numeric:
        return cell
    pieces = [_pad(piece, width.text) for piece, width in zip(cell.pieces, widest, strict=False)]
    # Pieces that this cell lacks take up the same room, so that later ones still line up.
    pieces += [Piece("", width.text, width.numeric) for width in widest[len(pieces) :]]
    return replace(cell, pieces=tuple(pieces))


def _pad(piece: Piece, width: str) -> Piece:
    if not piece.numeric:
        return piece
    # A digit and a sign have fixed widths: a missing digit is padded with 0, a missing sign with +.
    bare, bare_width = _bare(piece.text), _bare(width)
    pad = "0" * (len(bare_width) - len(bare) - len(piece.tail))
    if bare == piece.text:
        pad = width[: len(width) - len(bare_width)] + pad
    return replace(piece, pad=pad)
