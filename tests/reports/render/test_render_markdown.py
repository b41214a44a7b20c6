"""Markdown, read back with a CommonMark parser: what was meant literally is what is seen."""

from __future__ import annotations

import html
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports.content.blocks import Document
from reports.content.formatting import printable
from reports.render.markdown import escape, escape_line, render_markdown
from tests.reports.made_up import HOSTILE, hostile_document

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
NASTY = st.text(st.sampled_from(list("\\`*_{}[]()#+-.!|<>&$~\"'=: 1a\n\té😀")), max_size=30) | st.text(max_size=30)


def _seen(markdown: str) -> str:
    """The text of the rendered page, its tags removed."""
    return html.unescape(re.sub(r"<[^>]*>", "", PARSER.render(markdown)))


@given(NASTY)
def test_escaped_text_is_seen_as_it_was(text: str) -> None:
    assert _seen(escape_line(text)).strip() == printable(text).strip()


@given(NASTY)
def test_escaped_text_is_one_paragraph_and_one_cell(text: str) -> None:
    tokens = {token.type for token in PARSER.parse(escape_line(text))}
    assert tokens <= {"paragraph_open", "inline", "paragraph_close"}
    row = PARSER.render(f"| a | b |\n|---|---|\n| {escape(text)} | end |")
    assert row.count("<td>") == 2
    assert "<td>end</td>" in row


def test_report(document: Document, out: Path) -> None:
    path = render_markdown(document, out, "report")
    text = path.read_text("utf-8")
    assert "| static | 82.00 ± 2.65 | 3 | −2.00 \\[−4.48, +0.48\\] | 0.22 | 65.4 | −4.0 |" in text
    assert "| 69.4<sup>B</sup> |" in text
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (out / link).read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"!\[", text)) == len(document.figures)


def test_hostile_names_are_literal(out: Path) -> None:
    path = render_markdown(hostile_document(), out, HOSTILE)
    assert path.parent == out
    page = PARSER.render(path.read_text("utf-8"))
    assert "<script" not in page
    assert page.count("<table>") == 2
    assert _seen(path.read_text("utf-8")).count(HOSTILE) >= 30
