"""The PDF: its text is what the tables say, names are literal, and the same document gives the same bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pypdf import PdfReader

from ablations.errors import OutputError
from reports.content.blocks import Column, Document, Paragraph, Section, Table, Text
from reports.content.formatting import set_rows
from reports.render.typst import render_pdf
from tests.reports.made_up import HOSTILE, hostile_document


def _text(path: Path) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def _squeezed(text: str) -> str:
    return "".join(text.split())


def test_every_cell_is_in_the_text(document: Document, out: Path) -> None:
    text = _squeezed(_text(render_pdf(document, out, "report")))
    tables = [b for s in (*document.sections, *document.appendix) for b in s.blocks if isinstance(b, Table)]
    missing = [c.text for table in tables for row in set_rows(table) for c in row if _squeezed(c.text) not in text]
    assert missing == []


def test_same_document_same_bytes(document: Document, out: Path) -> None:
    one, other = (render_pdf(document, out / name, "report").read_bytes() for name in ("one", "other"))
    assert one == other
    metadata = PdfReader(out / "one" / "report.pdf").metadata
    assert metadata is not None
    assert metadata.creation_date == datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC)


def test_figures_lie_beside(document: Document, out: Path) -> None:
    render_pdf(document, out, "report")
    assert sorted(path.name for path in (out / "figures").iterdir()) == sorted(
        f"report-{figure.name}.svg" for figure in document.figures
    )
    assert not list(out.rglob("*.tmp"))


def test_hostile_names_are_literal(out: Path) -> None:
    path = render_pdf(hostile_document(), out, HOSTILE)
    assert path.parent == out
    text = _squeezed(_text(path))
    # Title, subtitle, two facts, and in each of two sections: heading, 2 in a paragraph, caveat, item, 2 in captions
    # of table and figure each, 2 headings and 2 cells and 1 reason and 1 note and a group.
    assert text.count(_squeezed(HOSTILE)) >= 2 + 2 + 2 * 15


@pytest.mark.parametrize("name", ["🚀", "漢", "✓ – × τ → ² − ± Δ “”"])
def test_signs_do_not_disappear(out: Path, name: str) -> None:
    document = replace(hostile_document(), title=name, sections=(), appendix=())
    path = render_pdf(document, out, "signs")
    assert name in _text(path)


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler to see where words stand")
def test_a_wide_table_stays_on_the_page(out: Path) -> None:
    columns = tuple(Column(f"column {i}", "interval", f"group {i}") for i in range(14))
    table = Table("Wide", "Caption.", columns, (tuple(Text("reference") for _ in columns),) * 3)
    document = replace(hostile_document(), sections=(Section("Wide", (table,)),), appendix=())
    path = render_pdf(document, out, "wide")
    words = subprocess.run(["pdftotext", "-bbox", path, "-"], capture_output=True, errors="replace", check=True).stdout
    right = max(float(place) for place in re.findall(r'<word[^>]* xMax="([0-9.]+)"', words))
    assert 500 < right < 595.3 - 2.1 / 2.54 * 72 + 1


def test_a_word_that_is_broken_adds_no_character_to_what_is_copied(out: Path) -> None:
    # The 24th character, the first 9, stands before the place to break: a letter is copied alike in the whole file.
    words = ("012345678abcdef01234567912345678", "6457a31e6f91")
    table = Table("Runs", "", (Column("fingerprint", "code"),), tuple((Text(word),) for word in words))
    document = replace(hostile_document(), sections=(Section("Section", (table,)),), appendix=())
    text = _text(render_pdf(document, out, "report"))
    assert "\u200b" not in text
    assert all(word in text.replace("\n", "") for word in words)


@pytest.mark.parametrize("lines", range(30, 60, 3))
def test_the_caption_of_a_long_table_stays_with_its_first_row(out: Path, lines: int) -> None:
    rows = tuple((Text(f"row{number}"),) for number in range(80))
    table = Table("Long", "The caption.", (Column("name"),), rows)
    before = tuple(Paragraph(f"Line {number}.") for number in range(lines))
    document = replace(hostile_document(), sections=(Section("Section", (*before, table)),), appendix=())
    pages = [page.extract_text() for page in PdfReader(render_pdf(document, out, "report")).pages]
    caption = next(number for number, text in enumerate(pages) if "The caption." in text)
    assert "row0\n" in pages[caption]


def test_what_typst_refuses_is_explained(document: Document, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.render.typst.as_json", lambda *_: {"title": 1})
    with pytest.raises(OutputError, match="Typst could not set the report"):
        render_pdf(document, out, "report")
