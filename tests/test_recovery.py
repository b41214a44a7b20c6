"""What a user sees of failures: a run that fails, the next run, a retry, and what is done anew, to the report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import runners.workers.measure
from ablations import vocabulary as names
from ablations.errors import OutputError
from runners.state.nodes import StateStore
from tests.command_line import Invoke

STUDY = """\
name: tiny
question: Does anything fail?
reference: calm
seeds: 1
baseline:
  train.epochs: 1
  data.train_images: 64
  data.validation_images: 10
  data.test_images: 10
  model.depth: 0.25
variants:
  calm: {}
  averaged: {intervention: {aggregation: average}}
  wild: {train.learning_rate: 1.0e+30, model.layer: static}
"""


@pytest.fixture(autouse=True)
def _study(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)


INLINE = ("--dispatch", "inline", "--format", "md")
RUN = ("run", "tiny.yaml", "--preset", "smoke", *INLINE)


def _runs() -> list[Any]:
    client = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd()}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    return [run for run in client.search_runs([experiment.experiment_id]) if names.TAG_FINGERPRINT in run.data.tags]


def test_from_a_failure_to_a_retry_and_anew(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    states = StateStore(Path("runs/state"))
    code, said = invoke.unwrapped(*RUN)
    assert code == 1
    assert "2 finished, 1 failed" in said
    log = re.search(r"failed: MobileNetV2 .*? TrainingError: the loss is (inf|nan) .*? log: (\S+)", said)
    assert log is not None
    wild = states[Path(log[2]).parent.name]
    assert "Traceback" in wild.log_file.read_text()
    assert "run_ablation.py retry" in said
    assert len(wild.attempts()) == 1, "it would fail again in the same way"

    code, said = invoke.unwrapped(*RUN)
    assert code == 1
    assert "failed earlier for a reason that does not pass, and not tried again" in said
    assert len(wild.attempts()) == 1

    code, said = invoke.unwrapped("retry", *INLINE)
    assert code == 1
    assert "Trying again: 1 of 1 that are missing" in said
    assert len(wild.attempts()) == 2
    assert sorted(run.info.status for run in _runs()) == ["FAILED", "FINISHED", "FINISHED"]

    before = {run.info.run_id for run in _runs() if run.info.status == "FINISHED"}
    code, said = invoke.unwrapped(*RUN, "--force", "tiny/calm")
    assert "To do: 2 trainings, 1 evaluations" in said
    assert "2 finished, 1 failed" in said
    superseded = {run.info.run_id for run in _runs() if names.TAG_SUPERSEDED in run.data.tags}
    assert superseded == before
    assert len(_runs()) == 5
    assert not list(Path("runs/state/.aside").iterdir())
    report = Path("runs/reports/tiny-smoke.md").read_text(encoding="utf-8")
    new = {run.info.run_id for run in _runs() if run.info.status == "FINISHED"} - before
    assert len(new) == 2
    assert [run_id for run_id in new if run_id not in report] == []
    assert [run_id for run_id in before if run_id in report] == []


def test_a_node_that_is_mended_is_no_failure_any_more(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tiny.yaml").write_text(STUDY.replace("train.learning_rate: 1.0e+30, ", ""))
    with monkeypatch.context() as patch:
        patch.setattr(runners.workers.measure, "run_cost", lambda *arguments: pytest.fail("not asked for"))
        patch.setattr(runners.workers.measure, "run_evaluation", lambda *arguments: 1 / 0)
        assert invoke.unwrapped(*RUN)[0] == 1
    code, said = invoke.unwrapped("retry", "tiny.yaml", *INLINE)
    assert code == 0
    assert "1 finished, 0 failed" in said
    assert invoke.unwrapped("retry", *INLINE) == (0, "Nothing has failed.")


@pytest.mark.parametrize("retries", [0, pytest.param(1, marks=pytest.mark.torture)])
def test_retries_are_as_many_as_asked_for(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, retries: int) -> None:
    Path("tiny.yaml").write_text(STUDY.partition("  averaged")[0])
    honest, left = runners.workers.measure.run_trial, [1]

    def fails(*arguments: Any) -> Any:
        if left.pop() if left else 0:
            raise OutputError("cannot write: No space left on device", 28)
        return honest(*arguments)

    monkeypatch.setattr(runners.workers.measure, "run_trial", fails)
    code, said = invoke.unwrapped(*RUN, "--retries", str(retries), "--retry-wait", "0")
    assert code == 1 - retries, said
    assert ("retrying" in said) is bool(retries)


def test_the_first_failure_is_the_last_if_that_is_asked_for(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners.workers.measure, "run_trial", lambda *arguments: 1 / 0)
    code, said = invoke.unwrapped(*RUN, "--fail-fast")
    assert code == 1
    assert "0 finished, 1 failed" in said
    assert "not tried, as --fail-fast was given" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "tiny.yaml", "--preset", "smoke", "--force", "tiny/clam"), "Did you mean 'tiny/calm'"),
        (("run", "tiny.yaml", "--retries", "-1"), "--retries"),
        (("retry",), "nothing was run here yet"),
        (("retry", "agregation"), "'aggregation'"),
    ],
)
def test_bad_input_is_a_sentence_before_anything_starts(
    invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, said = invoke.unwrapped(*arguments)
    assert code == 2
    assert words in said
    assert not (tmp_path / "runs").exists()
