"""Tables of verdicts: words and signs before colours, columns that say something, an overview of several studies."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pypdf import PdfReader

from ablations.claims import Claim, Contrast, better_than
from ablations.planning.plan import Plan
from ablations.study import Scale, Study
from reports import summarize, verdicts
from reports.analysis.claims import MEANINGS, WEAKEST_FIRST
from reports.collect.results import Results
from reports.content.blocks import Document, Interval, Missing, Number, Table, Text
from reports.content.formatting import set_rows
from reports.document.reading_guide import reading_guide
from reports.render.latex.document import latex_text
from reports.render.markdown import markdown_text
from reports.render.typst import compile_pdf
from reports.tables.claims import SIGNS, claims_table, level_words, overview_table, verdict_cell, verdict_counts
from tests.reports.everything import results_of
from tests.reports.made_up import AGGREGATION, STUDIES, TEMPERATURE, document_of, plan_of

CLAIMS = (
    Claim(name="warm beats static", statement="τ = 30 beats static.", contrasts=better_than("tau_30", "static")),
    Claim(
        name="warm beats cool",
        statement="τ = 30 beats τ = 20 and static by far.",
        contrasts=(*better_than("tau_30", "tau_20", margin=0.5), *better_than("tau_30", "static", margin=50.0)),
    ),
)
MATTERS = Claim(name="attention matters", statement="It beats max.", contrasts=better_than("attention", "max"))


def _with(study: Study, *claims: Claim) -> Study:
    return study.model_copy(update={"claims": claims})


@pytest.fixture(scope="module")
def claimed() -> Plan:
    return plan_of(_with(AGGREGATION, MATTERS), _with(TEMPERATURE, *CLAIMS))


@pytest.fixture(scope="module")
def told(claimed: Plan, results: Results) -> Document:
    return document_of(claimed, results)


def _claims_of(plan: Plan, results: Results, study: Study) -> Table:
    claims = [judged for judged in verdicts(plan, results) if judged.study == study.name]
    table = claims_table(study, claims, with_legend=False)
    assert table is not None
    return table


def test_a_row_per_claim_by_hand(claimed: Plan, results: Results) -> None:
    """τ = 30 minus static is 2, 3, 1: 2 ± 2.48. τ = 20 has a missing repeat; against a margin of 50 static decides."""
    table = _claims_of(claimed, results, claimed.studies[1])
    headings = ["claim", "rank", "verdict", "remark", "decided by", "ours", "level", "must be", "published"]
    assert [column.heading for column in table.columns] == headings
    rows = [[cell.text for cell in row] for row in set_rows(table)]
    # Two primary claims of this report, since the other study inspects two networks: three in all.
    half = _t(1 - 0.05 / 3) / math.sqrt(3)
    ours = f"+2.00 [−{half - 2:.2f}, +{2 + half:.2f}]"
    ends = ("τ = 30 vs. static", ours, "98.33 %", "> 0.0", "+4.0")
    assert rows[0][:3] == ["warm beats static", "primary", "… undecided"]
    assert rows[0][4:] == list(ends)
    half = _t(0.975) / math.sqrt(3)
    ours = f"+2.00 [−{half - 2:.2f}, +{2 + half:.2f}]"
    ends = ("τ = 30 vs. static", ours, "97.5 %", "> +50.0", "+4.0")
    assert rows[1] == ["warm beats cool", "exploratory", "× contradicted", "", *ends]
    assert "the size of interest is 1." in table.caption


def _t(level: float) -> float:
    """Return the quantile of Student's t of two degrees of freedom."""
    return level / math.sqrt((1 - level**2) / 2)


def test_rows_of_inspected_networks(claimed: Plan, results: Results) -> None:
    table = _claims_of(claimed, results, claimed.studies[0])
    headings = ["network", "claim", "rank", "verdict", "remark", "ours", "level", "published"]
    assert [column.heading for column in table.columns] == headings
    assert [row[0] for row in table.rows] == [Text("τ = 30"), Text("τ = 20")]
    assert table.rules == (1,)
    assert table.rows[1][4:7] == (Text("missing repeat"), Missing("n = 0/3"), Missing())
    assert table.rows[0][3] == Text("✓ reproduced", tone="good")
    assert isinstance(table.rows[0][5], Interval)
    assert table.rows[0][-1] == Number(69.3, 1, signed=True, marks=("B",), tone="aside")
    assert "it must lie above 0" in table.caption
    # What all tables of a report share is said once in it, or else under the table.
    assert table.notes == ()
    alone = claims_table(claimed.studies[0], verdicts(claimed, results)[:2], with_legend=True)
    assert alone is not None
    assert [note.mark for note in alone.notes] == ["", "B"]


@pytest.mark.parametrize(
    ("contrast", "bound"),
    [
        (Contrast(better=("tau_30",), worse=("static",), margin=0.25), "> +0.25"),
        (Contrast(better=("tau_30",), worse=("static",), kind="at_least_as_good"), "> −1.0"),
        (Contrast(better=("tau_30",), worse=("static",), kind="same"), "within ±1"),
    ],
)
def test_where_the_difference_must_lie(results: Results, contrast: Contrast, bound: str) -> None:
    study = _with(TEMPERATURE, Claim(name="x", statement="X.", contrasts=(contrast,)))
    plan = plan_of(study)
    table = _claims_of(plan, results, plan.studies[0])
    place = [column.heading for column in table.columns].index("must be")
    assert table.rows[0][place] == Text(bound)


@pytest.mark.parametrize(
    ("level", "words"),
    [(0.95, "95 %"), (0.975, "97.5 %"), (1 - 0.05 / 3, "98.33 %"), (0.99, "99 %"), (1 - 5e-5, "99.995 %")],
)
def test_a_level_has_as_many_decimals_as_it_takes(level: float, words: str) -> None:
    assert level_words(level) == words


def test_no_published_number_no_column(claimed: Plan, results: Results) -> None:
    study = claimed.studies[1].model_copy(update={"published": None})
    table = claims_table(study, verdicts(plan_of(study), results), with_legend=False)
    assert table is not None
    assert "published" not in [column.heading for column in table.columns]


def test_rows_left_out_are_named() -> None:
    claim = Claim(name="x", statement="X.", contrasts=(Contrast(better=("tau_20", "tau_30"), worse=("static",)),))
    scales = {"smoke": Scale(variants=("tau_20", "tau_30"))}
    plan = plan_of(_with(TEMPERATURE, claim).model_copy(update={"scales": scales}), seeds=2)
    results = results_of(plan, {"tau_20": (1.0, 2.0), "tau_30": (2.0, 4.0)})
    table = _claims_of(plan, results, plan.studies[0])
    rank = Text("primary")
    cells = (rank, verdict_cell("undecided"), Text("rows left out"), Missing(), Missing())
    assert table.rows[0][1:6] == cells
    assert table.notes[0].text == "Not asked at this preset for “x”: τ = 20 and τ = 30 vs. static."


def test_a_study_without_claims_has_no_table(plan: Plan, results: Results, document: Document) -> None:
    assert claims_table(TEMPERATURE, verdicts(plan, results), with_legend=True) is None
    titles = [block.title for section in document.sections for block in section.blocks if isinstance(block, Table)]
    assert titles == ["Kernel aggregation", "Softmax temperature"]
    assert "Verdicts" not in [section.title for section in document.sections]


def test_every_verdict_is_told_without_colour() -> None:
    cells = [verdict_cell(verdict) for verdict in WEAKEST_FIRST]
    assert len({cell.tone for cell in cells}) == len({cell.text[0] for cell in cells}) == len(WEAKEST_FIRST)
    assert set(SIGNS) == set(MEANINGS) == set(WEAKEST_FIRST)


def test_several_studies_begin_with_an_overview(claimed: Plan, results: Results, told: Document) -> None:
    first = told.sections[0].blocks[0]
    guide = reading_guide(claimed, summarize(claimed, results))
    assert first == overview_table(claimed, verdicts(claimed, results), guide)
    assert isinstance(first, Table)
    assert [[cell.text for cell in row][:5] for row in set_rows(first)] == [
        ["Kernel aggregation", "attention matters", "τ = 30", "primary", "✓ reproduced"],
        ["", "attention matters", "τ = 20", "primary", "… undecided"],
        ["Softmax temperature", "warm beats static", "", "primary", "… undecided"],
        ["", "warm beats cool", "", "exploratory", "× contradicted"],
    ]
    assert "exploratory: judged one by one at 95 %" in first.notes[0].text
    counted = "1 reproduced, 1 contradicted, 2 undecided"
    assert verdict_counts(verdicts(claimed, results)) == counted


def test_one_study_has_the_legend_under_its_table(results: Results) -> None:
    document = document_of(plan_of(_with(TEMPERATURE, *CLAIMS)), results)
    assert [section.title for section in document.sections] == ["Softmax temperature"]
    tables = [block for block in document.sections[0].blocks if isinstance(block, Table)]
    assert "the whole interval lies where the claim says" in tables[1].notes[0].text


def test_every_contrast_is_in_the_appendix(told: Document) -> None:
    section = next(section for section in told.appendix if section.title == "Claims and contrasts")
    statements, contrasts = section.blocks
    assert isinstance(statements, Table)
    assert isinstance(contrasts, Table)
    assert [row[2].text for row in set_rows(statements)] == ["primary", "primary", "exploratory"]
    assert [row[3].text for row in set_rows(statements)] == [c.statement for c in (MATTERS, *CLAIMS)]
    rows = [[cell.text for cell in row] for row in set_rows(contrasts)]
    assert [row[0] for row in rows] == [
        "τ = 30: attention matters",
        "τ = 20: attention matters",
        "warm beats static",
        "warm beats cool",
        "",
    ]
    assert rows[3][1:] == [
        "τ = 30 vs. τ = 20",
        "… undecided",
        "missing repeat",
        "— n = 2/3",
        "—",
        "> +0.5",
        "0.0",
    ]


def test_every_renderer_tells_the_verdicts(told: Document, out: Path) -> None:
    figures = {figure.name: out / f"{figure.name}.svg" for figure in told.figures}
    latex, markdown = latex_text(told, figures), markdown_text(told, figures)
    assert r"\textcolor{bad}{\ensuremath{\times}~contradicted}" in latex
    assert r"\definecolor{bad}" in latex
    assert "| × contradicted |" in markdown
    out.mkdir()
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"></svg>'
    path = out / "report.pdf"
    path.write_bytes(compile_pdf(told, dict.fromkeys(figures, drawing)))
    text = "\n".join(page.extract_text() for page in PdfReader(path).pages)
    for words in ("✓ reproduced", "× contradicted", "… undecided", "exploratory", "98.33 %", "Verdicts"):
        assert words in text


def test_the_claims_of_the_made_up_studies_are_their_own() -> None:
    assert all(not study.claims for study in STUDIES)
