"""Ctrl-C, SIGTERM and SIGHUP at any time: a word at once, an end within seconds, and the command that goes on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from runners.launching.session import _farewell
from runners.state.nodes import StateStore
from tests.upkeep.made_up import STUDY, Folder

ROOT = Path(__file__).parent.parent
LONG = ("--preset", "smoke", "--set", "train.epochs=4000")
HOLD = "import time; open('imported', 'w').close(); time.sleep(600)"


def _start(folder: Path, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    """Starts the program in a process group of its own, with signals as a terminal has them."""

    def as_on_a_terminal() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_ablation.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**environment, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        start_new_session=True,
        preexec_fn=as_on_a_terminal,
        **more,
    )


def _wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        assert process.poll() is None, process.communicate()
        if condition():
            return
        time.sleep(0.05)
    process.kill()
    pytest.fail("it did not get there")


@pytest.mark.parametrize("module", ["rich", "click", "pydantic"])
def test_ctrl_c_during_the_first_imports_is_no_traceback(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(HOLD)
    process = _start(tmp_path, "list")
    _wait_for((tmp_path / "imported").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "nterrupted" in said


@pytest.mark.parametrize(
    ("verb", "number", "code"),
    [
        (["report", "temperature"], signal.SIGINT, 130),
        pytest.param(["verify", "x.md"], signal.SIGTERM, 143, marks=pytest.mark.torture),
        (["sync"], signal.SIGHUP, 129),
        pytest.param(["sync"], signal.SIGINT, 130, marks=pytest.mark.torture),
        pytest.param(["compare", "a", "b"], signal.SIGTERM, 143, marks=pytest.mark.torture),
    ],
)
def test_any_verb_ends_with_a_word(tmp_path: Path, verb: list[str], number: signal.Signals, code: int) -> None:
    (tmp_path / "x.md").write_text("")
    (tmp_path / "held.py").write_text(HOLD)
    process = _start(tmp_path, *verb, "--plugin", "held")
    _wait_for((tmp_path / "imported").exists, process)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    assert said.startswith("Stopping")
    assert "Interrupted." in said
    assert "Traceback" not in said
    # What is kept, and how to go on.
    if verb[0] == "sync":
        assert "What was brought over stays" in said
        assert f"goes on: {sys.executable} {ROOT / 'run_ablation.py'} sync --plugin held" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.torture),
        pytest.param(signal.SIGTERM, marks=pytest.mark.torture),
        pytest.param(signal.SIGHUP, marks=pytest.mark.torture),
    ],
)
def test_a_launch_says_what_is_kept_and_the_command_that_it_names_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("  train.epochs: 1\n", ""))
    runs = tmp_path / "my runs"
    process = _start(tmp_path, "run", "tiny.yaml", *LONG, "--device", "cpu", "--runs-dir", "my runs", "--format", "md")
    _wait_for(lambda: list(runs.glob("state/*/events.jsonl")), process)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + number, said
    assert "Stopping" in said
    assert "Interrupted. Kept: 0 of 3 finished." in said
    assert "Traceback" not in said
    command = said.partition("goes on: ")[2].splitlines()[0]
    words = shlex.split(command)
    assert words[:2] == [sys.executable, str(ROOT / "run_ablation.py")]
    assert words[words.index("--runs-dir") + 1] == "my runs"
    shorter = [word.replace("=4000", "=1") for word in words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(shorter, cwd=tmp_path, env=environment, check=False, timeout=1000).returncode == 0


@pytest.mark.torture
@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("  train.epochs: 1\n", ""))
    process = _start(tmp_path, "run", "tiny.yaml", *LONG, "--device", "cpu")
    _wait_for(lambda: list(tmp_path.glob("runs/state/*/events.jsonl")), process)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode in (130, 143), said
    assert said.count("The same command goes on") == 1


def test_what_is_kept_names_the_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    folder, request = Folder(tmp_path / "runs"), Request(get_preset("smoke"))
    plan = make_plan([get_study(str(tmp_path / "tiny.yaml"), request.base())], request)
    folder.finish(plan, "calm")
    begun = folder.state(plan, "wide")
    for step in (40, 60):
        (begun.folder / f"checkpoint-{step:09d}.safetensors").write_bytes(b"")
    begun.report_progress(epoch=7, epochs=10, step=70, steps=100)
    first, kept, command = _farewell(plan, StateStore(folder.root / "state"), "run it")
    assert first == "Interrupted. Kept: 1 of 3 finished."
    assert kept.endswith("checkpoint at epoch 6 of 10")
    assert command == "The same command goes on: run it"
    begun.report_progress(step=0, steps=0)
    assert _farewell(plan, StateStore(folder.root / "state"), "run it")[1].endswith("checkpoint at step 60")
