"""The descriptions of summary runs: every link there is, names that stay names, and never too long for a tag."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from ablations.study import Study, Variant
from ablations.summary_rows import SummaryRepeat, SummaryRow
from runners.tracking.descriptions import Links, study_note, variant_note

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = "a|b [c](d) <script>x</script> `e` ~~f~~ *g* &amp; !"
STUDY = Study(
    name="heat", title=HOSTILE, question="Which?", reference="a", variants=(Variant(name="a"), Variant(name="b"))
)
LINKS = Links("7")
PAGES = {"trainings and evaluations": "#/experiments/7/runs?viewStateShareKey=runs-heat"}


def _record(key: str = "b") -> SummaryRow:
    runs = [SummaryRepeat(0, "0" * 32, "81.00"), SummaryRepeat(1, "", "missing")]
    return SummaryRow(key, {}, HOSTILE, {"top-1 (%)": "81.00 ± 2.00", "n": "2"}, runs)


def _note(count: int = 2, longest: int = 5000, verdicts: int = 1) -> str:
    children = [(_record(f"v{n}"), f"{n:032x}") for n in range(count)]
    judged = {f"claim {n}": "reproduced" for n in range(verdicts)}
    files = ["report/heat.pdf", "report/heat.html"]
    return study_note(STUDY, LINKS, "f" * 32, children, pages=PAGES, files=files, verdicts=judged, longest=longest)


def _links(note: str) -> dict[str, str]:
    page = PARSER.render(note)
    return {words: unquote(address) for address, words in re.findall(r'<a href="([^"]*)">(.*?)</a>', page)}


def test_a_study_leads_to_its_rows_its_report_and_its_trials() -> None:
    found = _links(_note())
    training = "workflowType=machine_learning"
    assert found["report"] == f"#/experiments/7/runs/{'f' * 32}/artifacts/report/heat.html?{training}"
    assert found["report as PDF"].endswith(f"/artifacts/report/heat.pdf?{training}")
    compared = f'#/compare-runs?runs=["{0:032x}","{1:032x}"]&amp;experiments=["7"]&amp;{training}'
    assert found["the variants side by side"] == compared
    assert found["trainings and evaluations"] == PAGES["trainings and evaluations"]
    assert f"#/experiments/7/runs/{1:032x}" in found.values()


def test_a_row_leads_back_and_to_its_runs() -> None:
    note = variant_note(STUDY, LINKS, "f" * 32, _record(), 5000)
    assert f"#/experiments/7/runs/{'f' * 32}" in _links(note).values()
    assert _links(note)["00000000"] == f"#/experiments/7/runs/{'0' * 32}"
    cells = re.findall(r"<td>(.*?)</td>", PARSER.render(note))
    assert cells[2] == "81.00"
    assert cells[3:] == ["1", "–", "missing"]


def test_names_are_literal() -> None:
    page = PARSER.render(_note() + "\n\n" + variant_note(STUDY, LINKS, "f" * 32, _record(), 5000))
    assert "<script" not in page
    assert "<del>" not in page
    assert 'href="d"' not in page
    assert len(set(re.findall(r"<tr>.*?</tr>", page, re.DOTALL))) == 6


def test_some_fifty_variants_are_compared_side_by_side() -> None:
    found = _links(_note(50))["the variants side by side"]
    assert all(f"{n:032x}" in found for n in range(50))
    assert "the variants side by side" not in _links(_note(70))


@pytest.mark.parametrize("longest", [1500, 5000])
def test_what_is_too_long_for_a_tag_is_cut_between_rows_and_said(longest: int) -> None:
    note = _note(1000, longest, 100)
    assert len(note) <= longest
    assert re.search(r"\d+ more variants are among the child runs\.", note)
    assert "**Question.** Which?" in note
    assert "claim 0: **reproduced**" in note
    assert re.search(r"\d+ more verdicts are in the report\.", note)
    assert "side by side" not in note
    assert all(line.endswith("|") for line in note.splitlines() if line.startswith("|"))
    runs = [SummaryRepeat(seed, "0" * 32, "81.00") for seed in range(1000)]
    many = variant_note(STUDY, LINKS, "f" * 32, SummaryRow("b", {}, "b", {}, runs), longest)
    assert len(many) <= longest
    assert "more runs" in many
