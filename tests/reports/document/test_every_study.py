"""Every registered study, at the presets that a visitor runs: it is told completely, and nothing runs off the page."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from markupsafe import Markup
from pypdf import PdfReader, PdfWriter

from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.registry import available_studies
from ablations.study import Scale
from reports.content.blocks import Document, Figure, Paragraph, Table
from reports.content.formatting import set_rows
from reports.document.prose import scale_words
from reports.figures.drawing import draw
from reports.render import html
from reports.render.latex.document import latex_text, render_latex
from reports.render.latex.tables import PACKAGES
from reports.render.markdown import markdown_text
from reports.render.typst import compile_pdf
from tests.reports.browser import chromium, patient_page
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import TEMPERATURE, document_of, plan_of

STAND_IN = '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}"><rect width="{0}" height="{1}"/></svg>'
MOST_PAGES = 23
"""Of all studies together, before the appendix."""
FOOT = 842 - 1.9 / 2.54 * 72
"""Where the text of a page ends and its number stands."""
RIGHT_EDGE = 595.3 - 2.1 / 2.54 * 72
MARK = 10
"""Points by which a mark may hang over the edge."""


@pytest.fixture(scope="module")
def whole() -> Plan:
    return whole_plan("quick")


@pytest.fixture(scope="module")
def told(whole: Plan) -> Document:
    return document_of(whole, made_up_results(whole))


@pytest.fixture(scope="module")
def pdf(told: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pdf") / "report.pdf"
    # About as large as the drawings are, which would take longer than all else.
    drawings = {figure.name: STAND_IN.format(*((220, 165) if figure.half else (453, 180))) for figure in told.figures}
    path.write_bytes(compile_pdf(told, drawings))
    return path


@pytest.fixture(scope="module")
def pages(pdf: Path) -> list[str]:
    """The text of each page; reading it takes as long as setting it."""
    return [page.extract_text() for page in PdfReader(pdf).pages]


def _tables(document: Document) -> list[Table]:
    return [b for s in (*document.sections, *document.appendix) for b in s.blocks if isinstance(b, Table)]


def test_every_study_has_its_section(told: Document, whole: Plan) -> None:
    assert [section.title for section in told.sections] == ["Verdicts", *(study.title for study in whole.studies)]
    assert len(told.figures) == len({figure.name for figure in told.figures})
    claims = sum(len(study.claims) * len(study.inspected) for study in whole.studies)
    overview = told.sections[0].blocks[0]
    assert isinstance(overview, Table)
    assert len(overview.rows) == claims


def test_every_cell_is_in_the_pdf(told: Document, pages: list[str]) -> None:
    text = "".join("".join(pages).split())
    cells = {cell.text for table in _tables(told) for row in set_rows(table) for cell in row}
    assert [cell for cell in cells if "".join(cell.split()) not in text] == []


def test_the_report_stays_readable_in_length(told: Document, pages: list[str]) -> None:
    # What is read ends where the appendix begins; that lists every run, so it grows with the seeds.
    heading = told.appendix[0].title
    starts = [
        number
        for number, text in enumerate(pages)
        if number > 0 and any(line.strip().endswith(heading) for line in text.splitlines())
    ]
    assert 15 < starts[0] <= MOST_PAGES
    assert len(pages) <= 52


def test_every_figure_stands_in_its_section(told: Document, pages: list[str]) -> None:
    text = "\n".join(pages)
    headings = [text.index(f"\n{number} {section.title}\n") for number, section in enumerate(told.sections, start=1)]
    headings.append(text.index(f"\nA {told.appendix[0].title}\n"))
    figures = [len([block for block in section.blocks if isinstance(block, Figure)]) for section in told.sections]
    # The figure of page 1 has the first number.
    number = 1 + len([block for block in told.summary if isinstance(block, Figure)])
    for begin, end, count in zip(headings, headings[1:], figures, strict=False):
        for figure in range(number, number + count):
            # A caption in half the width may be broken anywhere.
            caption = re.search(rf"Figure\s*{figure}\s*:", text)
            assert caption is not None, figure
            assert begin < caption.start() < end, figure
        number += count
    assert number > 40


@pytest.fixture(scope="module")
def words(pdf: Path) -> str:
    """Where each word stands, page by page."""
    if shutil.which("pdftotext") is None:
        pytest.skip("needs poppler to see where words stand")
    return subprocess.run(["pdftotext", "-bbox", pdf, "-"], capture_output=True, errors="replace", check=True).stdout


def test_no_page_is_half_empty(words: str) -> None:
    lowest = []
    for page in words.split("<page ")[1:]:
        ends = [float(end) for end in re.findall(r'yMax="([0-9.]+)">', page)]
        lowest.append(max(end for end in ends if end < FOOT))
    # The pages of the studies, up to that on which the appendix begins.
    assert min(lowest[:MOST_PAGES]) > 0.6 * FOOT, lowest


def test_nothing_runs_off_the_page(words: str) -> None:
    found = re.findall(r'<word xMin="([0-9.]+)" yMin="[0-9.]+" xMax="([0-9.]+)" yMax="([0-9.]+)">(.*?)</word>', words)
    assert len(found) > 3000
    assert [word for left, right, down, word in found if float(right) > RIGHT_EDGE + MARK or float(down) > 842] == []


@pytest.mark.parametrize("study", available_studies())
def test_each_study_at_smoke_in_every_format(study: str) -> None:
    plan = whole_plan("smoke", study)
    document = document_of(plan, made_up_results(plan))
    figures = {figure.name: Path(f"{figure.name}.png") for figure in document.figures}
    for table in _tables(document):
        assert table.rows, table.title
        assert all(len(row) == len(table.columns) for row in table.rows)
    for text in (latex_text(document, figures), markdown_text(document, figures)):
        assert "nan" not in re.findall(r"\b\w+\b", text.lower())
    for figure in document.figures:
        assert figure.kind in ("curves", "entropy") or draw(figure, "svg")


def test_a_grid_too_large_to_be_drawn_is_said() -> None:
    plan = whole_plan("paper", "kernels")
    document = document_of(plan, made_up_results(plan))
    assert [figure.kind for figure in document.figures] == ["claims", "accuracy", "tradeoff", "grid"]
    assert all(draw(figure, "svg") for figure in document.figures)
    words = [block.text for block in document.sections[0].blocks if isinstance(block, Paragraph)]
    assert any(text.startswith("No figure of the training: 72 variants") for text in words)
    assert any(text.startswith("No figure of the attention entropy: 72 variants") for text in words)


def test_the_columns_of_a_study_fit_what_stands_in_them(whole: Plan, told: Document) -> None:
    tables = {s.title: next(b for b in s.blocks if isinstance(b, Table)) for s in told.sections}
    found = {
        study.name: [(c.kind, c.group) for c in tables[study.title].columns[: len(study.columns)]]
        for study in whole.studies
    }
    assert set(found["resolution"]) == {("mark", "attention at")}
    assert set(found["placement"]) == {("mark", "")}
    assert set(found["kernels"]) == set(found["backbones"]) == {("text", "")}
    assert found["trained_aggregation"] == [("text", ""), ("mark", ""), ("mark", "")]
    about_place = [t for t, table in tables.items() if any("place of the resolution" in n.text for n in table.notes)]
    assert about_place == ["Attention per input resolution"]


def test_how_a_preset_cuts_a_study_down() -> None:
    """The made-up study has the rows static, τ = 20 and τ = 30; the preset has three seeds."""
    scale = Scale(variants=("static", "tau_30"), seeds=2, baseline={"data.train_images": 400})
    study = TEMPERATURE.model_copy(update={"scales": {"quick": scale}})
    plan = plan_of(study, preset="quick", seeds=None)
    assert scale_words(plan.studies[0], plan) == (
        "At preset quick only a part of this study is asked: 2 of 3 rows (left out: τ = 20); 2 seeds instead of 3; "
        "data.train_images: 400."
    )
    asked = make_plan([study], Request(PRESETS["quick"], {"data.train_images": 500}, seeds=5))
    assert scale_words(asked.studies[0], asked).endswith("asked: 2 of 3 rows (left out: τ = 20).")
    more = TEMPERATURE.model_copy(update={"scales": {"quick": Scale(seeds=9)}})
    plan = plan_of(more, preset="quick", seeds=None)
    assert plan.request.seeds_of(plan.studies[0]) == 9
    assert scale_words(plan.studies[0], plan) == ""
    other = plan_of(study, preset="smoke")
    assert scale_words(other.studies[0], other) == ""


def test_every_study_that_is_cut_down_says_so(whole: Plan, told: Document) -> None:
    for study, section in zip(whole.studies, told.sections[1:], strict=True):
        leads = [block.lead for block in section.blocks if isinstance(block, Paragraph)]
        has_more_seeds = study.seeds is not None and study.seeds > PRESETS["quick"].seeds
        is_cut = len(study.variants) < len(study.whole.variants) or not has_more_seeds
        assert ("Cut down" in leads) == (study.whole is not study and is_cut)
    assert any(study.whole is not study for study in whole.studies)


def test_every_table_fits_a_window_and_a_telephone_scrolls_tables_alone(
    told: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawings take seconds, and their width is that of the prose.
    monkeypatch.setitem(html._environment().globals, "inline_svg", lambda figure, prefix: Markup(STAND_IN))
    page_file = html.render_html(told, tmp_path, "report")
    too_wide = """boxes => boxes.filter(box => box.scrollWidth > box.clientWidth)
        .map(box => box.closest("figure").querySelector("strong").innerText)"""
    with chromium() as browser:
        page = patient_page(browser)
        page.goto(page_file.as_uri())
        boxes = page.locator("figure.table .scroll")
        assert boxes.count() == len(_tables(told))
        for width in (1280, 1440, 1680):
            page.set_viewport_size({"width": width, "height": 900})
            assert boxes.evaluate_all(too_wide) == []
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        # Some are wider than a telephone: else the line above says nothing of tables.
        assert boxes.evaluate_all(too_wide) != []


def _blank_pdf() -> bytes:
    writer, buffer = PdfWriter(), io.BytesIO()
    writer.add_blank_page(453, 150)
    writer.write(buffer)
    return buffer.getvalue()


def _typeset(folder: Path, name: str) -> str:
    """Runs TeX on a document, which must succeed, and returns what it says."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def _has_tex() -> bool:
    """Returns whether TeX is here with the packages that a report needs."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    packages = [f"{name}.sty" for name in (*PACKAGES.split(","), "caption", "float", "newunicodechar", "lmodern")]
    found = subprocess.run(["kpsewhich", *packages], capture_output=True, text=True)
    return len(found.stdout.split()) == len(packages)


@pytest.mark.skipif(not _has_tex(), reason="needs TeX: apt-get install texlive-latex-extra lmodern")
def test_latex_sets_every_study_without_an_overfull_box(
    told: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.render.files.draw", lambda figure, image_format: _blank_pdf())
    path = render_latex(told, tmp_path, "report")
    # Tables over several pages know the width of their columns the second time.
    _typeset(tmp_path, path.name)
    output = _typeset(tmp_path, path.name)
    assert [line for line in output.splitlines() if line.startswith(("Overfull", "LaTeX Warning: Float too"))] == []
    # A paper with two lines for each table, as docs/report-formats.md has them.
    lines = [r"\documentclass{article}", rf"\usepackage{{{PACKAGES}}}", r"\begin{document}"]
    files = sorted((tmp_path / "tables").glob("*.tex"))
    assert len(files) == len(_tables(told))
    lines += [rf"\input{{tables/{file.stem}}} \clearpage" for file in files]
    (tmp_path / "paper.tex").write_text("\n".join([*lines, r"\end{document}"]))
    assert "Output written" in _typeset(tmp_path, "paper.tex")
