"""Completion in shells: what is proposed, how bash's broken words are put together, and that it is quick."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run_ablation
from ablations.files.schema import study_schema
from ablations.presets import PRESETS
from ablations.registry import available_studies
from ablations.spec.names import NETWORKS
from ablations.spec.settings import DEFAULTS
from runners.cli.completion.shells import SHELLS, VARIABLE, script
from tests.command_line import Invoke
from tests.test_cli import HEAVY, STUDY, VERBS

ROOT = Path(run_ablation.__file__).parent


def proposed(line: str) -> list[str]:
    """Return what may come next behind a line, its last word being incomplete, as fish asks for it."""
    *words, incomplete = line.split(" ")
    completer = SHELLS["fish"](run_ablation.cli, {}, "run-ablation", VARIABLE)
    return [str(item.value) for item in completer.get_completions(words, incomplete)]


def test_verbs_are_proposed_with_their_help_and_without_an_import() -> None:
    assert proposed("") == list(VERBS)
    assert proposed("comp") == ["compare", "completion"]
    assert "--version" in proposed("--v")


def test_studies_rows_and_presets_are_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert proposed("run ") == list(available_studies())
    assert proposed("plan temp") == ["temperature"]
    assert proposed("run temperature/tau_1") == ["temperature/tau_1", "temperature/tau_10"]
    # Rows of inspected networks by their whole name, and by the variant alone.
    assert "aggregation/tau_1: max" in proposed("run aggregation/m")
    assert proposed("status --preset s") == ["smoke", "small"]
    assert proposed("status --preset ") == list(PRESETS)
    assert proposed("run temperature --force ")[0].startswith("temperature/")


def test_files_are_proposed_with_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(STUDY)
    (tmp_path / "mine.txt").write_text("")
    (tmp_path / "mine.zip").write_text("")
    (tmp_path / "more").mkdir()
    assert proposed("plan m") == ["methods", "mine.yaml", "more/"]
    assert proposed("report mi") == ["mine.yaml", "mine.zip"]
    assert proposed("plan mine.yaml/") == ["mine.yaml/narrow", "mine.yaml/wide"]
    # A folder is not made because somebody looks at what may come next.
    assert proposed(f"report --output {tmp_path}/new/ --fo") == ["--format"]
    assert not (tmp_path / "new").exists()


def test_settings_and_their_values_are_proposed() -> None:
    assert proposed("run --set train.ep") == ["train.epochs="]
    assert {f"{key}=" for key in DEFAULTS} <= set(proposed("run --set "))
    assert proposed("run --set train.nesterov=") == ["train.nesterov=true", "train.nesterov=false"]
    assert proposed("run --set train.optimizer=sgd,a") == ["train.optimizer=sgd,adamw"]
    assert proposed("plan aggregation --set inspect=tau") == ["inspect=tau_1", "inspect=tau_30"]
    assert proposed("run --format pdf,h") == ["pdf,html"]
    names = [value.partition("=")[2] for value in proposed("run --set model.name=")]
    assert names == list(NETWORKS)


def test_an_editor_proposes_the_same_names() -> None:
    settings = study_schema()["properties"]["baseline"]["properties"]
    assert settings["model.name"]["examples"] == list(NETWORKS)


@pytest.mark.parametrize(
    ("line", "word", "answer"),
    [
        ("run-ablation run --set train.optimizer=a", "a", ["plain,adamw"]),
        ("run-ablation run --set train.optimizer=", "", ["plain,sgd", "plain,adamw"]),
        ('run-ablation run "aggregation/tau_1: av', "aggregation/tau_1: av", ["plain,aggregation/tau_1: average"]),
        (r"run-ablation run aggregation/tau_1:\ av", r"\ av", [r"plain,\ average"]),
        ("run-ablation run temperature/ann", "temperature/ann", ["plain,temperature/annealed"]),
        ("run-ablation nonsense ", "", []),
        ("run-ablation run unknown_study/", "unknown_study/", []),
    ],
)
def test_bash_gets_the_part_that_it_replaces(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, line: str, word: str, answer: list[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_LINE", line + " and more behind the cursor")
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setenv("COMP_WORD", word)
    code, out, err = invoke.apart()
    assert (code, err) == (0, "")
    assert out.splitlines() == answer


@pytest.mark.parametrize("shell", list(SHELLS))
def test_the_script_is_one_that_the_shell_reads(invoke: Invoke, tmp_path: Path, shell: str) -> None:
    code, out, err = invoke.apart("completion", shell)
    assert (code, err) == (0, "")
    assert out == script(shell, run_ablation.cli)
    assert "run-ablation" in out
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(out)
    checked = subprocess.run([program, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_command_without_anything_heavy(tmp_path: Path) -> None:
    program = tmp_path / "run-ablation"
    heavy = tmp_path / "heavy.txt"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom run_ablation import main\nmain()\n"
        f"open({str(heavy)!r}, 'w').write(repr([name for name in {HEAVY} if name in sys.modules]))\n"
    )
    program.chmod(0o755)
    (tmp_path / "script").write_text(script("bash", run_ablation.cli))
    line = "run-ablation run temperature/ann"
    # Outside of a completion there is no compopt.
    commands = (
        f"compopt() {{ :; }}; source script; COMP_LINE={line!r}; COMP_POINT={len(line)}; "
        "_run_ablation_completion run-ablation temperature/ann; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-c", commands], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert (ended.stdout, ended.stderr) == ("temperature/annealed\n", "")
    assert heavy.read_text() == "[]"
