"""This module turns a document into the data that the Typst template reads, so that no text of it is ever markup."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from reports.content.blocks import Attachment, Block, Document, Facts, Figure, Items, Note, Paragraph, Section, Table
from reports.content.formatting import SetCell, printable, set_rows
from reports.render.table_layout import has_numbers, is_long, spans, wrapping

Json = dict[str, Any]


def as_json(document: Document, drawings: Mapping[str, str]) -> Json:
    """Return the data that the template reads: strings, numbers, lists and mappings alone."""
    return {
        "title": printable(document.title),
        "subtitle": printable(document.subtitle),
        "head": printable(document.running_head),
        "summary": [_block(block, drawings) for block in document.summary],
        "sections": [_section(section, drawings) for section in document.sections],
        "appendix": [_section(section, drawings) for section in document.appendix],
        "attachments": [_attachment(attachment) for attachment in document.attachments],
    }


def _attachment(carried: Attachment) -> Json:
    texts = {"name": carried.name, "type": carried.media_type, "description": printable(carried.description)}
    return {**texts, "content": carried.content}


def _section(section: Section, drawings: Mapping[str, str]) -> Json:
    return {"title": printable(section.title), "blocks": [_block(block, drawings) for block in section.blocks]}


@singledispatch
def _block(block: Block, drawings: Mapping[str, str]) -> Json:
    raise TypeError(f"no way to set a {type(block).__name__}")


@_block.register
def _paragraph(block: Paragraph, drawings: Mapping[str, str]) -> Json:
    return {"type": "paragraph", "lead": printable(block.lead), "text": printable(block.text), "role": block.role}


@_block.register
def _facts(block: Facts, drawings: Mapping[str, str]) -> Json:
    return {"type": "facts", "items": [[printable(name), printable(value)] for name, value in block.items]}


@_block.register
def _items(block: Items, drawings: Mapping[str, str]) -> Json:
    return {"type": "items", "items": [printable(item) for item in block.items]}


@_block.register
def _figure(block: Figure, drawings: Mapping[str, str]) -> Json:
    texts = {"title": printable(block.title), "caption": printable(block.caption), "alt": printable(block.alt)}
    return {"type": "figure", "svg": drawings[block.name], **texts}


@_block.register
def _table(block: Table, drawings: Mapping[str, str]) -> Json:
    wraps = wrapping(block)
    columns = [
        {"heading": printable(column.heading), "kind": column.kind, "wraps": wraps[index]}
        for index, column in enumerate(block.columns)
    ]
    return {
        "type": "table",
        "title": printable(block.title),
        "caption": printable(block.caption),
        "columns": columns,
        "spans": [{"text": printable(span.text), "start": span.start, "end": span.end} for span in spans(block)],
        "rows": [[_cell(cell) for cell in row] for row in set_rows(block)],
        "notes": [_note(note) for note in block.notes],
        "rules": list(block.rules),
        "long": is_long(block),
        "numbers": has_numbers(block),
    }


def _cell(cell: SetCell) -> Json:
    pieces = [[piece.pad, piece.text] for piece in cell.visible]
    tone = "quiet" if cell.missing else cell.tone
    return {"pieces": pieces, "marks": ",".join(cell.marks), "filler": cell.filler, "tone": tone}


def _note(note: Note) -> Json:
    return {"mark": note.mark, "text": printable(note.text)}
