"""Commands that the program suggests: each is one that works when it is pasted into the same shell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import run_ablation
from ablations.invocation import suggested_command
from ablations.planning.request import Request, who_set
from ablations.presets import SMOKE
from tests.command_line import Invoke
from tests.upkeep.made_up import STUDY, Folder

_SUGGESTED = re.compile(r"python run_ablation\.py (?:[^\n&])+")


def suggestions(said: str) -> list[list[str]]:
    """Returns the suggested commands in a text, without the program."""
    return [shlex.split(found[0].rstrip(".)"))[2:] for found in _SUGGESTED.finditer(said)]


def _accepted(words: list[str]) -> dict[str, object]:
    """Returns what a command is asked for, if the command line takes it."""
    verb = run_ablation.cli.commands[words[0]]
    context = verb.make_context(words[0], words[1:])
    return context.params


@pytest.fixture
def owing(folder: Folder, tmp_path: Path) -> Folder:
    """A runs folder with a failed training, garbage, and something that the store has not got."""
    (tmp_path / "mine.py").write_text("")
    plan = folder.plan(train__epochs=2)
    folder.launch(plan)
    folder.finish(plan, "calm")
    folder.owe(plan, "calm")
    folder.fail(folder.state(plan, "wide"), "settings")
    (folder.state(plan, "calm").folder / "checkpoint-000000007.safetensors").write_bytes(b"")
    return folder


SCALE = ("--preset", "smoke", "--set", "train.epochs=2")


@pytest.mark.parametrize(
    ("command", "verbs"),
    [
        (("explain", "tiny.yaml/wide", *SCALE), ["retry"]),
        (("status",), ["sync"]),
        (("status", "tiny.yaml", *SCALE), ["sync"]),
        (("gc",), ["gc"]),
        (("plan", "tiny.yaml", *SCALE), ["plan"]),
        (("report", "tiny.yaml", *SCALE), ["run"]),
        (("plan", "tiny.yaml", "--tuned", *SCALE), ["tune"]),
    ],
)
def test_what_is_suggested_carries_what_was_given_and_is_taken(
    owing: Folder,
    invoke: Invoke,
    tmp_path: Path,
    command: tuple[str, ...],
    verbs: list[str],
) -> None:
    _, said = invoke(*command, "--plugin", "mine")
    found = suggestions(said.replace("\n", " \n"))
    assert [words[0] for words in found] == verbs, said
    for words in found:
        asked = _accepted(words)
        assert asked["runs_dir"] == tmp_path / "runs"
        assert asked.get("plugins", ("mine",)) == ("mine",)
        if words[0] not in ("sync", "gc"):
            assert (asked["preset"], asked["overrides"]) == ("smoke", ("train.epochs=2",))
            assert asked["studies"] == ("tiny.yaml",)


def test_what_has_failed_is_not_said_to_have_never_run(invoke: Invoke, tmp_path: Path) -> None:
    run = ("--preset", "smoke", "--dispatch", "inline", "--format", "md")
    (tmp_path / "bad.yaml").write_text(
        "name: bad\nquestion: Is it lost?\nreference: a\nseeds: 1\nbaseline:\n  train.epochs: 1\n"
        "  data.train_images: 64\n  data.validation_images: 10\n  data.test_images: 10\n  model.depth: 0.25\n"
        "  train.learning_rate: 1.0e+9\nvariants:\n  a: {}\n  b: {model.width: 0.5}\n"
    )
    code, said = invoke("run", "bad.yaml", *run)
    assert code == 1, said
    found = suggestions(said)
    assert "retry" in [words[0] for words in found]
    assert "2 failed" in said
    for words in found:
        assert _accepted(words)["studies"] == ("bad.yaml",)
    assert "Run it first" not in said
    code, said = invoke("report", "--format", "md")
    assert (code, "2 failed" in said) == (1, True), said


def test_report_alone_reports_the_last_run(invoke: Invoke, folder: Folder, tmp_path: Path) -> None:
    code, said = invoke("report")
    assert (code, "nothing was run here yet" in said) == (2, True)
    run = ("run", "tiny.yaml", "--preset", "smoke", "--dispatch", "inline", "--format", "md")
    assert invoke(*run)[0] == 0
    assert list((tmp_path / "runs" / "reports").glob("*.md"))
    for path in (tmp_path / "runs" / "reports").glob("*.md"):
        path.unlink()
    code, said = invoke("report", "--format", "md")
    assert code == 0, said
    assert list((tmp_path / "runs" / "reports").glob("*.md"))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("preset", "set: data.validation_images by preset 'smoke'"),
        ("baseline", "set: data.validation_images by the study's baseline"),
        ("own", "set: data.validation_images by the variant"),
    ],
)
def test_who_has_set_a_value_that_cannot_be_is_named(invoke: Invoke, tmp_path: Path, where: str, words: str) -> None:
    study = STUDY.replace("  data.validation_images: 10", "  data.validation_images: 100000")
    if where == "own":
        study = STUDY.replace("wide: {model.width: 0.5}", "wide: {data.validation_images: 100000}")
    if where == "preset":
        assert words in who_set("data.validation_images = 100, but", Request(SMOKE).sources())
        return
    (tmp_path / "tiny.yaml").write_text(study)
    code, said = invoke("plan", "tiny.yaml", "--preset", "smoke")
    assert (code, words in said) == (2, True), said


def test_a_command_is_quoted_for_the_shell(invoke: Invoke, tmp_path: Path) -> None:
    odd = "it's; a $(study) `with` spaces.yaml"
    (tmp_path / odd).write_text(STUDY)
    _, said = invoke("plan", odd, "--preset", "smoke", "--set", "train.epochs=2")
    command = said.partition("of each: ")[2].splitlines()[0]
    asked = _accepted(shlex.split(command)[2:])
    assert asked["studies"] == (odd,)
    assert asked["calibrate"] is True


def test_no_password_of_an_address_is_suggested() -> None:
    command = run_ablation.cli.commands["verify"]
    with command.make_context("verify", [__file__, "--tracking-uri", "http://me:secret@host"]) as context:
        assert "secret" not in suggested_command("sync")
        assert context.params["uri"]
