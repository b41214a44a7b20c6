"""A report in brief: page 1 as it is and the main tables with their verdicts on page 2, whatever there is to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from reports import make_report
from reports.content.blocks import Block, Document, Paragraph, Table
from reports.content.maker import Maker
from reports.document.brief import brief_of
from reports.render.html import html_text
from reports.render.typst import compile_pdf
from reports.verify import verify
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import TEMPERATURE, Store, document_of, fill, plan_of

TALL = '<svg xmlns="http://www.w3.org/2000/svg" width="453" height="430"><rect width="453" height="430"/></svg>'
"""As tall as the figure of page 1 gets."""


def told(preset: str, *studies: str) -> Document:
    """Return the report on studies with made-up results."""
    plan = whole_plan(preset, *studies)
    return document_of(plan, made_up_results(plan))


def pages_of(document: Document) -> list[str]:
    pdf = compile_pdf(document, {figure.name: TALL for figure in document.figures})
    return [page.extract_text() for page in PdfReader(BytesIO(pdf)).pages]


def tables_of(document: Document) -> list[Table]:
    return [block for section in document.sections for block in section.blocks if isinstance(block, Table)]


@pytest.fixture(scope="module")
def whole() -> Document:
    return told("smoke")


def test_all_studies_take_two_pages(whole: Document) -> None:
    brief = brief_of(whole)
    assert len(pages_of(brief)) == 2
    overview, first, *_ = tables_of(brief)
    assert (overview.title, first.title) == ("Verdicts", "Kernel aggregation")
    ranks = [cell.text for row in overview.rows for cell in row if getattr(cell, "text", "") == "exploratory"]
    assert ranks == []
    assert brief.summary == whole.summary


def test_the_tables_of_few_studies_are_all_there() -> None:
    brief = brief_of(told("smoke", "temperature", "condconv"))
    titles = [table.title for table in tables_of(brief)]
    assert titles == [
        "Softmax temperature",
        "Softmax temperature: claims",
        "Against CondConv",
        "Against CondConv: claims",
    ]
    assert len(pages_of(brief)) == 2


@pytest.mark.parametrize(("preset", "study"), [("smoke", "cost"), ("small", "resolution")])
def test_a_single_study_takes_two_pages(preset: str, study: str) -> None:
    document = told(preset, study)
    assert len(pages_of(brief_of(document))) == 2


def test_much_to_be_said_on_page_1_is_made_smaller(whole: Document) -> None:
    caution = Paragraph("Much is to be said of these runs, and none of it is short. " * 9, "Caution", "caveat")
    summary: tuple[Block, ...] = (*whole.summary, *[caution] * 12)
    pages = pages_of(brief_of(replace(whole, summary=summary)))
    assert len(pages) == 2
    assert pages[0].count("Caution") >= 12


def test_a_study_of_many_rows_says_what_it_leaves_out() -> None:
    document = told("paper", "kernels")
    brief = brief_of(document)
    assert len(pages_of(brief)) == 2
    table = max(tables_of(document), key=lambda table: len(table.rows))
    longer = replace(table, rows=table.rows * 4)
    section = replace(document.sections[0], blocks=(longer,))
    (cut,) = tables_of(brief_of(replace(document, sections=(section,))))
    assert len(cut.rows) < len(longer.rows)
    assert f"{len(longer.rows) - len(cut.rows)} further rows are in the whole report." in cut.notes[-1].text


def test_a_page_of_html_is_short_too() -> None:
    document = told("smoke", "condconv")
    page = html_text(brief_of(document))
    assert "in brief" in page
    assert not [section.title for section in document.appendix if f">{section.title}<" in page]


def test_a_brief_carries_its_manifest_and_verifies(
    make_store: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.verify.available_studies", tuple)
    store, plan = make_store(), plan_of(TEMPERATURE)
    fill(store, plan)
    maker = Maker("0" * 40)
    (file,) = make_report(plan, store.uri, ("html",), tmp_path, maker=maker, brief=True).values()
    assert file.stem.endswith("-brief")
    checked = verify(file, store.uri, maker)
    assert (checked.differences, checked.notes) == ((), ())
    assert checked.numbers > 50
