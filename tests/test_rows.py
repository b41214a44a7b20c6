"""Rows of a study from the command line to a verified report; the whole study afterwards trains nothing twice."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runners.state.nodes import StateStore
from tests.command_line import Invoke, run_command
from tests.upkeep.made_up import STUDY

OPTIONS = ("--preset", "smoke", "--dispatch", "inline", "--format", "md,html")
SOME = ("tiny.yaml/averaged", "--seed", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of which a row was run."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "tiny.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_command("run", *SOME, *OPTIONS) == 0
    return folder


@pytest.fixture
def invoke_there(invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Carries out commands in that folder."""
    monkeypatch.chdir(folder)
    return invoke


def results(folder: Path) -> dict[str, int]:
    """When each result of the runs folder was written, by its fingerprint."""
    states = StateStore(folder / "runs" / "state")
    files = {fingerprint: states[fingerprint].folder / "result.json" for fingerprint in states.fingerprints()}
    return {fingerprint: path.stat().st_mtime_ns for fingerprint, path in files.items() if path.exists()}


def test_a_row_is_run_with_what_it_needs(folder: Path) -> None:
    # The training that the evaluation looks into is the reference, too.
    assert len(results(folder)) == 2


def test_its_report_says_what_was_left_out_and_is_verified(folder: Path, invoke_there: Invoke) -> None:
    (page,) = (folder / "runs" / "reports").glob("tiny-rows-smoke-seed0-*.md")
    text = page.read_text(encoding="utf-8")
    assert "Only 2 of the 3 rows of this study were asked for, with the reference. Left out: “wide”." in text
    assert "Only the repeat with seed 0 was asked for." in text
    code, printed = invoke_there("verify", page.with_suffix(".html"))
    assert code == 0, printed


def test_status_retry_explain_and_report_mean_the_row_that_was_run_last(folder: Path, invoke_there: Invoke) -> None:
    code, printed = invoke_there("status", "--json")
    assert code == 0
    rows = {row for node in json.loads(printed)["nodes"] for row in node["serves"]}
    assert rows == {"tiny/calm", "tiny/averaged"}
    assert "tiny (2 rows) at preset smoke, --seed 0 · no launch goes on" in invoke_there("status")[1]
    assert invoke_there("retry") == (0, "Nothing has failed.\n")
    code, printed = invoke_there("explain", "tiny/averaged")
    assert "seed 0: reused  tiny/averaged" in printed
    code, printed = invoke_there("report", "--format", "md")
    assert (code, "tiny-rows-smoke-seed0-" in printed) == (0, True)


def test_the_whole_study_trains_only_what_is_missing(folder: Path, invoke_there: Invoke) -> None:
    before = results(folder)
    code, printed = invoke_there("run", "tiny.yaml", *OPTIONS)
    assert code == 0, printed
    assert "To do: 1 trainings, 0 evaluations." in printed
    after = results(folder)
    assert len(after) == 3
    assert {key: after[key] for key in before} == before
    # Both reports are there, and so are both summaries; a row again is nothing new.
    assert len(list((folder / "runs" / "reports").glob("tiny-*.md"))) == 2
    code, printed = invoke_there("run", *SOME, *OPTIONS)
    assert "To do: 0 trainings, 0 evaluations." in printed
    assert results(folder) == after


def test_what_a_user_may_mistype(invoke_there: Invoke) -> None:
    def error(*words: object) -> str:
        code, printed = invoke_there.unwrapped(*words, "--preset", "smoke")
        assert code == 2, printed
        return printed

    assert "study 'tiny' has no row 'wid'. Did you mean 'wide'? Its rows here are: calm, averaged, wide." in error(
        "plan", "tiny.yaml/wid"
    )
    assert "no row of study 'tiny' matches 'x*'" in error("run", "tiny.yaml/x*")
    assert "unknown study 'tiny'" in error("plan", "tiny/wide")
    assert "'tiny.yaml/wide' names a row" in error("tune", "tiny.yaml/wide")
    assert "asks for one repeat and seeds = 2" in error("plan", "tiny.yaml/wide", "--seed", 1, "--seeds", 2)


def test_rows_can_be_frozen_and_run_from_the_file(folder: Path, invoke_there: Invoke) -> None:
    code, printed = invoke_there("plan", "tiny.yaml/wide", "--preset", "smoke", "--freeze")
    assert code == 0, printed
    match = re.search(r"Frozen .*: (\S+\.json)", printed)
    assert match is not None
    code, printed = invoke_there("plan", "tiny.yaml/wide", "--preset", "smoke")
    assert "As planned: frozen " in printed
    code, printed = invoke_there("run", "--frozen", match[1], "--dispatch", "inline", "--format", "md")
    assert code == 0, printed
    assert "Rows of tiny, 2 of 3: wide, calm (the reference)." in printed
    assert "As planned: frozen " in printed
    code, printed = invoke_there("plan", "tiny.yaml", "--preset", "smoke")
    assert "rows that were not planned are exploratory: averaged" in printed
