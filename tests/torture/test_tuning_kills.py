"""Launches of one tuning, beside each other and killed: the budget is kept, no trial is lost, none is counted twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from runners.workers.proposals import open_journal

ROOT = Path(__file__).resolve().parent.parent.parent
BUDGET = 6
STUDY = """\
name: mine
question: Does it help?
reference: static
baseline:
  data: {train_images: 200, validation_images: 100, test_images: 30}
  train: {epochs: 3, batch_size: 10, learning_rate: 0.01, warmup_epochs: 0.0}
variants:
  static: {model.layer: static}
  dynamic: {}
"""


def tune(folder: Path) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, str(ROOT / "run_ablation.py"), "tune", "mine.yaml", "--preset", "smoke"]
    return subprocess.Popen(
        [*command, "--budget", str(BUDGET), "--workers", "2", "--lease-seconds", "5", "--retry-wait", "0"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(folder: Path, results: int, seconds: float = 1000.0) -> None:
    deadline = time.monotonic() + seconds
    while len(list((folder / "runs/state").glob("*/result.json"))) < results:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_two_launches_of_which_one_is_killed_share_one_budget(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY)
    victim = tune(tmp_path)
    wait_for(tmp_path, 2)
    heir = tune(tmp_path)
    wait_for(tmp_path, 4)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=600)
    output, _ = heir.communicate(timeout=600)
    assert heir.returncode == 0, output
    # Once more: there is nothing left to do, and what the dead one left open is closed.
    last, _ = tune(tmp_path).communicate(timeout=1000)
    assert "Traceback" not in last, last
    _assert_whole(tmp_path)


def _assert_whole(folder: Path) -> None:
    entries = json.loads((folder / "runs/tuning/mine.smoke.json").read_text())["tuned"]
    assert {entry["variant"] for entry in entries} == {"static", "dynamic"}
    for entry in entries:
        assert sum(entry["spent"][key] for key in ("complete", "pruned", "diverged")) == BUDGET
        journal = folder / "runs/tuning/journals" / f"{entry['fingerprint'][:32]}.log"
        trials = open_journal(journal, entry["fingerprint"]).trials
        named = [trial for trial in trials if "slot" in trial.user_attrs]
        assert sorted(trial.user_attrs["slot"] for trial in named) == list(range(BUDGET))
        assert all(trial.state.is_finished() for trial in named)
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = 'tuning'")
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == len({run.data.tags[names.TAG_FINGERPRINT] for run in runs}) == 2 * BUDGET
    for run in runs:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, names.VAL_TOP1)]
        assert steps == list(range(1, len(steps) + 1))
