"""This module writes a document as GitHub-flavoured Markdown with PNG figures. Every name shows as it was written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch
from pathlib import Path

from reports.content.blocks import Block, Column, Document, Facts, Figure, Items, Paragraph, Section, Table
from reports.content.formatting import SetCell, closed, printable, set_rows
from reports.render.files import document_path, ensure_folder, relative, write_atomically, write_figures

_SPECIAL = re.compile(r"[\\`*_\[\]#|$~@]")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# At the start of a line these would begin a list, a heading or a quotation.
_OPENING = re.compile(r"^([-+=:]|\d{1,9}[.)])")
_ALIGNMENT = {"number": "---:", "interval": "---:", "mark": ":---:", "text": ":---", "code": ":---"}


def render_markdown(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.md` and its figures as PNG."""
    ensure_folder(folder)
    paths = write_figures(document, folder, stem, "png")
    text = markdown_text(document, paths)
    return write_atomically(document_path(folder, stem, "md"), text.encode("utf-8"))


def markdown_text(document: Document, figures: Mapping[str, Path]) -> str:
    """Return the document as Markdown, with the paths of its figures by name."""
    blocks = [f"# {escape(document.title)}", escape_line(document.subtitle)]
    for block in document.summary:
        blocks.append(_block(block, figures))
    for section in document.sections:
        blocks += _section(section, figures, "##")
    blocks.append("## Appendix")
    for section in document.appendix:
        blocks += _section(section, figures, "###")
    return "\n\n".join(filter(None, blocks)) + "\n"


def escape(text: str) -> str:
    """Return text so that Markdown shows it literally within a line, in a cell of a table too."""
    # Ampersands and angle brackets become entities first: a backslash does not escape them for HTML.
    clean = printable(text).translate(_ENTITIES)
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", clean)


def escape_line(text: str) -> str:
    """Return text so that Markdown shows it literally at the start of a line, where `1.` would begin a list."""
    return _OPENING.sub(lambda match: f"{match.group()[:-1]}\\{match.group()[-1]}", escape(text))


def _section(section: Section, figures: Mapping[str, Path], level: str) -> Iterator[str]:
    yield f"{level} {escape(section.title)}"
    for block in section.blocks:
        yield _block(block, figures)


@singledispatch
def _block(block: Block, figures: Mapping[str, Path]) -> str:
    raise TypeError(f"no way to set a {type(block).__name__}")


@_block.register
def _paragraph(block: Paragraph, figures: Mapping[str, Path]) -> str:
    # Behind a lead the text does not begin a line.
    text = f"**{escape(block.lead)}.** {escape(block.text)}" if block.lead else escape_line(block.text)
    # GitHub shows `[!WARNING]` as a box; elsewhere it is a quotation like any other.
    return {"text": "", "caveat": "> ", "alarm": "> [!WARNING]\n> "}[block.role] + text


@_block.register
def _facts(block: Facts, figures: Mapping[str, Path]) -> str:
    return "\n".join(f"- **{escape(name)}:** {escape(value)}" for name, value in block.items)


@_block.register
def _items(block: Items, figures: Mapping[str, Path]) -> str:
    return "\n".join(f"- {escape_line(item)}" for item in block.items)


@_block.register
def _figure(block: Figure, figures: Mapping[str, Path]) -> str:
    image = f"![{escape(block.alt)}]({relative(figures[block.name])})"
    return f"{image}\n\n**{escape(closed(block.title))}** {escape(block.caption)}"


@_block.register
def _table(block: Table, figures: Mapping[str, Path]) -> str:
    return table_markdown(block)


def table_markdown(block: Table) -> str:
    """Return a table as Markdown, with its caption before it and its notes behind it."""
    lines = [f"**{escape(closed(block.title))}** {escape(block.caption)}", ""]
    lines.append(_row(map(_heading, block.columns)))
    lines.append(_row(_ALIGNMENT[column.kind] for column in block.columns))
    for row in set_rows(block):
        cells = [_cell(cell, column) for cell, column in zip(row, block.columns, strict=True)]
        lines.append(_row(cells))
    for note in block.notes:
        if note.mark:
            lines += ["", f"<sup>{escape(note.mark)}</sup> {escape(note.text)}"]
        else:
            lines += ["", escape_line(note.text)]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _heading(column: Column) -> str:
    if column.group:
        return f"{escape(column.group)}: {escape(column.heading)}"
    return escape(column.heading)


def _cell(cell: SetCell, column: Column) -> str:
    text = escape(cell.text)
    if column.kind == "code" and text:
        # Not in backticks, within which the escapes of a name would be shown.
        text = f"<code>{text}</code>"
    if cell.marks:
        text += f"<sup>{escape(','.join(cell.marks))}</sup>"
    return text
