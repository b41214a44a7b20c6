"""This module writes a document as a LaTeX file with PDF figures, for any of the TeX engines. Names are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch
from pathlib import Path

from reports.content.blocks import Block, Column, Document, Facts, Figure, Items, Note, Paragraph, Section, Table
from reports.content.formatting import SetCell, set_rows
from reports.render.files import document_path, ensure_folder, relative, write_atomically, write_figures
from reports.render.latex_characters import escape, literal, preamble
from reports.render.table_layout import has_numbers, is_long, spans, wrapping

_LETTERS = {"number": "r", "interval": "r", "mark": "c"}


def render_latex(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.tex` and its figures as PDF."""
    ensure_folder(folder)
    paths = write_figures(document, folder, stem, "pdf")
    return write_atomically(document_path(folder, stem, "tex"), latex_text(document, paths).encode("utf-8"))


def latex_text(document: Document, figures: Mapping[str, Path]) -> str:
    """Return the document as LaTeX, with the paths of its figures by name."""
    body = [
        rf"\title{{{escape(document.title)}}}",
        rf"\author{{{escape(document.subtitle)}}}",
        r"\date{}",
        rf"\markright{{{escape(document.running_head)}}}",
        r"\begin{document}",
        r"\maketitle",
        r"\begin{quote}",
        r"\small",
    ]
    for block in document.summary:
        body.append(_block(block, figures))
    body.append(r"\end{quote}")
    for section in document.sections:
        body += _section(section, figures)
    body += [r"\clearpage", r"\appendix"]
    for section in document.appendix:
        body += _section(section, figures)
    body.append(r"\end{document}")
    text = "\n\n".join(body)
    # The preamble comes last: it defines the characters that the text turned out to have.
    return f"{preamble(text)}\n{text}\n"


def _section(section: Section, figures: Mapping[str, Path]) -> Iterator[str]:
    yield rf"\section{{{escape(section.title)}}}"
    for block in section.blocks:
        yield _block(block, figures)


@singledispatch
def _block(block: Block, figures: Mapping[str, Path]) -> str:
    raise TypeError(f"no way to set a {type(block).__name__}")


@_block.register
def _paragraph(block: Paragraph, figures: Mapping[str, Path]) -> str:
    lead = rf"\textbf{{{escape(block.lead)}.}} " if block.lead else ""
    if block.role == "alarm":
        return rf"\noindent\fcolorbox{{bad}}{{white}}{{\parbox{{0.95\linewidth}}{{{lead}{escape(block.text)}}}}}"
    return rf"\noindent {lead}{escape(block.text)}"


@_block.register
def _facts(block: Facts, figures: Mapping[str, Path]) -> str:
    items = [rf"\item[{{{escape(name)}}}] {escape(value)}" for name, value in block.items]
    return _list("description", items)


@_block.register
def _items(block: Items, figures: Mapping[str, Path]) -> str:
    # The empty group keeps a text that begins with [ from being read as an option.
    items = [rf"\item {{}}{escape(item)}" for item in block.items]
    return _list("itemize", items)


def _list(kind: str, items: Iterable[str]) -> str:
    return "\n".join([rf"\begin{{{kind}}}", *items, rf"\end{{{kind}}}"])


@_block.register
def _figure(block: Figure, figures: Mapping[str, Path]) -> str:
    width = "0.5" if block.half else ""
    image = rf"\includegraphics[width={width}\linewidth]{{{relative(figures[block.name])}}}"
    return "\n".join([r"\begin{figure}[htbp]", r"\centering", image, _caption(block), r"\end{figure}"])


def _caption(block: Figure | Table) -> str:
    return rf"\caption{{\textbf{{{escape(block.title)}.}} {escape(block.caption)}}}"


@_block.register
def _table(block: Table, figures: Mapping[str, Path]) -> str:
    lines = []
    for index, cells in enumerate(set_rows(block)):
        row = _row(cells, block.columns)
        if index in block.rules:
            row = rf"\addlinespace {row}"
        lines.append(row)
    # A list of words cannot be made smaller as a whole: it takes as many pages as it needs.
    set_table = _short_table if has_numbers(block) and not is_long(block) else _long_table
    return "\n".join([*set_table(block, lines), *_notes(block.notes)])


def _short_table(table: Table, lines: list[str]) -> list[str]:
    """Return a floating table, made smaller as a whole if it is wider than the page."""
    return [
        r"\begin{table}[htbp]",
        r"\centering",
        _caption(table),
        r"\begin{adjustbox}{max width=\linewidth}",
        rf"\begin{{tabular}}{{@{{}}{_letters(table)}@{{}}}}",
        *(r"\toprule", *_header(table), r"\midrule", *lines, r"\bottomrule"),
        r"\end{tabular}",
        r"\end{adjustbox}",
        r"\end{table}",
    ]


def _long_table(table: Table, lines: list[str]) -> list[str]:
    """Return a table that runs over pages, its heading repeated."""
    return [
        r"{\footnotesize",
        rf"\begin{{longtable}}{{@{{}}{_letters(table)}@{{}}}}",
        rf"{_caption(table)}\\",
        # The line below the table is given before its rows: `longtable` reads head and foot first.
        *(r"\toprule", *_header(table), r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot", *lines),
        r"\end{longtable}",
        "}",
    ]


def _letters(table: Table) -> str:
    """Return the column specification of a table."""
    wraps = wrapping(table)
    if has_numbers(table):
        width = "4.4cm"
    elif len(table.columns) > 4:
        width = r"0.24\linewidth"
    else:
        # The columns that wrap share some three fifths of the line; the others take what they need.
        width = rf"{0.62 / max(1, sum(wraps)):.2f}\linewidth"
    letters = []
    for column, column_wraps in zip(table.columns, wraps, strict=True):
        if column_wraps:
            letters.append(rf"p{{{width}}}")
        else:
            letters.append(_LETTERS.get(column.kind, "l"))
    return "".join(letters)


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


def _cell(cell: SetCell, column: Column) -> str:
    text = ""
    for piece in cell.visible:
        text += _phantom(piece.pad) + literal(piece.text)
    if column.kind == "code":
        text = rf"\texttt{{{text}}}"
    if cell.tone:
        text = rf"\textcolor{{{cell.tone}}}{{{text}}}"
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
    return [r"{\footnotesize\noindent", "\\par\\noindent\n".join(paragraphs), r"\par}"]
