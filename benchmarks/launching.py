"""This module measures a launch around its trainings: time to the first step, processor time outside the workers.

It measures both from outside, on `run_ablation.py run` as a user calls it, in an empty folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.processes import ProcessorSeconds, processor_seconds
from benchmarks.timing import median_of

_ROOT = Path(__file__).resolve().parent.parent
_STARTS = 5
_LONGEST = 120.0
_RUNS = {
    "the studies aggregation, resolution and temperature": ("aggregation", "resolution", "temperature"),
    "all studies": ("--all",),
}


def launching() -> dict[str, Any]:
    """Return the median seconds to the first step, and the processor seconds of launcher and workers in quick runs.

    The launcher plans, tracks, follows and reports; its cost is its share of both. Workers train and evaluate.
    """
    return {
        "first_step_seconds": median_of([_first_step() for _ in range(_STARTS)]),
        "quick": [{"studies": title, **asdict(_quick(arguments))} for title, arguments in _RUNS.items()],
    }


def _first_step() -> float:
    """Return the seconds from the start of a process to the first step of its training, read from its state folder."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--preset", "smoke", "--runs-dir", folder, "--workers", "1", "--set", "train.epochs=50"]
        command = [sys.executable, "run_ablation.py", "run", "temperature", *options]
        start = time.monotonic()
        with subprocess.Popen(command, cwd=_ROOT, env=_environment(), stdout=subprocess.DEVNULL) as process:
            try:
                # By polling, every 10 ms, which bounds the error of the measurement.
                while not _has_stepped(Path(folder)):
                    if process.poll() is not None or time.monotonic() - start > _LONGEST:
                        raise RuntimeError("the launch took no step")
                    time.sleep(0.01)
                return time.monotonic() - start
            finally:
                process.terminate()


def _has_stepped(folder: Path) -> bool:
    for path in folder.glob("state/*/progress.json"):
        try:
            if "step" in json.loads(path.read_text()):
                return True
        except ValueError:  # the file is being written
            continue
    return False


def _quick(asked: Sequence[str]) -> ProcessorSeconds:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "run_ablation.py", "run", *asked, "--preset", "quick", "--runs-dir", folder]
        return processor_seconds(command, _ROOT, _environment())


def _environment() -> dict[str, str]:
    # Without the user's tracking server, which the time must not depend on.
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return environment | {"PYTHONPATH": str(_ROOT)}
