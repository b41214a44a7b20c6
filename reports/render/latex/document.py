"""This module writes a document as a LaTeX file with PDF figures, for any of the TeX engines. Names are escaped.

Each table lies beside it as a file of its own, and each figure as a PDF, so that a paper can take single ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch
from pathlib import Path

from ablations.vocabulary import slug
from reports.content.blocks import Block, Document, Facts, Figure, Items, Paragraph, Section, Table
from reports.content.table_names import named_tables
from reports.render.files import TABLES, document_path, ensure_folder, relative, write_atomically, write_figures
from reports.render.latex.characters import escape, preamble
from reports.render.latex.tables import caption, table_file, table_latex


def render_latex(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.tex`, its figures as PDF, and its tables as `tables/<stem>-<name>.tex`."""
    ensure_folder(folder)
    paths = write_figures(document, folder, stem, "pdf")
    ensure_folder(folder / TABLES)
    for name, table in named_tables(document).items():
        text = table_file(table, name)
        write_atomically(folder / TABLES / f"{slug(stem)}-{name}.tex", text.encode("utf-8", "replace"))
    return write_atomically(document_path(folder, stem, "tex"), latex_text(document, paths).encode("utf-8"))


def latex_text(document: Document, figures: Mapping[str, Path]) -> str:
    """Return the document as LaTeX, with the paths of its figures by name."""
    body = [
        rf"\title{{{escape(document.title)}}}",
        # Within a box, as the names of authors do not wrap.
        rf"\author{{\parbox{{0.9\linewidth}}{{\centering {escape(document.subtitle)}}}}}",
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
    # A tall figure and its caption have to fit on a page.
    size = rf"width={width}\linewidth,height=0.75\textheight,keepaspectratio"
    image = rf"\includegraphics[{size}]{{{relative(figures[block.name])}}}"
    # Here and nowhere else: a table over pages that begins while figures still wait for a place is set over the end of
    # its page.
    lines = [r"\begin{figure}[H]", r"\centering", image, caption(block.title, block.caption), r"\end{figure}"]
    return "\n".join(lines)


@_block.register
def _table(block: Table, figures: Mapping[str, Path]) -> str:
    # As figures are.
    return table_latex(block).replace(r"\begin{table}[htbp]", r"\begin{table}[H]", 1)
