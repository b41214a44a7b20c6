"""A study of two tiny trainings through the command line, and whether two runs of it measured the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent.parent

_STUDY = """\
name: tiny
question: Do all places of work measure the same?
reference: static
baseline: {train.epochs: %(epochs)d, data.train_images: 64, data.validation_images: 40, data.test_images: 40}
variants:
  static: {model.layer: static}
  dynamic: {}
  averaged: {intervention: {aggregation: average}}
"""


def start_study(runs: Path, *options: str, epochs: int = 1) -> subprocess.Popen[str]:
    """Starts `run_ablation.py run` on the study, with one seed, in the background."""
    runs.mkdir(parents=True, exist_ok=True)
    study = runs / "tiny.yaml"
    study.write_text(_STUDY % {"epochs": epochs})
    command = [sys.executable, str(ROOT / "run_ablation.py"), "run", str(study), "--preset", "smoke", "--seeds", "1"]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [*command, "--format", "md", "--device", "cpu", "--runs-dir", str(runs), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "NO_COLOR": "1", "PYTHONWARNINGS": "default"},
        cwd=ROOT,
    )


def run_study(runs: Path, *options: str, epochs: int = 1) -> str:
    """Runs the study to its end; returns what was printed."""
    process = start_study(runs, *options, epochs=epochs)
    output, errors = process.communicate(timeout=1000)
    assert process.returncode == 0, output + errors
    assert "Traceback" not in errors, errors
    assert (runs / "reports" / "tiny-smoke-1seed.md").exists()
    return output + errors


def assert_same_results(one: Path, two: Path) -> None:
    """Raises unless two runs of the study ended with the same bits."""
    first, second = _results(one), _results(two)
    assert len(first) == 3
    assert first == second
    for fingerprint in first:
        paths = [runs / "state" / fingerprint / "model.safetensors" for runs in (one, two)]
        if paths[0].exists():
            weights = [load_file(path) for path in paths]
            assert [key for key in weights[0] if not torch.equal(weights[0][key], weights[1][key])] == []


def _results(runs: Path) -> dict[str, Any]:
    """Returns metrics and epochs of each node, but for what depends on the clock."""
    found: dict[str, Any] = {}
    for path in sorted((runs / "state").glob("*/result.json")):
        events = path.with_name("events.jsonl")
        lines = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
        epochs = [
            (line["step"], {key: value for key, value in line["metrics"].items() if "per_second" not in key})
            for line in lines
        ]
        found[path.parent.name] = (json.loads(path.read_text())["metrics"], epochs)
    return found
