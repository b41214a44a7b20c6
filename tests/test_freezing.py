"""Freezing a plan as a user does: run it, look too often, drop a seed, change the study, edit the file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pypdf import PdfReader

from tests.command_line import Invoke

STUDY = """
name: mine
question: Is a dynamic network as good as a static one?
reference: static
seeds: 3
size_of_interest: {size}
baseline: {{train.epochs: 1, data.train_images: 64}}
variants:
  static: {{model.layer: static}}
  dynamic: {{}}
claims:
  - name: dynamic is better
    statement: Dynamic beats static.
    contrasts: [{{better: [dynamic], worse: [static]}}]
"""


def write_study(size: float = 1.0) -> str:
    Path("mine.yaml").write_text(STUDY.format(size=size), encoding="utf-8")
    return "mine.yaml"


def first_page(name: str = "mine-smoke") -> str:
    page = PdfReader(Path("runs/reports") / f"{name}.pdf").pages[0]
    return " ".join(page.extract_text().split())


def frozen_file() -> Path:
    (path,) = Path("runs/frozen").glob("mine-*.json")
    return path


def test_a_frozen_plan_from_its_first_run_to_each_deviation(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # As if all was committed: a runs folder of a developer's tree would deviate from the plan by its code.
    monkeypatch.setattr("runners.provenance._git", lambda _, verb, *__: "c" * 40 if verb == "rev-parse" else "")
    study = write_study()
    code, text = invoke.unwrapped("plan", study, "--preset", "smoke", "--freeze")
    assert code == 0, text
    assert "decides: mine, dynamic is better (size of interest 1)" in text
    digest = json.loads(frozen_file().read_text())["sha256"]
    assert f"SHA-256 {digest}" in text

    code, text = invoke.unwrapped("run", "--frozen", frozen_file(), "--dispatch", "inline")
    assert code == 0, text
    assert "As planned: frozen 20" in text
    assert re.search(rf"Planned as planned \(frozen [-\d]+ [:\d]+ UTC, SHA-256 {digest[:12]}\)", first_page())
    assert "1 look at the results" in first_page()
    report = (tmp_path / "runs/reports/mine-smoke.pdf").read_bytes()

    # The same results are the same look, and the same bytes.
    assert invoke("report", study)[0] == 0
    assert (tmp_path / "runs/reports/mine-smoke.pdf").read_bytes() == report
    assert invoke("verify", "runs/reports/mine-smoke.pdf")[0] == 0

    # A dropped seed, which is an extra look as well.
    code, text = invoke.unwrapped("report", study, "--preset", "smoke", "--seeds", "2")
    assert code == 0, text
    page = first_page("mine-smoke-2seeds")
    assert "3 seeds were planned, 2 are reported; seed 2 was dropped." in page
    assert "was looked at 1 time beyond the plan" in page
    assert "Deviation from the frozen plan: Study mine: 3 seeds were planned, 2 are reported" in text

    # The study is changed after freezing.
    write_study(size=0.5)
    code, text = invoke.unwrapped("plan", study, "--preset", "smoke")
    assert "Not the plan that was frozen" in text
    assert invoke("report", study, "--preset", "smoke")[0] == 0
    assert "Study mine was changed after freezing: size_of_interest was 1.0, is 0.5." in first_page()

    # The frozen plan is edited to match.
    content = json.loads(frozen_file().read_text())
    content["request"]["studies"][0]["size_of_interest"] = 0.5
    frozen_file().write_text(json.dumps(content))
    assert invoke("report", study, "--preset", "smoke")[0] == 0
    assert f"A copy of a frozen plan was edited: its SHA-256 {digest[:12]} is not that of its content." in first_page()
    assert "Study mine was changed after freezing: size_of_interest was 1.0, is 0.5." in first_page()

    # The store has the plan as it was, and the edited copy, also for a folder that has lost its file.
    frozen_file().unlink()
    assert invoke("report", study, "--preset", "smoke")[0] == 0
    assert f"A copy of a frozen plan was edited: its SHA-256 {digest[:12]} is not that of its content." in first_page()
    assert "Study mine was changed after freezing: size_of_interest was 1.0, is 0.5." in first_page()


def test_what_is_no_frozen_plan_of_these_studies_is_refused(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_text("{}")
    code, text = invoke.unwrapped("run", "--frozen", "plan.json")
    assert code == 2
    assert "plan.json is no frozen plan" in text
    assert "`plan --freeze` writes one" in text
    study = write_study()
    assert invoke("plan", study, "--preset", "smoke", "--freeze")[0] == 0
    code, text = invoke.unwrapped("run", "temperature", "--preset", "smoke", "--frozen", frozen_file())
    assert code == 2
    assert "was frozen for mine at preset smoke, which is something else" in text
    assert not Path("runs/state").exists()
