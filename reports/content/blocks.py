"""This module defines the blocks of a document: paragraphs, tables, figures, sections. Plain data, no markup.

Text in these blocks is meant literally; escaping is the business of each renderer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

ColumnKind = Literal["text", "code", "mark", "number", "interval"]
"""text wraps, code is set in a fixed width, mark is centred, number and interval align on the decimal point."""

Tone = Literal["", "good", "fair", "poor", "bad", "quiet", "aside"]
"""The colour of words, where there is colour; the words alone must say the same.

`aside` is quiet and small: a published number beside ours.
"""


@dataclass(frozen=True)
class Column:
    """One column of a table; a group is a heading that spans the neighbouring columns with the same group."""

    heading: str
    kind: ColumnKind = "text"
    group: str = ""


@dataclass(frozen=True)
class Text:
    """Words in a cell."""

    text: str
    marks: tuple[str, ...] = ()
    tone: Tone = ""


@dataclass(frozen=True)
class Number:
    """A number with fixed decimals, a sign in front if asked for, and `± spread` behind if there is one."""

    value: float
    decimals: int = 2
    spread: float | None = None
    signed: bool = False
    marks: tuple[str, ...] = ()
    tone: Tone = ""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval, which are `None` without one; signed, as a difference is, or not."""

    value: float
    low: float | None
    high: float | None
    decimals: int = 2
    marks: tuple[str, ...] = ()
    signed: bool = True


@dataclass(frozen=True)
class Missing:
    """A cell without a value, printed as a dash and the reason."""

    reason: str = ""
    marks: tuple[str, ...] = ()


TableCell = Text | Number | Interval | Missing


@dataclass(frozen=True)
class Note:
    """A footnote of a table; without a mark it is about the whole table."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table: every row has one cell per column.

    Attributes:
        title: Its subject, set bold in front of the caption.
        caption: The data, the number of seeds and the meaning of the numbers.
        rules: Indices of rows above which a thin rule is drawn.
        role: `main` for the table that answers a study's question, `verdicts` for that of its claims.
    """

    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    notes: tuple[Note, ...] = ()
    rules: tuple[int, ...] = ()
    role: Literal["", "main", "verdicts"] = ""


FigureKind = Literal[
    "accuracy",
    "claims",
    "curves",
    "entropy",
    "profile",
    "classes",
    "pareto",
    "importance",
    "tradeoff",
    "effects",
    "grid",
]


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure as data; `reports.figures.drawing` draws it.

    A figure equals itself only, since tables have no truth value.

    Attributes:
        name: File name without its ending, safe in a path.
        data: The tidy table behind it, of the columns that the module which makes it documents.
        title: Its subject, set bold in front of the caption.
        caption: The data, the number of seeds and the meaning of lines and bands.
        alt: A description for readers who cannot see it.
        axis: The quantity on its vertical (accuracy: horizontal) axis.
        half: Whether it takes half the width of a page, so that two of them that follow each other stand side by side.
    """

    name: str
    kind: FigureKind
    data: pd.DataFrame
    title: str
    caption: str
    alt: str
    axis: str
    half: bool = False


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, with a bold run-in heading if `lead` is not empty.

    `role` sets a caveat apart from plain text, and an alarm, after which the rest may be wrong, apart from both.
    """

    text: str
    lead: str = ""
    role: Literal["text", "caveat", "alarm"] = "text"


@dataclass(frozen=True)
class Facts:
    """A short list of names and values."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]


Block = Paragraph | Facts | Items | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading and the blocks under it; the section of a study has its name."""

    title: str
    blocks: tuple[Block, ...]
    name: str = ""


@dataclass(frozen=True)
class Attachment:
    """A file that a report carries: within formats that can, and `beside` all of them if it says so.

    Attributes:
        name: File name with its ending, safe in a path.
        media_type: Its media type, for example `application/json`.
        description: Its content, in a few words.
    """

    name: str
    media_type: str
    description: str
    content: str = field(repr=False)
    beside: bool = False


RecordValue = str | int | float | bool | None
"""A value for other programs; `None` for what is not known."""


@dataclass(frozen=True)
class Records:
    """Tidy rows of exact values for other programs, which the formats for data have beside the tables.

    Attributes:
        name: The end of their file's name, safe in a path.
        columns: Names of the values of a row; `docs/report-formats.md` says what each is.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[RecordValue, ...], ...]


@dataclass(frozen=True)
class Document:
    """A report: a title block, a box with the facts about its runs, sections, an appendix.

    Attributes:
        running_head: Short line at the head of every page.
        timestamp: The time when its newest run ended, in seconds since 1970: the only time in a report.
        summary: The box under the title.
        appendix: Configuration, versions, runs.
        attachments: The files that it carries beside its pages: its manifest, a list of runs.
        records: The numbers behind its tables as tidy rows, the most asked for first.
        brief: Whether it is to fit on two pages: the summary on the first, the sections on the second.
    """

    title: str
    subtitle: str
    running_head: str
    timestamp: int
    summary: tuple[Block, ...]
    sections: tuple[Section, ...]
    appendix: tuple[Section, ...]
    attachments: tuple[Attachment, ...] = ()
    records: tuple[Records, ...] = ()
    brief: bool = False

    @property
    def all_sections(self) -> tuple[Section, ...]:
        """The summary as a section, the sections and the appendix."""
        return (Section("Summary", self.summary), *self.sections, *self.appendix)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in order."""
        figures: list[Figure] = []
        for section in self.all_sections:
            figures += [block for block in section.blocks if isinstance(block, Figure)]
        return tuple(figures)
