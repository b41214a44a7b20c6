"""This module sets tables as LaTeX: short ones in a float, long ones over pages, each also as a file for a paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reports.content.blocks import Column, Note, Table
from reports.content.formatting import SetCell, closed, set_rows
from reports.render.latex.characters import COLOURS, escape, literal, spelled_out
from reports.render.table_layout import characters_across, has_numbers, is_long, spans, wrapping

_LETTERS = {"number": "r", "interval": "r", "mark": "c"}
_SIZES = (("footnotesize", 108), ("scriptsize", 124), ("tiny", 168))
"""Sizes of print of a long table, each with the characters that a line of A4 holds in it."""
_SHRUNK = 150
"""Characters across of a table that can still be read when it is made as narrow as the page."""
_LINES_OF_PAGE = 52
"""Lines that a table may take down a page of A4, with its caption and its notes."""
_CHARACTERS_OF_NOTE = 115
"""Characters in a line of a caption or of a note."""
_BETWEEN = 3
"""Room between two columns, in characters."""
_RIGID = 14
"""Longest text of a column, in characters, that is not wrapped even where a table fills the line."""
_LONGEST = 80
"""A longer text makes its column no wider, but higher."""
_NARROWEST = 12
"""Fewest characters that a line of a wrapped column should hold."""
_LONGEST_NAME = 36
"""Longest code that is not wrapped."""
_CODE = 1.2
"""Width of a character of code, in that of others."""

PACKAGES = "booktabs,xltabular,adjustbox,xcolor,amssymb,textcomp"
"""The packages that a file with a table needs."""


def table_file(table: Table, name: str) -> str:
    r"""Return a table as the content of a file for `\input`, with the label `tab:<name>`.

    It defines the colours that it uses unless the paper has its own; its first line names the packages that it needs.
    """
    text = table_latex(table, label=f"tab:{name}")
    lines = [rf"% \usepackage{{{PACKAGES}}}"]
    for colour, code in COLOURS.items():
        if rf"\textcolor{{{colour}}}" in text:
            lines.append(rf"\providecolor{{{colour}}}{{HTML}}{{{code}}}")
    # A definition of a character counts in a preamble only, which is the paper's.
    return "\n".join([*lines, spelled_out(text)]) + "\n"


def table_latex(table: Table, label: str = "") -> str:
    """Return a table with its caption and its notes, and the label that a paper refers to it by."""
    lines = []
    for index, cells in enumerate(set_rows(table)):
        row = _row(cells, table.columns)
        if index in table.rules:
            row = rf"\addlinespace {row}"
        lines.append(row)
    # A list of words cannot be made smaller as a whole: it takes as many pages as it needs.
    fits = not is_long(table) and characters_across(table) <= _SHRUNK and _lines_down(table) <= _LINES_OF_PAGE
    floats = has_numbers(table) and fits
    set_table = _short_table if floats else _long_table
    return "\n".join(set_table(table, lines, rf"\label{{{label}}}" if label else ""))


def caption(title: str, text: str, label: str = "") -> str:
    """Return the caption of a table or a figure."""
    words = f" {escape(text)}" if text else ""
    return rf"\caption{{\textbf{{{escape(closed(title))}}}{words}}}{label}"


def _short_table(table: Table, lines: list[str], label: str) -> list[str]:
    """Return a floating table, made smaller as a whole if it is wider than the page, with its notes."""
    letters = []
    for column, wraps in zip(table.columns, wrapping(table), strict=True):
        letters.append("p{4.4cm}" if wraps else _LETTERS.get(column.kind, "l"))
    return [
        r"\begin{table}[htbp]",
        r"\centering",
        caption(table.title, table.caption, label),
        r"\begin{adjustbox}{max width=\linewidth}",
        rf"\begin{{tabular}}{{@{{}}{''.join(letters)}@{{}}}}",
        *(r"\toprule", *_header(table), r"\midrule", *lines, r"\bottomrule"),
        r"\end{tabular}",
        r"\end{adjustbox}",
        *_notes(table.notes),
        r"\end{table}",
    ]


def _long_table(table: Table, lines: list[str], label: str) -> list[str]:
    """Return a table that runs over pages, its heading repeated, with its notes."""
    layout = _long_layout(table)
    head = [r"\toprule", *_header(table), r"\midrule"]
    # Only `xltabular` has columns that share what the others leave of the line.
    environment, width = ("xltabular", r"{\linewidth}") if layout.fills_line else ("longtable", "")
    return [
        rf"{{\{layout.size}\setlength{{\tabcolsep}}{{4pt}}",
        rf"\begin{{{environment}}}{width}{{@{{}}{layout.letters}@{{}}}}",
        # `longtable` reads what stands on the first page, on further pages and below them before any row.
        *(rf"{caption(table.title, table.caption, label)}\\", *head, r"\endfirsthead"),
        *(*head, r"\endhead", r"\bottomrule", r"\endfoot"),
        *lines,
        rf"\end{{{environment}}}",
        "}",
        *_notes(table.notes),
    ]


@dataclass(frozen=True)
class _Layout:
    """The columns of a long table as LaTeX, the size of its print, and whether some of them share the line."""

    letters: str
    size: str
    fills_line: bool


def _long_layout(table: Table) -> _Layout:
    """Return the layout of a long table: as wide as its texts if they fit, else with columns of words that wrap."""
    longest = _longest(table)
    size, line = _SIZES[0]
    if sum(longest) + _BETWEEN * len(longest) <= line:
        return _Layout("".join(_LETTERS.get(column.kind, "l") for column in table.columns), size, False)
    wraps = [_wraps(column, characters) for column, characters in zip(table.columns, longest, strict=True)]
    count = sum(wraps)
    fixed = float(_BETWEEN * len(longest))
    weights = []
    for characters, wrap in zip(longest, wraps, strict=True):
        if wrap:
            weights.append(math.sqrt(min(characters, _LONGEST)))
        else:
            weights.append(0.0)
            fixed += characters
    # Smaller print where wrapped columns would be too narrow for a word in each line; the smallest if all are.
    size = next((name for name, line in _SIZES if line - fixed >= _NARROWEST * count), _SIZES[-1][0])
    letters = []
    for column, wrap, weight in zip(table.columns, wraps, weights, strict=True):
        if wrap:
            # The shares add up to the number of such columns, as `tabularx` expects it.
            share = weight * count / sum(weights)
            # A word that begins a cell is hyphenated behind a space without width only.
            letters.append(rf">{{\raggedright\arraybackslash\hsize={share:.3f}\hsize\hspace{{0pt}}}}X")
        else:
            letters.append(_LETTERS.get(column.kind, "l"))
    return _Layout("".join(letters), size, any(wraps))


def _wraps(column: Column, characters: float) -> bool:
    """Return True if the texts of a column wrap where a table fills the line; the name of a run stays in one piece."""
    if column.kind == "code":
        return characters > _LONGEST_NAME * _CODE
    return column.kind == "text" and characters > _RIGID


def _longest(table: Table) -> list[float]:
    """Return the room that each column takes in one line, in characters."""
    rows = set_rows(table)
    longest = []
    for index, column in enumerate(table.columns):
        characters = float(len(column.heading))
        width = _CODE if column.kind == "code" else 1.0
        for row in rows:
            characters = max(characters, width * len(row[index].text))
        longest.append(characters)
    return longest


def _header(table: Table) -> Iterator[str]:
    groups = spans(table)
    if groups:
        cells, rules = [], []
        for span in groups:
            cells.append(rf"\multicolumn{{{span.end - span.start}}}{{c}}{{{escape(span.text)}}}")
            if span.text:
                # LaTeX counts columns from 1, and both ends are included.
                rules.append(rf"\cmidrule(lr){{{span.start + 1}-{span.end}}}")
        yield _line(cells)
        yield " ".join(rules)
    yield _line(map(_heading, table.columns))


def _line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _heading(column: Column) -> str:
    text = escape(column.heading)
    if column.kind == "interval":
        return rf"\multicolumn{{1}}{{c}}{{{text}}}"
    return text


def _row(cells: Iterable[SetCell], columns: tuple[Column, ...]) -> str:
    texts = [_cell(cell, column) for cell, column in zip(cells, columns, strict=True)]
    # A row that starts with [ would be taken for an option of the line break before it.
    return "{}" + _line(texts)


def _lines_down(table: Table) -> int:
    """Return about how many lines a table takes with its caption and its notes."""
    words = [table.caption, *(note.text for note in table.notes)]
    return len(table.rows) + sum(math.ceil(len(text) / _CHARACTERS_OF_NOTE) for text in words)


def _cell(cell: SetCell, column: Column) -> str:
    text = ""
    for piece in cell.visible:
        text += _phantom(piece.pad) + literal(piece.text)
    if column.kind == "code":
        text = rf"\texttt{{{text}}}"
    if cell.tone:
        # A narrow column must not tear the sign of a verdict from its word.
        text = rf"\textcolor{{{cell.tone}}}{{{text.replace(' ', '~', 1)}}}"
    if cell.marks:
        marks = rf"\textsuperscript{{{escape(','.join(cell.marks))}}}"
        if column.kind in ("number", "interval"):
            # A mark behind a number takes no room, so that the numbers of a column still align.
            marks = rf"\rlap{{{marks}}}"
        text += marks
    return text + _phantom(cell.filler)


def _phantom(text: str) -> str:
    """Return LaTeX that takes the room of a text and shows nothing."""
    return rf"\phantom{{{literal(text)}}}" if text else ""


def _notes(notes: tuple[Note, ...]) -> list[str]:
    if not notes:
        return []
    paragraphs = []
    for note in notes:
        mark = rf"\textsuperscript{{{escape(note.mark)}}} " if note.mark else ""
        paragraphs.append(mark + escape(note.text))
    return [r"\par\smallskip{\footnotesize\raggedright\noindent", "\\par\\noindent\n".join(paragraphs), r"\par}"]
