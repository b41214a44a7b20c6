"""This module chooses parts of a report's table for a paper: columns or rows by name, digits, intervals or none.

A choice computes nothing anew. Its numbers are those of the report's table, with fewer digits or without an interval.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

from ablations.errors import OptionError, UnknownNameError, nearest
from ablations.study import Study
from reports.content.blocks import Column, ColumnKind, Document, Interval, Note, Number, Table, TableCell, Text
from reports.content.plan_words import short_titles
from reports.content.table_names import hyphenated, named_tables
from reports.tables.cells import TableRow, labels_of
from reports.tables.uncertainty_words import COVERS_IMAGES, IMPROVEMENT, STARS

_SPELLINGS = str.maketrans({"Δ": "delta", "τ": "tau", "×": "x"})
_UNIT = re.compile(r"\s\([^)]*\)$")
_SENTENCES = re.compile(r"(?<=\.)\s+")
_DELTA, _PUBLISHED, _COUNT = "Δ", "published", "n"


@dataclass(frozen=True)
class TableChoice:
    """What is taken of a table, and how.

    Attributes:
        name: That of the table (`reports.content.table_names`).
        columns: Names of its columns or of groups of them, in the order in which they shall stand; or names of its
            rows, which then become the columns. Without any, all that a paper wants.
        rows: Names of rows; of columns where rows have become the columns. Without any, all.
        digits: Decimals of every number; `None` for those of the report. A published number gets no more than it has.
        with_intervals: Whether a difference has its interval.
        with_spread: Whether a mean has its standard deviation.
    """

    name: str
    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    digits: int | None = None
    with_intervals: bool = True
    with_spread: bool = True


def choose(document: Document, studies: Iterable[Study], choice: TableChoice) -> Table:
    """Return the chosen part of a table of a report; `studies` have the names of rows and of inspected networks.

    Raises:
        UnknownNameError: If the report has no table of that name.
        OptionError: If the table has no column or row of a name, or both are asked for at once.
    """
    tables = named_tables(document)
    if choice.name not in tables:
        raise UnknownNameError("table", choice.name, tables)
    study = _study_of(choice.name, studies)
    labels = 1
    if study is not None and study.columns:
        labels = len(study.columns)
    elif _has_groups(tables[choice.name]):
        # The name of its group says too little of a row.
        labels = 2
    table = _labelled(tables[choice.name])
    names = _Names(choice.name, table, labels, study)
    columns, rows, turned = names.columns_and_rows(choice)
    table = replace(table, rows=tuple(_starred(table, columns)))
    if turned:
        chosen = _turned(table, columns, rows, names)
    else:
        places = (*range(labels), *columns)
        chosen = _part(table, places, rows)
    chosen = _printed(chosen, choice, labels=1 if turned else labels)
    return replace(chosen, caption=_caption(chosen), notes=tuple(_notes(chosen)))


def _study_of(table: str, studies: Iterable[Study]) -> Study | None:
    """Return the study whose main table this is."""
    return next((study for study in studies if hyphenated(study.name) == table), None)


def _has_groups(table: Table) -> bool:
    """Return True if rows are in groups, whose name stands in the first row of each."""
    return any(_text_of(row[0]) == "" for row in table.rows if isinstance(row[0], Text))


def _labelled(table: Table) -> Table:
    """Return a table in which each row has its label, also one that is left empty as it repeats the one above."""
    rows: list[TableRow] = []
    above: TableCell = Text("")
    for label, *cells in table.rows:
        if isinstance(label, Text) and not label.text:
            label = above
        above = label
        rows.append((label, *cells))
    return replace(table, rows=tuple(rows))


class _Names:
    """The names of a table's columns and rows, as a user may write them.

    Args:
        table: Its name, for errors.
        labels: The number of columns that say what a row is about.
        study: The study whose main table it is, or `None`.
    """

    def __init__(self, table: str, content: Table, labels: int, study: Study | None) -> None:
        self.table, self.content, self.labels = table, content, labels
        self.columns: dict[int, list[str]] = {}
        networks = {}
        if study is not None:
            networks = {network.title: network.name for network in study.inspected if network is not None}
        for place, column in enumerate(content.columns):
            if place >= labels:
                self.columns[place] = _column_names(column, networks)
        self.rows = {place: _row_names(row, labels) for place, row in enumerate(content.rows)}
        if study is not None:
            self._add_variants(study)

    def _add_variants(self, study: Study) -> None:
        """Add the names and titles of the variants to the rows that have their labels."""
        titles = short_titles(study)
        for variant in study.variants:
            for place, row in enumerate(self.content.rows):
                words = tuple(cell.text for cell in row[: self.labels] if isinstance(cell, Text))
                if words == labels_of(variant):
                    self.rows[place] = [variant.name, titles[variant.name], *self.rows[place]]

    def columns_and_rows(self, choice: TableChoice) -> tuple[list[int], list[int], bool]:
        """Return the places of the chosen columns and rows, and whether rows become columns.

        Raises:
            OptionError: If a name is neither, or both are asked for at once.
        """
        if not choice.columns or all(_matching(name, self.columns) for name in choice.columns):
            columns = self._columns(choice.columns)
            return (
                self._by_group(columns) or self._usual(),
                self._found(choice.rows, self.rows, "row") or list(self.rows),
                False,
            )
        if all(_matching(name, self.rows) for name in choice.columns):
            rows = self._found(choice.columns, self.rows, "row")
            columns = self._columns(choice.rows)
            return self._by_group(columns) or self._usual(), rows, True
        for name in choice.columns:
            if not _matching(name, self.columns) and not _matching(name, self.rows):
                self._refuse(name, "column or row", [*self.columns.values(), *self.rows.values()])
        raise OptionError(
            f"--columns {','.join(choice.columns)}: some are columns and some are rows of table {self.table!r}. Name "
            f"either, and the others with --rows. {self._all_names()}"
        )

    def _by_group(self, places: Sequence[int]) -> list[int]:
        """Return the places of columns with those of one group beside each other, under one heading."""
        groups: dict[str, int] = {}
        for order, place in enumerate(places):
            groups.setdefault(self.content.columns[place].group or f"column {place}", order)
        return sorted(places, key=lambda place: groups[self.content.columns[place].group or f"column {place}"])

    def _usual(self) -> list[int]:
        """Return the places of the columns that a paper wants."""
        return [place for place in self.columns if self.content.columns[place].heading not in self._hidden]

    @cached_property
    def _hidden(self) -> set[str]:
        """The headings of columns that are taken by their own name alone: stars, and a number that is always the same.

        Stars stand on their differences, and the caption has the number of repeats.
        """
        counts = {place for place in self.columns if self.content.columns[place].heading == _COUNT}
        values = {_text_of(row[place]) for row in self.content.rows for place in counts}
        return {STARS} if len(values) > 1 else {STARS, _COUNT}

    def _without_hidden(self, name: str, places: Iterable[int]) -> Iterator[int]:
        for place in places:
            heading = self.content.columns[place].heading
            if heading not in self._hidden or heading in name.lower().split():
                yield place

    def _columns(self, names: Iterable[str]) -> list[int]:
        """Return the places of columns, each once, in the order of their names."""
        found: dict[int, None] = {}
        for name in names:
            found.update(dict.fromkeys(self._without_hidden(name, self._found([name], self.columns, "column"))))
        return list(found)

    def _found(self, names: Iterable[str], places: Mapping[int, Sequence[str]], kind: str) -> list[int]:
        """Return the places of names, each once, in the order of the names."""
        found: dict[int, None] = {}
        for name in names:
            matching = _matching(name, places)
            if not matching:
                self._refuse(name, kind, places.values())
            found.update(dict.fromkeys(matching))
        return list(found)

    def _refuse(self, name: str, kind: str, names: Iterable[Sequence[str]]) -> NoReturn:
        known = [candidate for candidates in names for candidate in candidates]
        hint = nearest(name, known)
        if not hint.startswith("Did"):
            hint = ""
        raise OptionError(f"table {self.table!r} has no {kind} {name!r}. {hint} {self._all_names()}".replace("  ", " "))

    def _all_names(self) -> str:
        columns = dict.fromkeys(candidates[0] for candidates in self.columns.values())
        groups = dict.fromkeys(column.group for column in self.content.columns[self.labels :] if column.group)
        rows = dict.fromkeys(candidates[0] for candidates in self.rows.values() if candidates)
        of_groups = f", of {'; '.join(groups)}" if groups else ""
        return f"Its columns: {'; '.join(columns)}{of_groups}. Its rows: {'; '.join(rows)}."

    def heading_of(self, place: int, among: Iterable[int]) -> str:
        """Return the words that tell a column from others."""
        column = self.content.columns[place]
        others = [self.content.columns[other] for other in among]
        if not column.group:
            return column.heading
        if all(other.heading == column.heading for other in others if other.group) and len(others) > 1:
            return column.group
        return f"{column.group}: {column.heading}"

    def label_of(self, place: int) -> str:
        """Return the words for a row at the head of a column."""
        words = [_text_of(cell) for cell in self.content.rows[place][: self.labels]]
        # Of a row that is called by check marks, the title says it in words.
        if self.labels > 1 and len(self.rows[place]) > 1:
            return self.rows[place][1]
        return " ".join(filter(None, words))


def _column_names(column: Column, networks: Mapping[str, str]) -> list[str]:
    names = [_UNIT.sub("", column.heading), column.heading]
    if column.group:
        groups = [column.group]
        if column.group in networks:
            groups.append(networks[column.group])
        for group in groups:
            names += [group, *(f"{group} {name}" for name in names[:2])]
    return names


def _row_names(row: TableRow, labels: int) -> list[str]:
    """Return the first words of a row, and the second ones, which tell rows of a group apart."""
    texts = [_text_of(cell) for cell in row[: max(labels, 2)]]
    names = [" ".join(filter(None, texts[:labels])), *reversed(texts[:2])]
    return list(dict.fromkeys(filter(None, names)))


def _text_of(cell: TableCell) -> str:
    return cell.text if isinstance(cell, Text) else ""


def _simplified(name: str) -> str:
    return re.sub(r"[^a-z0-9✓–+]+", "", name.translate(_SPELLINGS).lower())


def _matching(name: str, places: Mapping[int, Sequence[str]]) -> list[int]:
    """Return the places that have a name as it is written or, if none has, one that differs in signs and capitals."""
    exact = [place for place, names in places.items() if name in names]
    if exact:
        return exact
    wanted = _simplified(name)
    return [place for place, names in places.items() if wanted and wanted in map(_simplified, names)]


def _starred(table: Table, columns: Sequence[int]) -> Iterator[TableRow]:
    """Yield the rows with the stars of each difference as marks on it, unless their own column is among the chosen."""
    deltas: dict[int, int] = {}
    for place, column in enumerate(table.columns):
        if column.heading == STARS and place not in columns:
            for other, candidate in enumerate(table.columns):
                if candidate.heading == _DELTA and candidate.group == column.group:
                    deltas[other] = place
    for row in table.rows:
        cells = list(row)
        for place, stars in deltas.items():
            cell, words = row[place], _text_of(row[stars])
            if isinstance(cell, Interval) and words:
                cells[place] = replace(cell, marks=(*cell.marks, words))
        yield tuple(cells)


def _part(table: Table, places: Sequence[int], rows: Sequence[int]) -> Table:
    chosen = tuple(tuple(table.rows[row][place] for place in places) for row in rows)
    # Rules stand between groups, which are whole only where all rows are there.
    rules = table.rules if len(chosen) == len(table.rows) else ()
    return replace(table, columns=tuple(table.columns[place] for place in places), rows=chosen, rules=rules)


def _turned(table: Table, columns: Sequence[int], rows: Sequence[int], names: _Names) -> Table:
    """Return the table with rows as columns: a row for each column."""
    turned_rows: list[TableRow] = []
    for place in columns:
        cells = tuple(table.rows[row][place] for row in rows)
        turned_rows.append((Text(names.heading_of(place, columns)), *cells))
    headings = [Column("")]
    for index, row in enumerate(rows, start=1):
        headings.append(Column(names.label_of(row), _kind([cells[index] for cells in turned_rows])))
    return replace(table, columns=tuple(headings), rows=tuple(turned_rows), rules=())


def _kind(cells: Iterable[TableCell]) -> ColumnKind:
    kinds = {type(cell) for cell in cells}
    if Interval in kinds:
        return "interval"
    return "number" if Number in kinds else "mark"


def _printed(table: Table, choice: TableChoice, *, labels: int) -> Table:
    """Return a table with the digits of a choice, and with or without intervals and spreads."""
    columns = []
    for column in table.columns:
        if column.kind == "interval" and not choice.with_intervals:
            column = replace(column, kind="number")
        columns.append(column)
    rows: list[TableRow] = []
    for row in table.rows:
        is_published = _text_of(row[0]).startswith(_PUBLISHED)
        cells: list[TableCell] = list(row[:labels])
        for column, cell in zip(table.columns[labels:], row[labels:], strict=True):
            cells.append(_cell(cell, choice, is_published=is_published or column.group == _PUBLISHED))
        rows.append(tuple(cells))
    return replace(table, columns=tuple(columns), rows=tuple(rows))


def _cell(cell: TableCell, choice: TableChoice, *, is_published: bool) -> TableCell:
    if isinstance(cell, Interval) and not choice.with_intervals:
        marks = tuple(mark for mark in cell.marks if mark != COVERS_IMAGES)
        cell = Number(cell.value, cell.decimals, signed=cell.signed, marks=marks)
    if isinstance(cell, Number) and not choice.with_spread:
        cell = replace(cell, spread=None)
    if choice.digits is None or not isinstance(cell, Number | Interval):
        return cell
    # More decimals than were published would claim what nobody measured.
    digits = min(cell.decimals, choice.digits) if is_published else choice.digits
    if isinstance(cell, Number):
        return replace(cell, decimals=digits, value=round(cell.value, digits), spread=_rounded(cell.spread, digits))
    low, high = _rounded(cell.low, digits), _rounded(cell.high, digits)
    return replace(cell, decimals=digits, value=round(cell.value, digits), low=low, high=high)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _caption(table: Table) -> str:
    """Return the sentences of a caption that are about what is left of its table."""
    sentences = []
    for sentence in _SENTENCES.split(table.caption):
        if sentence.startswith(f"{_DELTA} is"):
            if not _shows(table, _DELTA):
                continue
            if not _has_intervals(table):
                sentence = f"{sentence.partition(' with its ')[0].removesuffix('.')}."
        if not _has_spread(table):
            sentence = sentence.replace("mean ± standard deviation over seeds", "mean over seeds")
        sentences.append(sentence)
    return " ".join(sentences)


def _notes(table: Table) -> Iterator[Note]:
    """Yield the notes on what is left of a table, without what they say of a report around it."""
    marks = {mark for row in table.rows for cell in row for mark in cell.marks}
    has_stars = any(mark.strip("*") == "" for mark in marks)
    for note in table.notes:
        if note.mark and note.mark not in marks:
            continue
        if not note.mark:
            if note.text.startswith("* p <") and not has_stars:
                continue
            if note.text.startswith("No difference has a star") and not _shows(table, _DELTA):
                continue
            if note.text.startswith(f"{IMPROVEMENT}:") and not _shows(table, IMPROVEMENT):
                continue
            if note.text.startswith(("Published:", "Ours:")) and not _shows(table, _PUBLISHED):
                continue
        kept = [sentence for sentence in _SENTENCES.split(note.text) if "appendix" not in sentence]
        yield replace(note, text=" ".join(kept))


def _shows(table: Table, words: str) -> bool:
    """Return True if a table has a column, or a row of a turned one, that is called so."""
    headings = [f"{column.group} {column.heading}" for column in table.columns]
    return any(words in text for text in (*headings, *(_text_of(row[0]) for row in table.rows)))


def _has_intervals(table: Table) -> bool:
    return any(isinstance(cell, Interval) and cell.low is not None for row in table.rows for cell in row)


def _has_spread(table: Table) -> bool:
    return any(isinstance(cell, Number) and cell.spread is not None for row in table.rows for cell in row)
