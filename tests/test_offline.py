"""Without a tracking server: trained offline, brought over by `sync`, reported; and what is said if none answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import run_ablation
from ablations import vocabulary as names

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

Invoke = Callable[..., tuple[int, str]]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Runs the command line in this process, in a folder with the study: exit code and all that is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tiny.yaml").write_text(STUDY)

    def call(*arguments: str) -> tuple[int, str]:
        code: Any = 0
        try:
            # Absolute, as MLflow keeps stores open by their names, and this process sees several.
            run_ablation.main([*arguments, "--runs-dir", str(tmp_path / "runs")])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code or 0, " ".join((captured.out + captured.err).split())

    return call


def test_a_study_without_a_server_and_with_one_later(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = ("run", "tiny.yaml", "--preset", "smoke", "--dispatch", "inline", "--format", "md")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    code, said = invoke(*run)
    assert code == 2
    assert f"the tracking server {NOBODY} does not answer" in said
    assert "run --offline" in said
    code, said = invoke(*run, "--offline")
    assert code == 0
    assert "No report: reports are made from what is tracked, and nothing was." in said
    assert "Later: python run_ablation.py sync" in said
    code, said = invoke("sync")
    assert (code, "does not answer" in said) == (2, True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    code, said = invoke("sync", "tiny.yaml")
    assert code == 0
    assert "2 runs brought over (3 lines), 0 were there" in said
    assert "0 runs brought over (0 lines), 2 were there" in invoke("sync", "--all")[1]
    assert invoke("report", "tiny.yaml", "--preset", "smoke", "--format", "md")[0] == 0
    assert "n=" not in (tmp_path / "runs" / "reports" / "tiny-smoke.md").read_text(encoding="utf-8")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    runs = [run for run in client.search_runs([experiment.experiment_id]) if names.TAG_FINGERPRINT in run.data.tags]
    assert sorted(run.data.tags[names.TAG_KIND] for run in runs) == ["evaluation", "trial"]
    assert invoke(*run)[0] == 0, "the same command finds everything done and tracked"


def test_a_study_that_nobody_knows_is_named(invoke: Invoke) -> None:
    code, said = invoke("sync", "temprature")
    assert (code, "'temperature'" in said) == (2, True)
