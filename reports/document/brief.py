"""This module shortens a report to two pages: page 1 as it is, and the main tables with their verdicts.

A brief is made of the whole document and computes nothing, so that any report has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports.content.blocks import Block, Document, Note, Paragraph, Section, Table, Text
from reports.content.plan_words import plural

_LINES = 64
"""Lines that page 2 holds in a print that is small and can still be read."""
_AROUND = 6
"""Lines that a table takes beside its rows: the caption, the head and the space around it."""
_MOST_ROWS = 36
"""Rows of a table that are shown; of a longer one the brief says how many there are."""
_PRIMARY = "primary"
_ELSEWHERE = (
    "The whole report has every table and figure, how the numbers were computed, all settings, and the run behind each "
    "number."
)


def brief_of(document: Document) -> Document:
    """Return a report in two pages: its summary, and as many of its main tables and verdicts as fit on one page."""
    tables = [_shortened(table) for table in _chosen(document)]
    blocks: tuple[Block, ...] = (*tables, Paragraph(_ELSEWHERE))
    return replace(
        document,
        subtitle=f"{document.subtitle} · in brief",
        running_head=f"{document.running_head} · in brief",
        sections=(Section("Main results", blocks),),
        appendix=(),
        attachments=(),
        brief=True,
    )


def _chosen(document: Document) -> Iterator[Table]:
    """Yield the tables of page 2: all main ones with their verdicts, or all verdicts and the main tables that fit."""
    by_section = [_tables(section) for section in document.sections]
    everything = [table for tables in by_section if _has_main(tables) for table in tables]
    overview = [table for tables in by_section if not _has_main(tables) for table in tables]
    room = _LINES
    # The notes of the overview say how to read all tables, and are needed without it, too.
    guide = tuple(note for table in overview for note in table.notes)
    if everything and sum(map(_lines, everything)) + len(guide) <= room:
        *tables, last = everything
        yield from tables
        yield replace(last, notes=(*last.notes, *guide))
        return
    if not overview:
        # A report on one study has its verdicts in its section, whose tables are shown however long they are.
        yield from everything
        return
    for table in map(_primary_only, overview):
        yield table
        room -= _lines(table)
    for number, table in enumerate(table for table in everything if table.role == "main"):
        # The first study is the one that was asked for first, and is always there.
        if number == 0 or _lines(table) <= room:
            yield table
            room -= _lines(table)


def _tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table) and block.role]


def _has_main(tables: Sequence[Table]) -> bool:
    return any(table.role == "main" for table in tables)


def _lines(table: Table) -> int:
    return _AROUND + min(len(table.rows), _MOST_ROWS) + len(table.notes)


def _primary_only(table: Table) -> Table:
    """Return an overview of many verdicts with the primary claims alone."""
    headings = [column.heading for column in table.columns]
    if _lines(table) <= _LINES // 2 or "rank" not in headings:
        return table
    rank = headings.index("rank")
    rows = []
    label = Text("")
    for row in table.rows:
        # The name of a group stands in its first row, which may be left out.
        if isinstance(row[0], Text) and row[0].text:
            label = row[0]
        cell = row[rank]
        if isinstance(cell, Text) and cell.text == _PRIMARY:
            rows.append((label, *row[1:]))
            label = Text("")
    left_out = len(table.rows) - len(rows)
    note = Note(f"Without {left_out} exploratory {plural(left_out, 'claim')}.")
    return replace(table, rows=tuple(rows), rules=(), notes=(*table.notes, note))


def _shortened(table: Table) -> Table:
    """Return a table of very many rows with the first ones."""
    notes = list(table.notes)
    left_out = len(table.rows) - _MOST_ROWS
    if left_out > 0:
        notes.append(Note(f"{left_out} further {plural(left_out, 'row')} are in the whole report."))
    rules = tuple(rule for rule in table.rules if rule < _MOST_ROWS)
    return replace(table, rows=table.rows[:_MOST_ROWS], rules=rules, notes=tuple(notes))
