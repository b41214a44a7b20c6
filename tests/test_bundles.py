"""A bundle from the command line: packed, checked without its store, MLflow or a network, made again, trained again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports.archive.bundle import make_bundle, open_bundle
from tests.command_line import Invoke

# The first test launches a study.
pytestmark = pytest.mark.timeout(2400)
ROOT = Path(__file__).resolve().parent.parent
STUDY = """\
name: tiny
question: Can a stranger check it?
reference: dynamic
seeds: 2
baseline:
  train.epochs: 2
  data.train_images: 64
  data.validation_images: 10
  data.test_images: 10
  model.depth: 0.25
variants:
  dynamic: {}
  averaged: {intervention: {aggregation: average}}
"""

ALONE = """\
import socket
import sys


class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mlflow", "sqlalchemy", "alembic", "torch"):
            raise ImportError(f"{name} is not installed here")


def refuse(*arguments, **keywords):
    raise OSError("there is no network")


sys.meta_path.insert(0, Refusing())
socket.socket.connect = socket.socket.bind = socket.create_connection = refuse
import run_ablation

run_ablation.main(sys.argv[1:])
"""
"""A machine without MLflow, torch and a network."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study, its report and its bundle; the runs folder is gone."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "tiny.yaml").write_text(STUDY)
    for arguments in (
        ["run", "tiny.yaml", "--preset", "smoke", "--dispatch", "inline"],
        ["bundle", "tiny.yaml", "--preset", "smoke"],
        ["bundle", "--output", "second.zip"],
    ):
        done = command(arguments, folder)
        assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(folder / "runs" / "reports", folder / "reports")
    (folder / "reports" / "tiny-smoke.zip").rename(folder / "paper.zip")
    (folder / "runs").rename(folder / "gone")
    return folder


def command(arguments: list[str], folder: Path, script: str = "") -> subprocess.CompletedProcess[str]:
    """Carries out a command in a process of its own, or hands its arguments to a script."""
    program = ["-c", script] if script else [str(ROOT / "run_ablation.py")]
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    env["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, *program, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_two_bundles_are_the_same_bytes_without_weights(home: Path) -> None:
    content = (home / "paper.zip").read_bytes()
    assert (home / "second.zip").read_bytes() == content
    bundle = open_bundle(home / "paper.zip")
    assert not [name for name in bundle.names if name.endswith(".safetensors")]
    # The words of the report's folder, and not of the machine: nothing names where it was made.
    for name in bundle.names:
        assert str(home).encode() not in bundle.read(name), name


def test_it_is_checked_and_made_again_on_a_machine_that_has_neither_store_nor_network(
    home: Path, tmp_path: Path
) -> None:
    shutil.copyfile(home / "paper.zip", tmp_path / "paper.zip")
    checked = command(["verify", "paper.zip"], tmp_path, ALONE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "files are as packed" in checked.stdout
    assert checked.stdout.strip().endswith("runs computed again: no differences.")
    made = command(["report", "paper.zip"], tmp_path, ALONE)
    assert made.returncode == 0, made.stdout + made.stderr
    reports = {path.name: path.read_bytes() for path in (home / "reports").glob("tiny-smoke.*")}
    assert {Path(name).suffix for name in reports} == {".pdf", ".html", ".md", ".tex"}
    assert {name: (tmp_path / "paper" / name).read_bytes() for name in reports} == reports
    # Nothing else was written there, a store least of all.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["paper", "paper.zip"]


def test_a_changed_byte_is_named(home: Path, tmp_path: Path, invoke: Invoke) -> None:
    content = bytearray((home / "paper.zip").read_bytes())
    # Within the report itself, not within a figure.
    content[content.index(open_bundle(home / "paper.zip").read("report/tiny-smoke.pdf")) + 100] ^= 1
    (tmp_path / "changed.zip").write_bytes(content)
    code, text = invoke("verify", tmp_path / "changed.zip")
    assert code == 1
    assert "differs: report/tiny-smoke.pdf was changed" in text
    code, text = invoke("report", tmp_path / "changed.zip")
    assert code == 1
    assert "not as it was packed: report/tiny-smoke.pdf was changed" in text


def test_a_training_again_is_the_same_bits(home: Path, invoke: Invoke) -> None:
    code, text = invoke("verify", home / "paper.zip", "--retrain", 1, "--draw", "a word")
    assert code == 0, text
    again = [line for line in text.splitlines() if line.startswith("again: ")]
    assert [line.split()[1] for line in again] == ["trial", "evaluation"]
    assert all("bit for bit the same" in line for line in again)
    assert "over 2 epochs, weights, correct images" in again[0]


def test_a_training_that_was_reported_otherwise_is_named_with_its_metrics(
    home: Path, tmp_path: Path, invoke: Invoke
) -> None:
    bundle = open_bundle(home / "paper.zip")
    files = {name: bundle.read(name) for name in bundle.names}
    for name in files:
        if name.endswith("history.json"):
            # Another loss in each training, with the digests of the bundle made anew.
            text = files[name].decode()
            start = text.index('"train/loss": {')
            files[name] = (text[:start] + text[start:].replace('"1": ', '"1": 1', 1)).encode()
    (tmp_path / "forged.zip").write_bytes(make_bundle(files, bundle.listing.about))
    code, text = invoke("verify", tmp_path / "forged.zip", "--retrain", 1)
    assert code == 1
    assert "train/loss over the epochs: other values from epoch 1 on" in text


def test_a_bundle_is_a_side_of_a_comparison(home: Path, tmp_path: Path, invoke: Invoke) -> None:
    shutil.copyfile(home / "tiny.yaml", tmp_path / "tiny.yaml")
    sides = ["--left-uri", home / "paper.zip", "--right-uri", home / "gone"]
    code, text = invoke("compare", "tiny.yaml", "--preset", "smoke", *sides)
    assert code == 0, text
    # The rows on both sides are the same runs, as the bundle has their ids.
    assert "same runs" in text
    assert "Difference" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("report", "paper.zip", "--preset", "smoke"), "is a bundle, which says itself what was asked"),
        (("report", "none.zip"), "cannot read none.zip"),
        (("bundle", "tiny.yaml", "--output", "paper.pdf"), "a bundle ends in .zip"),
        (("bundle", "tiny.yaml", "--format", "md", "--preset", "smoke"), "needs pdf or html"),
        (("verify", "paper.zip", "--draw", "x"), "are about --retrain"),
        (("verify", "tiny.yaml"), "neither a PDF nor an HTML"),
    ],
)
def test_a_wrong_input_is_a_sentence(
    home: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(home)
    code, text = invoke.unwrapped(*arguments, *(() if arguments[0] == "verify" else ("--runs-dir", home / "gone")))
    assert code in (1, 2)
    assert words in text
    assert "Traceback" not in text
