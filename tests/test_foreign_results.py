"""The page on results from elsewhere: its commands and its Python work in its order, and its study is the example's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.command_line import Invoke

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "foreign-results.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for _, block in BLOCKS for line in block.splitlines() if line.startswith("python ")]
EXAMPLE = Path("examples") / "results"


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    """Carries out the script of the example in this process."""
    spec = importlib.util.spec_from_file_location("train", folder / "train.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    script.main()


def test_the_study_of_the_page_is_that_of_the_example() -> None:
    (text,) = [block for language, block in BLOCKS if language == "yaml"]
    assert text == (ROOT / EXAMPLE / "study.yaml").read_text(encoding="utf-8")


# The example stops its trainings early, which scikit-learn calls a failure to converge.
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer:UserWarning")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_the_page_works(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(ROOT / EXAMPLE, tmp_path / EXAMPLE)
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLE / "results.csv").read_text()
    Path("wandb_export.csv").write_text(text.replace("variant,seed,accuracy", '"optimizer","seed","test_acc"'))
    Path("after.csv").write_text(text.replace("80.67", "81.67"))
    (snippet,) = [block for language, block in BLOCKS if language == "python" and "pandas" in block]
    exec(snippet, {})
    # MLflow keeps connections by the name of a store, so that a relative one would be another test's.
    store = f"sqlite:///{tmp_path}/mlflow.db"
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        _, script, *arguments = shlex.split(command.replace("sqlite:///mlflow.db", store))
        if script.endswith("train.py"):
            train(monkeypatch, EXAMPLE, *arguments)
            continue
        # The page's commands write four formats, which takes longer; here each writes what a later one checks.
        if arguments[0] == "report" and "--format" not in arguments:
            formats = "html" if "mlflow:" in command else "md"
            arguments += ["--format", "pdf" if "study.yaml" in command and formats == "md" else formats]
        code, printed = invoke(*arguments)
        assert code == 0, f"{command}\n{printed}"
    assert (EXAMPLE / "study-report" / "study.pdf").is_file()
    # What the page shows of the example is what it gives.
    _, printed = invoke("report", EXAMPLE / "study.yaml", "--results", EXAMPLE / "results.csv", "--format", "md")
    for number in ("80.50 ± 3.24", "+15.08 [+10.66, +19.49]", "−0.22 [−0.88, +0.43]"):
        assert number in PAGE
        assert number in printed
    (EXAMPLE / "results.csv").write_text(text.replace("momentum,1,95.83", "momentum,1,96.83"))
    code, printed = invoke("verify", EXAMPLE / "study-report" / "study.pdf", "--results", EXAMPLE / "results.csv")
    assert code == 1
    assert "differs: momentum, seed 1: 95.83 in the report, 96.83 in results.csv" in PAGE
    assert "differs: momentum, seed 1: 95.83 in the report, 96.83 in results.csv" in printed


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("report", "--reference", "sgd"), "are about --results: which?"),
        (("report", "--results", "r.csv", "--preset", "small"), "Leave out the options of runs that are made here"),
        (("report", "aggregation", "--results", "r.csv"), "'aggregation' is no study of results from elsewhere"),
        (("report", "a.yaml", "b.yaml", "--results", "r.csv"), "--results takes one study file, or none"),
        (("compare",), "Missing argument 'LEFT'"),
        (("compare", "aggregation", "--metric", "acc"), "are about --left-results and --right-results"),
        (
            ("compare", "--left-results", "r.csv", "--left-preset", "small", "--right-results", "s.csv"),
            "no store, preset",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(invoke: Invoke, arguments: tuple[str, ...], reason: str) -> None:
    code, printed = invoke.unwrapped(*arguments)
    assert code == 2
    assert reason in printed


def test_a_brief_lies_beside_the_whole_report_and_verifies(invoke: Invoke, tmp_path: Path) -> None:
    study, results = ROOT / EXAMPLE / "study.yaml", ROOT / EXAMPLE / "results.csv"
    code, printed = invoke(
        *("report", study, "--results", results, "--brief", "--format", "html", "--output", f"{tmp_path}/")
    )
    assert code == 0, printed
    (file,) = tmp_path.glob("*.html")
    assert file.stem.endswith("-brief")
    code, printed = invoke("verify", file, "--results", results)
    assert code == 0, printed
    assert printed.strip().endswith("no differences.")
