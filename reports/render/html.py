"""This module writes a document as one HTML page that needs no other file: style, script, figures and data are in it.

Names are escaped. The page's policy allows no request and no script but its own, so that no name could do anything even
if it were markup.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from functools import singledispatch
from html import escape
from importlib import resources
from itertools import count
from pathlib import Path
from urllib.parse import quote

from reports.content.blocks import (
    Attachment,
    Block,
    Cell,
    Column,
    Document,
    Facts,
    Figure,
    Interval,
    Items,
    Note,
    Number,
    Paragraph,
    Section,
    Table,
    Text,
)
from reports.content.formatting import SetCell, printable, set_rows
from reports.evidence.contents import data_csv
from reports.figures.drawing import draw
from reports.render.files import document_path, ensure_folder, write_atomically
from reports.render.table_layout import is_long, spans, wrapping

_CLASSES = {"number": "n", "interval": "i", "mark": "m", "code": "c", "text": ""}
_MOST_DATA = 500
"""Rows of a figure's data that are shown; all of them are in the file that can be saved."""


def render_html(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.html`; equal documents give equal bytes.

    Raises:
        OutputError: If it cannot be written.
    """
    ensure_folder(folder)
    return write_atomically(document_path(folder, stem, "html"), html_text(document).encode("utf-8", "replace"))


def html_text(document: Document) -> str:
    """Return the document as a page."""
    style, script = (_template(f"report.{kind}") for kind in ("css", "js"))
    pieces = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_words(document.title)}</title>\n<style>{style}</style>\n</head>\n<body>",
        '<a class="skip" href="#content">Skip to the report</a>',
        f'<header>\n<h1>{_words(document.title)}</h1>\n<p class="subtitle">{_words(document.subtitle)}</p>\n</header>',
        _navigation(document),
        *_main(document, _Numbers()),
        *_carried(document),
        f"<script>{script}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(pieces)


def _template(name: str) -> str:
    return resources.files("reports.render").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _policy(script: str) -> str:
    # The policy names the one script by its hash: any other script on the page does not run.
    sha = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{sha}'; base-uri 'none'"


def _words(text: str) -> str:
    return escape(printable(text))


class _Numbers:
    """A counter of the figures and tables of a page."""

    def __init__(self) -> None:
        self._figures, self._tables = count(1), count(1)

    def figure(self) -> str:
        """Return a name for the next figure."""
        return f"f{next(self._figures)}"

    def table(self) -> str:
        """Return a name for the next table."""
        return f"t{next(self._tables)}"


def _navigation(document: Document) -> str:
    titles = [*_titled(document.sections, "s"), ("appendix", "Appendix")]
    links = "\n".join(f'<li><a href="#{name}">{_words(title)}</a></li>' for name, title in titles)
    return (
        f'<nav aria-label="Contents">\n<details>\n<summary>Contents</summary>\n<ol>\n{links}\n</ol>\n</details>\n</nav>'
    )


def _titled(sections: Iterable[Section], letter: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{letter}{number}", section.title) for number, section in enumerate(sections, start=1))


def _main(document: Document, numbers: _Numbers) -> Iterator[str]:
    yield '<main id="content">\n<section class="summary" aria-labelledby="summary">\n<h2 id="summary">Summary</h2>'
    yield from (_block(block, numbers) for block in document.summary)
    yield "</section>"
    for (name, _), section in zip(_titled(document.sections, "s"), document.sections, strict=True):
        yield from _section(section, name, "h2", numbers)
    yield '<section aria-labelledby="appendix">\n<h2 id="appendix">Appendix</h2>'
    for (name, _), section in zip(_titled(document.appendix, "a"), document.appendix, strict=True):
        yield from _section(section, name, "h3", numbers)
    yield "</section>\n</main>"


def _section(section: Section, name: str, heading: str, numbers: _Numbers) -> Iterator[str]:
    yield f'<section aria-labelledby="{name}">\n<{heading} id="{name}">{_words(section.title)}</{heading}>'
    yield from (_block(block, numbers) for block in section.blocks)
    yield "</section>"


def _carried(document: Document) -> Iterator[str]:
    """Yield the files that the document carries: data that a browser does not run, with a button to save each."""
    yield "<footer>"
    for attachment in document.attachments:
        name = escape(attachment.name)
        data = f'data-source="{name}" data-type="{escape(attachment.media_type)}" data-name="{name}"'
        button = f'<button type="button" class="save" hidden {data}>Save {name}</button>'
        yield f"<p>{button} {_words(attachment.description)}</p>"
    yield "</footer>"
    yield from map(_as_data, document.attachments)


def _as_data(carried: Attachment) -> str:
    # Within a script element nothing but its end tag and the start of a comment has a meaning.
    content = carried.content.replace("<", "\\u003c") if carried.media_type == "application/json" else carried.content
    content = content if "</" not in content and "<!--" not in content else escape(content)
    return f'<script type="{escape(carried.media_type)}" id="{escape(carried.name)}">{content}</script>'


@singledispatch
def _block(block: Block, numbers: _Numbers) -> str:
    raise TypeError(f"no way to set a {type(block).__name__}")


@_block.register
def _paragraph(block: Paragraph, numbers: _Numbers) -> str:
    lead = f"<strong>{_words(block.lead)}.</strong> " if block.lead else ""
    role = {"text": "", "caveat": ' class="caveat" role="note"', "alarm": ' class="alarm" role="note"'}[block.role]
    return f"<p{role}>{lead}{_words(block.text)}</p>"


@_block.register
def _facts(block: Facts, numbers: _Numbers) -> str:
    items = "\n".join(f"<dt>{_words(name)}</dt><dd>{_words(value)}</dd>" for name, value in block.items)
    return f"<dl>\n{items}\n</dl>"


@_block.register
def _items(block: Items, numbers: _Numbers) -> str:
    items = "\n".join(f"<li>{_words(item)}</li>" for item in block.items)
    return f"<ul>\n{items}\n</ul>"


@_block.register
def _figure(block: Figure, numbers: _Numbers) -> str:
    name = numbers.figure()
    caption = f"<strong>{_words(block.title)}.</strong> {_words(block.caption)}"
    pieces = (inline_svg(block, name), f"<figcaption>{caption}</figcaption>", _data(block))
    return '<figure class="picture">\n' + "\n".join(pieces) + "\n</figure>"


def _data(figure: Figure) -> str:
    """Return the data behind a figure: a table that can be unfolded, and all rows as CSV to be saved."""
    # A page with all rows of a long training would be slow to open; the file to save has them.
    visible_rows = figure.data.head(_MOST_DATA)
    heads = "".join(f'<th scope="col">{_words(str(name))}</th>' for name in visible_rows.columns)
    rows = "\n".join(f"<tr>{''.join(map(_datum, row))}</tr>" for row in visible_rows.itertuples(index=False, name=None))
    hidden_rows = len(figure.data) - len(visible_rows)
    remainder = f"<p>{hidden_rows:,} further rows are in the file.</p>" if hidden_rows else ""
    # The link holds the file itself, so that the page needs no other.
    link = f"data:text/csv;charset=utf-8,{quote(data_csv(figure), errors='replace')}"
    title = _words(f"Data behind the figure “{figure.title}”")
    return (
        f'<details class="data">\n<summary>Data behind this figure</summary>\n'
        f'<p><a download="{escape(figure.name)}.csv" href="{link}">Save as CSV</a></p>\n'
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">\n<table>\n'
        f'<caption class="hidden">{title}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f"</table>\n</div>\n{remainder}</details>"
    )


def _datum(value: object) -> str:
    if isinstance(value, float | int):
        is_finite = math.isfinite(value)
        return f'<td class="n" data-value="{value!r}">{value:.6g}</td>' if is_finite else '<td class="n missing">—</td>'
    return f"<td>{_words(str(value))}</td>"


@_block.register
def _table(block: Table, numbers: _Numbers) -> str:
    name = numbers.table()
    tall = " tall" if is_long(block) else ""
    return "\n".join(
        [
            f'<figure class="table">\n<figcaption id="{name}"><strong>{_words(block.title)}.</strong> '
            f"{_words(block.caption)}</figcaption>",
            f'<div class="scroll{tall}" role="region" aria-labelledby="{name}" tabindex="0">\n'
            f'<table aria-describedby="{name}">\n<caption class="hidden">{_words(block.title)}</caption>',
            f"<thead>\n{_header(block)}\n</thead>\n<tbody>",
            *_rows(block),
            "</tbody>\n</table>\n</div>",
            *(_note(note) for note in block.notes),
            "</figure>",
        ]
    )


def _header(table: Table) -> str:
    groups = spans(table)
    cells = (
        f'<th scope="colgroup" class="span" colspan="{span.end - span.start}"><span>{_words(span.text)}</span></th>'
        if span.text
        else f'<td class="gap" colspan="{span.end - span.start}"></td>'
        for span in groups
    )
    group_row = f"<tr>{''.join(cells)}</tr>\n" if groups else ""
    heading_cells = (
        f'<th scope="col"{_class(_CLASSES[column.kind].replace("c", ""))}>{_words(column.heading)}</th>'
        for column in table.columns
    )
    return f"{group_row}<tr>{''.join(heading_cells)}</tr>"


def _class(*names: str) -> str:
    class_names = " ".join(name for name in names if name)
    return f' class="{class_names}"' if class_names else ""


def _rows(table: Table) -> Iterator[str]:
    wraps = wrapping(table)
    above = [""] * len(table.columns)
    for index, (cells, row) in enumerate(zip(table.rows, set_rows(table), strict=True)):
        cells_html = []
        for position, (cell, set_cell) in enumerate(zip(cells, row, strict=True)):
            # Hidden while the rows stand in groups, and shown once a reader sorts the table.
            is_same = _is_left_out(table, cell, position) and bool(above[position])
            content = above[position] if is_same else _told(set_cell)
            above[position] = content
            names = _names(table.columns[position], set_cell, wraps[position] and position > 0, is_same)
            value = _value(cell)
            tag, scope = ("th", ' scope="row"') if position == 0 else ("td", "")
            cell_html = f"<span>{content}</span>" if is_same else content
            cells_html.append(f"<{tag}{scope}{names}{value}>{cell_html}</{tag}>")
        yield f"<tr{_class('rule' if index in table.rules else '')}>{''.join(cells_html)}</tr>"


def _is_left_out(table: Table, cell: Cell, place: int) -> bool:
    """Return True if a cell is empty because it repeats the one above: a row's label, or a word of a group of rows."""
    listed = table.columns[place].kind in ("text", "code") and (place == 0 or bool(table.rules))
    return listed and isinstance(cell, Text) and not cell.text


def _names(column: Column, told: SetCell, wraps: bool, is_same: bool) -> str:
    missing = "missing" if told.missing else ""
    return _class(_CLASSES[column.kind], "wraps" if wraps else "", missing, told.tone, "again" if is_same else "")


def _value(cell: Cell) -> str:
    return f' data-value="{cell.value!r}"' if isinstance(cell, Number | Interval) and math.isfinite(cell.value) else ""


def _told(cell: SetCell) -> str:
    text = "".join((f"<i>{escape(piece.pad)}</i>" if piece.pad else "") + escape(piece.text) for piece in cell.visible)
    marks = f"<sup>{_words(','.join(cell.marks))}</sup>" if cell.marks else ""
    return text + marks + (f"<i>{escape(cell.filler)}</i>" if cell.filler else "")


def _note(note: Note) -> str:
    mark = f"<sup>{_words(note.mark)}</sup> " if note.mark else ""
    return f'<p class="note">{mark}{_words(note.text)}</p>'


_COLOURS = {
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
    "#dddddd": "var(--grid)",
    "#0072b2": "var(--c0)",
    "#d55e00": "var(--c1)",
    "#009e73": "var(--c2)",
    "#cc79a7": "var(--c3)",
    "#56b4e9": "var(--c4)",
    "#e69f00": "var(--c5)",
    "#8c6d1f": "var(--c7)",
}
"""Colours of `reports.figures.drawing` as variables of the page, which has other values in its dark mode."""

_PROLOG = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_METADATA = re.compile(r"<(metadata|style)\b.*?</\1>", re.DOTALL)
_SIZE = re.compile(r' (?:width|height)="[^"]*pt"')
_REFERENCE = re.compile(r'( id="|href="#|url\(#)')
_COLOUR = re.compile(r"(?<=[:\s])#[0-9a-f]{6}(?=[;\"])")
_UNUSED = re.compile(r' id="image[0-9a-f]+"')
"""Names of pictures, which are those of their content: two that are the same would share one."""
_BLANK = re.compile(r"\n\s*")


def inline_svg(figure: Figure, prefix: str) -> str:
    """Return a figure as an `svg` element; `prefix` keeps its names apart from those of others on the page."""
    text = _PROLOG.sub("", draw(figure, "svg").decode("utf-8"))
    head, bracket, tail = _METADATA.sub("", _COMMENT.sub("", _UNUSED.sub("", text))).partition(">")
    # Without a size of its own the drawing takes the width of the page.
    head = _SIZE.sub("", head).replace("<svg ", f'<svg role="img" aria-label="{escape(printable(figure.alt))}" ', 1)
    body = _COLOUR.sub(lambda match: _COLOURS.get(match.group(), match.group()), tail)
    return head + bracket + _BLANK.sub("\n", _REFERENCE.sub(rf"\g<1>{prefix}-", body)).strip()
