"""Without a tracking server: trained offline, brought over by `sync`, reported; and what is said if none answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from tests.command_line import Invoke

STUDY = """\
name: tiny
question: Does it need a server?
reference: dynamic
seeds: 1
baseline:
  train.epochs: 1
  data.train_images: 64
  data.validation_images: 10
  data.test_images: 10
  model.depth: 0.25
variants:
  dynamic: {}
  averaged: {intervention: {aggregation: average}}
"""
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _study(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)


def test_a_study_without_a_server_and_with_one_later(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = ("run", "tiny.yaml", "--preset", "smoke", "--dispatch", "inline", "--format", "md")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    code, said = invoke.unwrapped(*run)
    assert code == 2
    assert f"the tracking server {NOBODY} does not answer" in said
    assert "run --offline" in said
    code, said = invoke.unwrapped(*run, "--offline")
    assert code == 0
    assert "No report: reports are made from what is tracked, and nothing was." in said
    assert "Later: python run_ablation.py sync" in said
    code, said = invoke.unwrapped("sync")
    assert (code, "does not answer" in said) == (2, True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    code, said = invoke.unwrapped("sync", "tiny.yaml")
    assert code == 0
    assert "2 runs brought over (3 lines), 0 were there" in said
    assert "0 runs brought over (0 lines), 2 were there" in invoke.unwrapped("sync", "--all")[1]
    assert invoke.unwrapped("report", "tiny.yaml", "--preset", "smoke", "--format", "md")[0] == 0
    assert "n=" not in (tmp_path / "runs" / "reports" / "tiny-smoke.md").read_text(encoding="utf-8")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    runs = [run for run in client.search_runs([experiment.experiment_id]) if names.TAG_FINGERPRINT in run.data.tags]
    assert sorted(run.data.tags[names.TAG_KIND] for run in runs) == ["evaluation", "trial"]
    assert invoke.unwrapped(*run)[0] == 0, "the same command finds everything done and tracked"


def test_a_study_that_nobody_knows_is_named(invoke: Invoke) -> None:
    code, said = invoke.unwrapped("sync", "temprature")
    assert (code, "'temperature'" in said) == (2, True)
