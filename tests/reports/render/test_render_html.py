"""The page, read back as HTML without a browser: well formed, labelled, self-contained, names as they were written."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.content.blocks import Attachment, Block, Column, Document, Figure, Missing, Number, Section, Table, Text
from reports.content.formatting import printable, set_rows
from reports.evidence.manifest import NAME
from reports.evidence.report_file import carried
from reports.render.html import html_text, render_html
from tests.reports.made_up import HOSTILE, hostile_document

VOID = {"meta", "link", "br", "img", "input", "hr"}
NASTY = st.text(st.sampled_from(list("<>&\"'/!-=`;#x script\n\té😀")), max_size=30) | st.text(max_size=30)


class Page(HTMLParser):
    """A page's elements in order, each with its attributes and its text; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words: list[str] = []
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} twice"
        self.elements.append((tag, dict(attrs), words))
        if tag not in VOID:
            self._open.append((tag, words))

    def handle_endtag(self, tag: str) -> None:
        opened, words = self._open.pop()
        assert opened == tag
        if self._open and tag != "i":
            self._open[-1][1].extend(words)

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1][1].append(data)

    def all(self, *tags: str) -> list[tuple[dict[str, str | None], str]]:
        """The elements of some tags, each with its attributes and its words."""
        return [(attrs, "".join(words)) for tag, attrs, words in self.elements if tag in tags]


@pytest.fixture(scope="module")
def text(document: Document) -> str:
    """The page on both made-up studies."""
    return html_text(document)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    """That page, read."""
    return Page(text)


def test_every_cell_and_caption_is_on_the_page(document: Document, page: Page) -> None:
    cells = [words for _, words in page.all("td", "th")]
    captions = [words for _, words in page.all("figcaption")]
    for section in (*document.sections, *document.appendix):
        for block in section.blocks:
            if isinstance(block, Table | Figure):
                assert f"{block.title}. {block.caption}" in captions
            if isinstance(block, Table):
                told = {cell.text + ",".join(cell.marks) for row in set_rows(block) for cell in row}
                assert told - {""} <= set(cells)


def test_headings_are_in_order(document: Document, page: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    titles = [words for _, words in page.all("h2", "h3")]
    sections = [section.title for section in (*document.sections, *document.appendix)]
    assert [title for title in titles if title not in ("Summary", "Appendix")] == sections


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    assert page.all("html")[0][0]["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    ids = [str(attrs["id"]) for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in page.elements:
        named = [attrs.get("aria-labelledby"), attrs.get("aria-describedby")]
        linked = str(attrs.get("href") or "")
        assert {*filter(None, named), *([linked[1:]] if linked.startswith("#") else [])} <= set(ids)
    assert all(attrs.get("scope") in ("col", "row", "colgroup") for attrs, _ in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(words.strip() for _, words in page.all("caption"))
    regions = [attrs for attrs, _ in page.all("div") if attrs.get("class", "") and "scroll" in str(attrs["class"])]
    assert all(attrs["role"] == "region" and attrs["tabindex"] == "0" for attrs in regions)


def test_figures_have_a_text_and_the_data_behind_them(document: Document, page: Page) -> None:
    drawings = [attrs for attrs, _ in page.all("svg")]
    assert [attrs["aria-label"] for attrs in drawings] == [figure.alt for figure in document.figures]
    assert all(attrs["role"] == "img" and "viewbox" in attrs for attrs in drawings)
    saved = {attrs["download"]: str(attrs["href"]) for attrs, _ in page.all("a") if "download" in attrs}
    for figure in document.figures:
        content = unquote(saved[f"{figure.name}.csv"].partition(",")[2])
        rows = list(csv.reader(io.StringIO(content)))
        assert rows[0] == list(figure.data.columns)
        assert len(rows) == len(figure.data) + 1


def test_nothing_is_asked_from_elsewhere(text: str, page: Page) -> None:
    for _, attrs, _ in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            assert str(attrs.get(name) or "#").startswith(("#", "data:"))
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text
    policy = next(attrs["content"] for attrs, _ in page.all("meta") if attrs.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'")


def test_numbers_are_sorted_by_their_value_and_missing_ones_have_none() -> None:
    columns = (Column("name"), Column("value", "number"), Column("why"))
    rows = ((Text("a"), Number(-1.25, 1), Text("x")), (Text("b"), Missing("failed"), Text("y")))
    table = Table("Title", "Caption", columns, rows)
    document = Document("T", "S", "H", 0, (), (Section("Section", (table,)),), ())
    cells = {words: attrs for attrs, words in Page(html_text(document)).all("td", "th")}
    assert cells["−1.2"]["data-value"] == "-1.25"
    assert cells["— failed"]["class"] == "n missing"
    assert "data-value" not in cells["— failed"]


def test_what_is_said_once_per_group_is_there_in_every_row() -> None:
    columns = (Column("group"), Column("row"), Column("word"))
    rows = tuple(tuple(map(Text, row)) for row in (("g", "r", "w"), ("", "s", ""), ("h", "", "v")))
    table = Table("Title", "Caption", columns, rows, rules=(2,))
    document = Document("T", "S", "H", 0, (), (Section("Section", (table,)),), ())
    again = [words for attrs, words in Page(html_text(document)).all("td", "th") if attrs.get("class") == "again"]
    assert again == ["g", "w", "s"]


def test_hostile_names_are_literal(out: Path) -> None:
    path = render_html(hostile_document(), out, HOSTILE)
    assert path.parent == out
    page = Page(path.read_text("utf-8"))
    seen = "\n".join(words for _, words in page.all("h1", "h2", "h3", "p", "td", "th", "li", "dt", "dd", "figcaption"))
    assert seen.count(printable(HOSTILE)) >= 30
    # The page's own script, and nothing that a name has brought.
    assert len(page.all("script")) == 1
    assert page.all("img", "b") == []
    assert all(not name.startswith("on") for _, attrs, _ in page.elements for name in attrs)


@given(NASTY)
def test_any_name_is_seen_as_it_was(name: str) -> None:
    table = Table(name, name, (Column(name, "number", name),), ((Text(name),),))
    page = Page(html_text(Document(name, name, name, 0, (), (Section(name, (table,)),), ())))
    assert page.all("h1")[0][1] == printable(name)
    assert page.all("caption")[0][1] == printable(name)
    assert [words for attrs, words in page.all("th") if attrs["scope"] == "row"] == [printable(name)]
    assert len(page.all("script")) == 1


@given(NASTY)
def test_a_manifest_is_read_back_whatever_it_holds(name: str) -> None:
    content = json.dumps({"name": f"</script>{name}<!--<script>"})
    document = Document("T", "S", "H", 0, (), (), (), (Attachment(NAME, "application/json", name, content),))
    found = carried(html_text(document).encode("utf-8", "replace"))
    assert json.loads(found.manifest) == json.loads(content)


def test_no_template_turns_escaping_off() -> None:
    folder = resources.files("reports.render").joinpath("templates")
    pages = [path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".html")]
    assert pages
    assert [page for page in pages if re.search(r"\bsafe\b|autoescape", page)] == []


def test_every_kind_of_block_has_a_template() -> None:
    folder = resources.files("reports.render").joinpath("templates")
    assert [kind for kind in get_args(Block) if not folder.joinpath(f"{kind.__name__.lower()}.html").is_file()] == []


def test_same_document_same_bytes(document: Document, out: Path) -> None:
    one, other = (render_html(document, out / name, "report").read_bytes() for name in ("one", "other"))
    assert one == other
