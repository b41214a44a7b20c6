"""The evening run that the repository keeps: its bundles verify, and its report and its tables are what they make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import evening
from reports.archive.bundle import open_bundle
from reports.evidence.report_file import read_report
from tests.command_line import Invoke

# A bundle of hundreds of runs takes a while to read.
pytestmark = pytest.mark.timeout(1200)
NAMES = sorted(path.stem for path in evening.BUNDLES.glob("*.zip"))
MOST_BYTES = 20 * 10**6
"""Everybody who clones the repository gets these files."""


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_verifies(name: str, invoke: Invoke) -> None:
    code, text = invoke("verify", evening.BUNDLES / f"{name}.zip")
    assert code == 0, text
    assert text.strip().endswith("no differences.")


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_holds_the_plan_that_was_committed_before_its_runs(name: str) -> None:
    frozen = json.loads(open_bundle(evening.BUNDLES / f"{name}.zip").read("frozen.json"))
    committed = json.loads((evening.BUNDLES / f"{name}-plan.json").read_text())
    assert committed in frozen


def test_the_core_is_there() -> None:
    assert evening.CORE in NAMES


def test_the_files_are_small_enough_to_be_kept() -> None:
    files = [*evening.BUNDLES.iterdir(), *evening.DOCS.glob("sample-report.*")]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_the_pages_have_the_tables_that_the_bundles_make(tmp_path: Path, invoke: Invoke) -> None:
    tables: dict[str, dict[str, str]] = {}
    for name in NAMES:
        bundle = evening.BUNDLES / f"{name}.zip"
        code, text = invoke("report", bundle, "--format", "html,md", "--output", f"{tmp_path / name}/")
        assert code == 0, text
        (report,) = (tmp_path / name).glob("*.md")
        tables[name] = evening.tables_of(report.read_text())
    for page in evening.PAGES:
        assert evening.filled(page.read_text(), tables) == page.read_text(), (
            f"python -m benchmarks.evening: {page.name}"
        )
    (remade,) = (tmp_path / evening.CORE).glob("*.html")
    expected = numbers(remade)
    assert len(expected["runs"]) > 200
    for ending in (".pdf", ".html"):
        assert numbers(evening.DOCS / f"sample-report{ending}") == expected


def test_a_page_says_which_tables_it_wants() -> None:
    page = "a\n<!-- evening: core, One -->\n| old |\n<!-- end -->\nb\n"
    assert evening.filled(page, {"core": {"One": "| new |\n"}}) == (
        "a\n<!-- evening: core, One -->\n\n| new |\n\n<!-- end -->\nb\n"
    )
    with pytest.raises(KeyError):
        evening.filled(page, {"core": {"Two": ""}})


def numbers(report: Path) -> dict[str, Any]:
    """What a report's file carries of its tables and verdicts: each number, with what it was computed from."""
    manifest = json.loads(read_report(report).manifest)
    return {part: manifest[part] for part in ("rows", "claims", "runs")}
