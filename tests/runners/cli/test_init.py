"""The verb `init`: the file that it writes is a study, plans without an objection, and fits the editor's schema."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from ablations.files.schema import study_schema
from ablations.registry import available_studies
from tests.command_line import Invoke


def test_the_file_plans_as_it_stands(invoke: Invoke, tmp_path: Path) -> None:
    code, out, err = invoke.apart("init", "my_study.yaml")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "study file: my_study.yaml"
    text = (tmp_path / "my_study.yaml").read_text()
    assert "name: my_study\n" in text
    assert "run_ablation.py plan my_study.yaml " in text
    jsonschema.Draft202012Validator(study_schema()).validate(yaml.safe_load(text))
    for preset in ("smoke", "quick", "small"):
        code, out, err = invoke.apart("plan", "my_study.yaml", "--preset", preset, "--strict")
        assert (code, err) == (0, ""), out
    # Three trainings, one of which is evaluated once more.
    assert "To do: 9 trainings, 3 evaluations." in invoke.apart("plan", "my_study.yaml")[1]


def test_what_is_in_comments_is_right_as_well(invoke: Invoke, tmp_path: Path) -> None:
    invoke("init", "mine.yaml", "--extends", "temperature")
    path = tmp_path / "mine.yaml"
    head, _, rest = path.read_text().partition("question:")
    lines = [
        line.removeprefix("# ") if line.startswith(("# baseline", "#   ", "# claims")) else line
        for line in rest.splitlines()
    ]
    path.write_text(head + "question:" + "\n".join(lines) + "\n")
    code, out, err = invoke.apart("list", "mine.yaml")
    assert (code, err) == (0, "")
    assert "weight decay matters" in out
    assert "train.epochs = 8" in out


@pytest.mark.parametrize("study", available_studies())
def test_each_study_can_be_extended(invoke: Invoke, study: str) -> None:
    assert invoke.apart("init", "mine.yaml", "--extends", study)[0] == 0
    code, out, err = invoke.apart("plan", "mine.yaml", "--preset", "smoke", "-q")
    assert (code, err) == (0, ""), out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mine.txt",), "ends in .yaml or .yml"),
        (("there.yaml",), "is there already"),
        (("temperature.yaml",), "name of a registered study"),
        (("mine.yaml", "--extends", "temprature"), "unknown study 'temprature'"),
        (("gone/mine.yaml",), "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(
    invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "there.yaml").write_text("old")
    code, out, err = invoke.apart("init", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert (tmp_path / "there.yaml").read_text() == "old"


def test_a_file_is_written_over_only_when_that_is_said(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("old")
    assert invoke.apart("init", "there.yaml", "--force")[0] == 0
    assert "name: there\n" in (tmp_path / "there.yaml").read_text()
