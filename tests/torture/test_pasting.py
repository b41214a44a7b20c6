"""What the program suggests is pasted into the shell as it stands and works: after a failure, offline, at first."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

# Six programs, each of which imports torch.
pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent.parent
STUDY = """\
name: shyness
question: Does it work the second time?
reference: shy
seeds: 1
baseline:
  train.epochs: 1
  data.train_images: 32
  data.validation_images: 10
  data.test_images: 10
  model.depth: 0.25
  model.width: 0.25
  model.aggregation: shy
variants:
  shy: {}
  averaged: {intervention: {aggregation: average}}
"""
PLUGIN = """\
from pathlib import Path
import dyconv

@dyconv.register_aggregation("shy")
def shy(attention, context):
    if attention.requires_grad and Path("shy once").exists():
        Path("shy once").unlink()
        raise ValueError("too shy")
    return attention
"""
WHERE = ("--runs-dir", "my runs; here", "--plugin", "timid", "--preset", "smoke")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the study and the plug-in, both of whose names a shell would split."""
    (tmp_path / "my study.yaml").write_text(STUDY)
    (tmp_path / "timid.py").write_text(PLUGIN)
    return tmp_path


def shell(folder: Path, command: str, code: int = 0) -> str:
    """Run a line in a shell and return what it says, after checking its exit code."""
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment = {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "80"}
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=1000,
        env=environment,
        cwd=folder,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def program(*words: str) -> str:
    return shlex.join([sys.executable, str(ROOT / "run_ablation.py"), *words])


def suggested(said: str, after: str) -> str:
    """Return the command that stands after some words, up to the end of the line: the text as it would be copied."""
    found = re.search(rf"{re.escape(after)} (.*)", said)
    assert found is not None, said
    return found[1]


def test_what_failed_is_run_again_by_the_command_that_is_suggested(folder: Path) -> None:
    (folder / "shy once").touch()
    said = shell(folder, program("report", "my study.yaml", *WHERE, "--format", "md"), 1)
    said = shell(folder, suggested(said, "Run it first:") + " --dispatch inline", 1)
    assert "too shy" in said
    said = shell(folder, suggested(said, "To try again what failed:"))
    assert "2 finished, 0 failed" in said
    (report,) = (folder / "my runs; here" / "reports").glob("*.md")
    report.unlink()
    shell(folder, program("report", "--runs-dir", "my runs; here", "--format", "md"))
    assert report.exists()


def test_what_was_measured_offline_is_reported_by_the_command_that_is_suggested(folder: Path) -> None:
    run = ("run", "my study.yaml", *WHERE, "--format", "md", "--dispatch", "inline", "--offline")
    said = shell(folder, program(*run))
    assert not list(folder.glob("my runs; here/reports/*"))
    shell(folder, suggested(said, "Later:"))
    assert len(list(folder.glob("my runs; here/reports/*.md"))) == 1
