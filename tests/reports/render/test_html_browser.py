"""The page in headless Chromium: what a reader with a mouse, a keyboard, a telephone or a printer gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.analysis.summary import summarize
from reports.content.blocks import Document
from reports.content.maker import Maker
from reports.evidence.manifest import made_by, manifest, with_manifest
from reports.render.html import render_html
from tests.reports.browser import chromium, patient_page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(plan: Any, results: Any, document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up report."""
    content = manifest(plan, results, summarize(plan, results), document, made_by(Maker()))
    carrying = with_manifest(document, content, plan, results)
    return render_html(carrying, tmp_path_factory.mktemp("page"), "report")


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What the browser complained about, and what it asked for beside the page."""
    return []


@pytest.fixture(scope="module")
def page(browser: Any, file: Path, told: list[str]) -> Any:
    """The page, open."""
    found = patient_page(browser, viewport={"width": 1000, "height": 800})
    found.on("console", lambda message: told.append(f"console: {message.text}"))
    found.on("pageerror", lambda error: told.append(f"error: {error}"))
    found.on("request", lambda asked: told.append(f"request: {asked.url}"))
    found.goto(file.as_uri())
    return found


def _table(page: Any, title: str) -> Any:
    return page.locator("table", has=page.locator("caption", has_text=title)).first


def _column(table: Any, place: int) -> list[str]:
    script = "(rows, place) => rows.map(row => row.cells[place].innerText.trim())"
    return list(table.locator("tbody tr").evaluate_all(script, place))


def test_a_click_on_a_heading_sorts_by_value_and_missing_ones_stay_last(page: Any) -> None:
    table = _table(page, "Softmax temperature")
    names, heading = _column(table, 0), table.locator("thead tr >> nth=-1").locator("th").nth(1)
    assert names == ["static", "τ = 20", "τ = 30"]
    assert heading.get_attribute("aria-sort") == "none"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert _column(table, 1) == ["82.00 ± 2.65", "84.00 ± 2.00", "— n = 2/3"]
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert _column(table, 0) == ["τ = 30", "static", "τ = 20"]
    heading.get_by_role("button").click()
    assert _column(table, 0) == names


def test_the_keyboard_sorts_too(page: Any) -> None:
    table = _table(page, "Kernel aggregation")
    first = table.locator("thead tr >> nth=-1").locator("th").first
    first.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert first.get_attribute("aria-sort") == "ascending"
    assert _column(table, 0) == sorted(_column(table, 0))
    page.keyboard.press("Space")
    assert first.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")


def test_the_manifest_can_be_saved(page: Any, tmp_path: Path) -> None:
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save manifest.json").click()
    saving.value.save_as(tmp_path / "manifest.json")
    assert '"sha256"' in (tmp_path / "manifest.json").read_text()
    assert saving.value.suggested_filename == "manifest.json"


def test_the_data_of_a_figure_unfolds(page: Any) -> None:
    data = page.locator("details.data").first
    assert not data.locator("table").is_visible()
    data.locator("summary").click()
    assert data.locator("table").is_visible()


def test_it_prints(page: Any) -> None:
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator(".scroll >> nth=0").evaluate("box => getComputedStyle(box).overflowX") == "visible"
    page.emulate_media(media="screen")


def test_neither_errors_nor_requests(file: Path, told: list[str], page: Any) -> None:
    page.wait_for_load_state()
    asked = [line for line in told if "blob:" not in line]
    assert asked == [f"request: {file.as_uri()}"]


def test_a_telephone_scrolls_tables_and_not_the_page(browser: Any, file: Path) -> None:
    found = patient_page(browser, viewport={"width": 375, "height": 812})
    found.goto(file.as_uri())
    assert found.evaluate("document.documentElement.scrollWidth") == 375
    wide = found.locator(".scroll >> nth=0")
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")
    wide.evaluate("box => { box.scrollLeft = 150 }")
    label, box = (found.locator(f"{place} >> nth=0").bounding_box() for place in (".scroll tbody th", ".scroll"))
    assert abs(label["x"] - box["x"]) < 2
    found.close()


def _heading_top(page: Any, link: Any) -> float:
    return float(page.locator(f"[id='{link.get_attribute('href').removeprefix('#')}']").bounding_box()["y"])


def test_the_contents_stand_beside_a_wide_page_and_say_where_the_reader_is(browser: Any, file: Path) -> None:
    found = patient_page(browser, viewport={"width": 1680, "height": 900})
    found.goto(file.as_uri())
    links = found.locator("nav a")
    contents, report = found.locator("nav").bounding_box(), found.locator("main").bounding_box()
    assert contents["x"] + contents["width"] <= report["x"]
    last = links.filter(has_text="Configuration")
    last.click()
    found.wait_for_function("document.querySelector('nav [aria-current]').innerText === 'Configuration'")
    # They stay in sight however far the page was scrolled.
    assert found.evaluate("scrollY") > 900
    assert last.is_visible()
    assert 0 <= last.bounding_box()["y"] < 900
    assert 0 <= _heading_top(found, last) < 300
    found.close()


def test_the_contents_unfold_on_a_telephone_and_give_way_to_what_is_chosen(browser: Any, file: Path) -> None:
    found = patient_page(browser, viewport={"width": 390, "height": 844})
    found.goto(file.as_uri())
    link = found.locator("nav a").filter(has_text="Softmax temperature")
    assert not link.is_visible()
    found.locator("nav summary").click()
    assert link.is_visible()
    link.click()
    assert not link.is_visible()
    bar = found.locator("nav").bounding_box()
    # The heading is not under the bar.
    assert bar["y"] == 0
    assert bar["height"] <= _heading_top(found, link) < 300
    found.locator("nav summary").click()
    found.keyboard.press("Escape")
    assert not link.is_visible()
    found.close()


def test_tables_fit_a_window_of_common_width(browser: Any, file: Path) -> None:
    wide = patient_page(browser, viewport={"width": 1200, "height": 800})
    wide.goto(file.as_uri())
    boxes = wide.locator("figure.table .scroll")
    assert boxes.evaluate_all("boxes => boxes.map(box => box.scrollWidth - box.clientWidth)") == [0] * boxes.count()
    wide.close()


def test_dark_pages_are_legible(browser: Any, file: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    found = patient_page(context)
    found.goto(file.as_uri())
    script = "name => getComputedStyle(document.querySelector(name))"
    assert _light(found.evaluate(f"({script})('body').backgroundColor")) < 0.15
    assert _light(found.evaluate(f"({script})('td').color")) > 0.7
    assert _light(found.evaluate(f"({script})('.picture svg').fill")) > 0.7
    context.close()


def _light(colour: str) -> float:
    numbers = [float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(numbers) / 3 / 255
