"""`--version`, `-q`, `-v` and `--json`: every verb takes them, and scripts get what they ask for and nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import run_ablation
from runners.cli.options.groups import examples
from runners.provenance import project_commit
from tests.command_line import Invoke


def test_every_verb_takes_both_options() -> None:
    for verb, command in run_ablation.cli.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert options >= {"-q", "--quiet", "-v", "--verbose"}, verb
        assert len([parameter for parameter in command.params if "-q" in parameter.opts]) == 1


def test_the_version_names_the_commit_of_a_checkout(invoke: Invoke) -> None:
    code, out, err = invoke.apart("--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"dyconv-ablations \S.*, Python 3\.\d+\.\d+\n", out)
    commit = project_commit()
    assert (commit.sha == "unknown") != (commit.sha[:12] in out)


@pytest.mark.parametrize("arguments", [("-q", "plan", "-v", "temperature"), ("plan", "-q", "temperature", "--verbose")])
def test_less_and_more_at_once_is_refused(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    code, out, err = invoke.apart(*arguments)
    assert (code, out) == (2, "")
    assert "Give one of them" in err


def test_quietly_a_plan_is_what_is_left_to_do(invoke: Invoke) -> None:
    quiet = invoke.apart("plan", "temperature", "-q")[1].splitlines()
    assert quiet[0] == "To do: 30 trainings, 0 evaluations."
    assert not any("Lint" in line or "│" in line for line in quiet)
    # The option counts for one command and not for the next in this process.
    assert "Plan at preset quick" in invoke.apart("plan", "temperature")[1]


def test_verbosely_a_plan_has_its_rows_and_an_error_its_place(invoke: Invoke) -> None:
    code, out, err = invoke.apart("plan", "temperature", "-v")
    assert code == 0
    assert re.search(r"^temperature +annealed .* 5 +0$", out, re.MULTILINE)
    assert err.startswith("dyconv-ablations ")
    assert "runs folder: " in err
    code, out, err = invoke.apart("-v", "plan", "agregation")
    assert (code, out) == (2, "")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: unknown study 'agregation'")


def test_a_plan_as_json_has_the_nodes_of_the_plan(invoke: Invoke) -> None:
    code, out, err = invoke.apart("plan", "temperature", "aggregation", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["missing"] == {
        "trainings": 38,
        "evaluations": 72,
        "networks_to_load": 0,
        "networks_to_count": 0,
    }
    fingerprints = {node["fingerprint"] for node in document["nodes"]}
    assert len(fingerprints) == 38 + 72
    assert {cell["fingerprint"] for cell in document["cells"]} <= fingerprints
    parents = {node["depends_on"] for node in document["nodes"]} - {None}
    assert len(parents & fingerprints) == len(parents) == 18
    assert [lint["code"] for lint in document["lints"]] == ["few-seeds"]
    assert all(lint["allowed_because"] for lint in document["lints"])


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("run-ablation", "run-ablation"),
        ("pytest", "python run_ablation.py"),
        ("run_ablation.py", "python run_ablation.py"),
    ],
)
def test_examples_call_the_program_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, command: str
) -> None:
    program = tmp_path / called
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    # A script that is run by its name is found in the path; any other is called by an interpreter.
    monkeypatch.setattr(sys, "argv", [str(program) if called != "run_ablation.py" else called, "--help"])
    monkeypatch.setattr(sys, "orig_argv", ["python", called, "--help"])
    assert examples("run temperature") == f"\b\nExamples:\n  {command} run temperature"


def test_with_json_everything_else_goes_to_standard_error(invoke: Invoke) -> None:
    code, out, err = invoke.apart("plan", "temperature", "--json", "--freeze")
    assert code == 0
    assert json.loads(out)["verb"] == "plan"
    assert "Frozen " in err
