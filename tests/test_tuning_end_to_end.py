"""Tuning through the command line: from `tune` over the values in a file to a report of what they led to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from tests.command_line import run_command

STUDY = """\
name: mine
question: Does it help to be dynamic?
reference: static
seeds: 1
baseline:
  data: {train_images: 40, validation_images: 20, test_images: 30}
  train: {epochs: 2, batch_size: 10, learning_rate: 0.01, warmup_epochs: 0.0}
  model.num_kernels: 2
variants:
  static: {model.layer: static}
  dynamic: {}
  averaged: {intervention: {aggregation: average}}
nuisance:
  train.learning_rate: {low: 0.001, high: 0.1, log: true}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study, in which it has been tuned with two trials and then run."""
    place = tmp_path_factory.mktemp("tuning")
    (place / "mine.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert run_command("tune", "mine.yaml", "--preset", "smoke", "--budget", "2", "--dispatch", "inline") == 0
        # A second time there is nothing to do, and nothing changes but the time.
        before = found(place)
        assert run_command("tune", "mine.yaml", "--preset", "smoke", "--budget", "2", "--dispatch", "inline") == 0
        assert [{**entry, "time": ""} for entry in found(place)] == [{**entry, "time": ""} for entry in before]
        run = ("run", "mine.yaml", "--preset", "smoke", "--tuned", "--dispatch", "inline", "--format", "md")
        assert run_command(*run) == 0
    return place


def found(place: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((place / "runs/tuning/mine.smoke.json").read_text())["tuned"]
    return entries


def runs(place: Path, kind: str) -> list[Any]:
    client = MlflowClient(f"sqlite:///{place}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = '{kind}'"))


def test_the_file_names_study_variants_values_budget_and_commit(folder: Path) -> None:
    entries = {entry["variant"]: entry for entry in found(folder)}
    assert set(entries) == {"static", "dynamic", "averaged"}
    assert entries["dynamic"]["fingerprint"] == entries["averaged"]["fingerprint"]
    for entry in entries.values():
        assert 0.001 <= entry["values"]["train.learning_rate"] <= 0.1
        assert entry["base"] == {"train.learning_rate": 0.01}
        assert entry["spent"]["budget"] == 2
        assert sum(entry["spent"][key] for key in ("complete", "pruned", "diverged")) == 2
        assert len(entry["git_commit"]) == 40


def test_each_trial_is_a_run_under_that_of_its_variant(folder: Path) -> None:
    above = {run.info.run_id: run for run in runs(folder, "tuned")}
    trials = runs(folder, "tuning")
    assert len(above) == 2
    assert len(trials) == 4
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    for run in trials:
        parent = above[run.data.tags[names.TAG_PARENT]]
        assert run.data.tags[names.TAG_GROUP] == parent.data.tags[names.TAG_GROUP]
        assert run.info.status == "FINISHED"
        assert run.data.tags[names.TAG_OUTCOME] in ("complete", "pruned")
        assert "train.learning_rate" in run.data.params
        steps = [point.step for point in client.get_metric_history(run.info.run_id, names.VAL_TOP1)]
        assert steps == list(range(1, round(run.data.metrics[names.TUNING_EPOCHS]) + 1))
        assert not [name for name in run.data.metrics if name.startswith("test/")]
    for run in above.values():
        assert run.data.params["range.train.learning_rate"] == "0.001 to 0.1 (log)"
        assert run.data.metrics["tuning/trials.complete"] >= 1
        assert f"{names.TAG_FOUND_PREFIX}train.learning_rate" in run.data.tags
    assert {run.data.tags["abl.study.mine"] for run in above.values()} == {"static", "dynamic, averaged"}


def test_the_run_trains_with_what_was_found_and_says_so(folder: Path) -> None:
    values = {entry["variant"]: entry["values"]["train.learning_rate"] for entry in found(folder)}
    trials = {run.data.params["model.layer"]: run for run in runs(folder, "trial")}
    assert set(trials) == {"static", "dynamic"}
    for variant, run in trials.items():
        assert float(run.data.params["train.learning_rate"]) == values[variant]
        assert run.data.params["tuned"] == run.data.tags[names.TAG_TUNED] == "train.learning_rate"
    variants = {run.data.tags[names.TAG_VARIANT_NAME]: run for run in runs(folder, "variant")}
    assert float(variants["averaged"].data.params["tuned.train.learning_rate"]) == values["dynamic"]


def test_the_report_has_the_ledger_and_stands_beside_an_untuned_one(folder: Path) -> None:
    text = (folder / "runs/reports/mine-smoke-tuned.md").read_text()
    assert "Ledger" in text
    assert "2 trials per variant on the validation split" in text
    assert "Tuned settings" in text
    assert "Nuisance (tuned for each variant): train.learning" in text


def test_report_and_plan_know_what_was_tuned(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    report = folder / "runs/reports/mine-smoke-tuned.md"
    before = report.read_bytes()
    report.unlink()
    # Without saying so again: as the study was run last.
    assert run_command("report", "mine.yaml", "--format", "md") == 0
    assert report.read_bytes() == before
    capsys.readouterr()
    assert run_command("plan", "mine.yaml", "--preset", "smoke", "--tuned") == 0
    out = capsys.readouterr().out
    assert "Tuned settings" in out
    assert "To do: 0 trainings, 0 evaluations." in out


def test_a_tuned_report_is_verified_down_to_its_trials(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run_command("report", "mine.yaml", "--preset", "smoke", "--tuned", "--format", "html") == 0
    capsys.readouterr()
    assert run_command("verify", "runs/reports/mine-smoke-tuned.html") == 0, capsys.readouterr()
    assert "no differences" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    run = next(run for run in runs(folder, "tuning") if run.data.tags[names.TAG_OUTCOME] == "complete")
    client.set_tag(run.info.run_id, names.TAG_OUTCOME, "pruned")
    try:
        assert run_command("verify", "runs/reports/mine-smoke-tuned.html") == 1
    finally:
        client.set_tag(run.info.run_id, names.TAG_OUTCOME, "complete")
    assert "stopped early: 0 in the report, 1 from the runs" in capsys.readouterr().out


def test_what_tuning_rests_on_is_no_garbage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = sorted((folder / "runs/state").glob("*/result.json"))
    assert len(before) == 4 + 2 + 1
    assert run_command("gc", "--results", "--yes") == 0
    assert sorted((folder / "runs/state").glob("*/result.json")) == before


def test_what_was_not_tuned_is_told_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert run_command("run", "mine.yaml", "--preset", "smoke", "--tuned", "--set", "train.epochs=3") == 2
    assert "train.epochs was 2 and is 3" in capsys.readouterr().err
    assert run_command("run", "temperature", "--preset", "smoke", "--tuned") == 2
    assert "has not been tuned at preset smoke" in capsys.readouterr().err
    assert run_command("run", "mine.yaml", "--tuned-from", "mine.yaml") == 2
    assert "holds no tuned values" in capsys.readouterr().err
