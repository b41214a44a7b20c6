"""The canary in a report: silent as it must be, loud when it is not, and no word more than its repeats allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations import vocabulary as names
from ablations.planning.plan import CANARY_SEED, Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from reports import canaries
from reports.analysis.canary import canary_facts, judge_canaries
from reports.analysis.statistics import paired_difference
from reports.collect.results import CELL_COLUMNS, MISSING, Results
from reports.collect.tracked_runs import FINISHED
from reports.content.blocks import Document, Facts, Paragraph
from reports.render.latex.document import latex_text
from reports.render.markdown import markdown_text
from runners.cli.options.report import ReportOptions
from runners.cli.reporting import write_report
from tests.reports.everything import made_up_results, results_of
from tests.reports.made_up import AGGREGATION, STUDIES, TEMPERATURE, document_of

REFERENCE = (82.0, 84.0, 86.0)
LIKE_IT = (83.0, 84.5, 84.0)
APART = (72.0, 74.1, 75.9)


def _plan(seeds: int = 3, canary: bool = True, studies: Sequence[object] = (TEMPERATURE,)) -> Plan:
    return make_plan(list(studies), Request(PRESETS["smoke"], seeds=seeds, canary=canary))  # type: ignore[arg-type]


def _results(plan: Plan, again: Sequence[float | None], reference: Sequence[float | None] = REFERENCE) -> Results:
    """Returns results in which the canaries measured `again`, and the references `reference`."""
    references = {study.reference for study in plan.studies}
    values = {cell.key: reference if cell.variant in references else (70.0, 71.0, 72.0) for cell in plan.cells}
    rows = []
    for cell in plan.canaries:
        value = again[cell.seed - CANARY_SEED]
        status = MISSING if value is None else FINISHED
        place = (cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint, "run", status)
        rows.append({**dict(zip(CELL_COLUMNS, place, strict=True)), names.TEST_TOP1: value})
    return replace(results_of(plan, values), canaries=pd.DataFrame(rows, columns=[*CELL_COLUMNS, names.TEST_TOP1]))


def _said(document: Document) -> list[Paragraph]:
    blocks = [block for section in document.sections for block in section.blocks]
    return [block for block in blocks if isinstance(block, Paragraph) and block.lead.startswith("Canary")]


def test_the_rth_repeat_is_held_against_the_rth() -> None:
    """Differences 1, 0.5 and −2, whatever order the store gives them in."""
    plan = _plan()
    (found,) = judge_canaries(plan, _results(plan, LIKE_IT))
    assert found.difference == paired_difference(dict(enumerate(LIKE_IT)), dict(enumerate(REFERENCE)))
    assert found.difference.mean == pytest.approx(-1 / 6)
    assert (found.state, found.key, found.verdict) == ("silent", "canary", "found no difference, as it must")
    shuffled = replace(_results(plan, LIKE_IT), canaries=_results(plan, LIKE_IT).canaries.iloc[::-1])
    assert judge_canaries(plan, shuffled)[0].difference == found.difference


def test_a_difference_where_there_is_none_is_an_alarm_in_three_places() -> None:
    plan = _plan()
    results = _results(plan, APART)
    document = document_of(plan, results)
    first = document.summary[0]
    assert isinstance(first, Paragraph)
    assert (first.role, first.lead) == ("alarm", "Canary alarm")
    assert "“Softmax temperature” (1 of 1 canaries" in first.text
    (own,) = _said(document)
    assert own.role == "alarm"
    assert "differs from itself by −10.00 points [−10.25, −9.75]" in own.text
    assert "By chance that happens to one canary in 20." in own.text
    facts = next(block for block in document.summary if isinstance(block, Facts))
    assert dict(facts.items)["Canaries"] == "1 of 1 found a difference where there is none"


def test_renderers_set_an_alarm_apart() -> None:
    plan = _plan()
    document = document_of(plan, _results(plan, APART))
    figures = {figure.name: Path(f"{figure.name}.png") for figure in document.figures}
    markdown, latex = markdown_text(document, figures), latex_text(document, figures)
    assert markdown.count("> [!WARNING]\n> **Canary alarm.**") == 2
    assert latex.count(r"\fcolorbox{bad}{white}") == 2


def test_a_silent_canary_is_a_sentence_behind_the_table() -> None:
    plan = _plan()
    document = document_of(plan, _results(plan, LIKE_IT))
    assert not [block for block in document.summary if isinstance(block, Paragraph) and block.role == "alarm"]
    (own,) = _said(document)
    assert (own.role, own.lead) == ("text", "Canary")
    assert "the interval includes 0, as it must" in own.text
    blocks = document.sections[0].blocks
    assert blocks.index(own) > next(i for i, block in enumerate(blocks) if block.__class__.__name__ == "Table")
    method = [block for block in document.appendix[1].blocks if isinstance(block, Paragraph)]
    assert any("one canary in twenty is alarmed by chance" in block.text for block in method)


@pytest.mark.parametrize(
    ("again", "reference", "words"),
    [
        ((83.0, None, 84.0), REFERENCE, "has 2 of 3 pairs of repeats"),
        (LIKE_IT, (82.0, 84.0, None), "has 2 of 3 pairs of repeats"),
        ((None, None, None), REFERENCE, "has 0 of 3 pairs of repeats"),
        ((83.0, 85.0, 87.0), REFERENCE, "by the same in every repeat"),
    ],
)
def test_what_a_canary_cannot_say(again: Sequence[float | None], reference: Sequence[float | None], words: str) -> None:
    plan = _plan()
    results = _results(plan, again, reference)
    (found,) = judge_canaries(plan, results)
    assert found.state == "unknown"
    (own,) = _said(document_of(plan, results))
    assert words in own.text
    assert "says nothing" in own.text


def test_one_repeat_says_nothing() -> None:
    plan = _plan(seeds=1)
    (own,) = _said(document_of(plan, _results(plan, (83.0,), (82.0,))))
    assert "has one repeat and so no interval" in own.text


def test_each_inspected_network_has_its_canary() -> None:
    plan = _plan(studies=(AGGREGATION,))
    document = document_of(plan, _results(plan, LIKE_IT))
    assert [paragraph.text.partition(",")[0] for paragraph in _said(document)] == [
        "“attention” (τ = 30)",
        "“attention” (τ = 20)",
    ]
    assert [bird.key for bird in canaries(plan, _results(plan, APART))] == ["tau_30: canary", "tau_20: canary"]


def test_without_a_canary_nothing_is_said() -> None:
    plan = _plan(canary=False, studies=STUDIES)
    results = made_up_results(plan)
    assert judge_canaries(plan, results) == ()
    document = document_of(plan, results)
    assert _said(document) == []
    facts = next(block for block in document.summary if isinstance(block, Facts))
    assert "Canaries" not in dict(facts.items)


def test_a_canary_is_no_row_of_the_table_and_no_comparison() -> None:
    with_one, without = _plan(), _plan(canary=False)
    one, two = document_of(with_one, _results(with_one, LIKE_IT)), document_of(without, _results(without, ()))
    assert [b for b in one.sections[0].blocks if b.__class__.__name__ == "Table"] == [
        b for b in two.sections[0].blocks if b.__class__.__name__ == "Table"
    ]


def test_one_canary_in_twenty_is_alarmed_by_chance() -> None:
    """References and canaries drawn from one distribution: the share of alarms is 5 %, give or take."""
    plan, draw = _plan(), np.random.default_rng(0)
    template = _results(plan, LIKE_IT)
    is_reference = template.cells["variant"] == TEMPERATURE.reference
    alarms = 0
    for _ in range(600):
        cells, again = template.cells.copy(), template.canaries.copy()
        cells.loc[is_reference, names.TEST_TOP1] = 80 + draw.normal(size=3)
        again[names.TEST_TOP1] = 80 + draw.normal(size=3)
        (found,) = judge_canaries(plan, replace(template, cells=cells, canaries=again))
        alarms += found.state == "alarm"
    assert 0.025 < alarms / 600 < 0.08
    assert canary_facts(()) == ""


def test_the_command_line_is_loud_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = _plan()
    told: list[dict[str, str]] = []
    monkeypatch.setattr("runners.api.reporting.collect", lambda plan, uri: _results(plan, APART))
    monkeypatch.setattr("runners.api.reporting.make_report", lambda *args, **more: {"pdf": tmp_path / "report.pdf"})
    monkeypatch.setattr("runners.launching.session.make_tracker", lambda *args, **more: None)
    monkeypatch.setattr(
        "runners.api.reporting.write_study_summary", lambda *args, **more: told.append(more["verdicts"])
    )
    write_report.write_report(plan, tmp_path, "", ReportOptions("pdf", None))
    assert "CANARY ALARM: temperature, canary found a difference where there is none" in capsys.readouterr().out
    assert told[0]["canary"] == "found a difference where there is none"
