"""This module turns a document into the data that the Typst template reads, so that no text of it is ever markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import singledispatch
from typing import Any

from reports.content.blocks import Attachment, Block, Document, Facts, Figure, Items, Note, Paragraph, Section, Table
from reports.content.formatting import SetCell, closed, printable, set_rows
from reports.render.table_layout import Span, has_numbers, is_long, spans, wrapping

Json = dict[str, Any]


def as_json(document: Document, drawings: Mapping[str, str]) -> Json:
    """Return the data that the template reads: strings, numbers, lists and mappings alone."""
    return {
        "title": printable(document.title),
        "subtitle": printable(document.subtitle),
        "head": printable(document.running_head),
        "summary": _blocks(document.summary, drawings),
        "sections": _sections(document.sections, drawings),
        "appendix": _sections(document.appendix, drawings),
        "attachments": list(map(_attachment, document.attachments)),
        "brief": document.brief,
    }


def _attachment(attachment: Attachment) -> Json:
    texts = {"name": attachment.name, "type": attachment.media_type, "description": printable(attachment.description)}
    return {**texts, "content": attachment.content}


def _sections(sections: Iterable[Section], drawings: Mapping[str, str]) -> list[Json]:
    return [{"title": printable(section.title), "blocks": _blocks(section.blocks, drawings)} for section in sections]


def _blocks(blocks: Iterable[Block], drawings: Mapping[str, str]) -> list[Json]:
    rows: list[Json] = []
    waiting: Json | None = None
    for block in blocks:
        content = _block(block, drawings)
        is_half = isinstance(block, Figure) and block.half
        if is_half and waiting is not None:
            # The first of the pair is in its place already.
            rows[-1] = {"type": "pair", "figures": [waiting, content]}
            waiting = None
        else:
            rows.append(content)
            waiting = content if is_half else None
    return rows


@singledispatch
def _block(block: Block, drawings: Mapping[str, str]) -> Json:
    # A kind of block without a form here must not vanish from one format alone.
    raise TypeError(f"no way to set a {type(block).__name__}")


@_block.register
def _paragraph(block: Paragraph, drawings: Mapping[str, str]) -> Json:
    return {"type": "paragraph", "lead": printable(block.lead), "text": printable(block.text), "role": block.role}


@_block.register
def _facts(block: Facts, drawings: Mapping[str, str]) -> Json:
    return {"type": "facts", "items": [list(map(printable, item)) for item in block.items]}


@_block.register
def _items(block: Items, drawings: Mapping[str, str]) -> Json:
    return {"type": "items", "items": list(map(printable, block.items))}


@_block.register
def _figure(block: Figure, drawings: Mapping[str, str]) -> Json:
    texts = {"title": closed(block.title), "caption": printable(block.caption), "alt": printable(block.alt)}
    # Drawn before: matplotlib runs once for all formats.
    return {"type": "figure", "svg": drawings[block.name], **texts}


@_block.register
def _table(block: Table, drawings: Mapping[str, str]) -> Json:
    columns = []
    for column, wraps in zip(block.columns, wrapping(block), strict=True):
        columns.append({"heading": printable(column.heading), "kind": column.kind, "wraps": wraps})
    return {
        "type": "table",
        "title": closed(block.title),
        "caption": printable(block.caption),
        "columns": columns,
        "spans": list(map(_span, spans(block))),
        "rows": [list(map(_cell, row)) for row in set_rows(block)],
        "notes": list(map(_note, block.notes)),
        "rules": list(block.rules),
        "long": is_long(block),
        "numbers": has_numbers(block),
    }


def _span(span: Span) -> Json:
    return {"text": printable(span.text), "start": span.start, "end": span.end}


def _cell(cell: SetCell) -> Json:
    # The template hides the first of each pair, which only takes up room.
    pieces = [[piece.pad, piece.text] for piece in cell.visible]
    tone = "quiet" if cell.missing else cell.tone
    return {"pieces": pieces, "marks": ",".join(cell.marks), "filler": cell.filler, "tone": tone}


def _note(note: Note) -> Json:
    return {"mark": note.mark, "text": printable(note.text)}
