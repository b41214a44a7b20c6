"""Launches that are killed, suspended and started eight at a time, through the command line: nothing is run twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from ablations import vocabulary as names
from runners.state.nodes import NodeState, StateStore
from runners.workers.task import Task
from runners.workers.trial import run_node

pytestmark = pytest.mark.torture

ROOT = Path(__file__).resolve().parent.parent.parent
EPOCHS = 30
STUDY = f"""\
name: tiny
question: Does a network survive its launcher?
reference: dynamic
seeds: 2
baseline:
  train.epochs: {EPOCHS}
  data.train_images: 64
  data.validation_images: 20
  data.test_images: 20
  model.depth: 0.25
variants:
  dynamic: {{}}
  averaged: {{intervention: {{aggregation: average}}}}
  static: {{model.layer: static}}
"""
TRAININGS, NODES = 4, 6
_LONGEST = 240.0


class Bed:
    """A study, a folder for its runs, and launches of it."""

    def __init__(self, folder: Path, epochs: int = EPOCHS) -> None:
        self.study, self.runs = folder / "tiny.yaml", folder / "runs"
        self.study.write_text(STUDY.replace(f"train.epochs: {EPOCHS}", f"train.epochs: {epochs}"))
        self.states = StateStore(self.runs / "state")
        self.started: list[subprocess.Popen[str]] = []

    def launch(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "run_ablation.py"), "run", str(self.study), "--preset", "smoke"]
        process = subprocess.Popen(
            [*command, "--format", "md", "--runs-dir", str(self.runs), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
        )
        self.started.append(process)
        return process

    def nodes(self) -> list[NodeState]:
        return [NodeState(path.parent) for path in self.states.root.glob("*/node.json")]

    def running(self) -> Iterator[NodeState]:
        for state in self.nodes():
            last = state.lease()
            if last is not None and last.is_running and len(state.events()) > 1 and not state.is_done:
                yield state

    def tracked(self, kind: str) -> list[Any]:
        client = self.client()
        experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = '{kind}'"))

    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=f"sqlite:///{self.runs}/mlflow.db")

    def assert_complete(self, epochs: int = EPOCHS) -> None:
        """Each node has one finished run, with each epoch once, and the report has a number in each cell."""
        trials, evaluations = self.tracked("trial"), self.tracked("evaluation")
        assert [len(trials), len(evaluations)] == [TRAININGS, NODES - TRAININGS]
        assert {run.info.status for run in (*trials, *evaluations)} == {"FINISHED"}
        for run in trials:
            steps = [metric.step for metric in self.client().get_metric_history(run.info.run_id, "train/loss")]
            assert steps == list(range(1, epochs + 1))
        report = (self.runs / "reports" / "tiny-smoke.md").read_text(encoding="utf-8")
        assert "n=" not in report, "a cell lacks a repeat"

    def assert_same_as_undisturbed(self, folder: Path, disturbed: list[str]) -> None:
        """The weights of nodes are those that the same node gets when nobody disturbs it."""
        for fingerprint in disturbed:
            state = self.states[fingerprint]
            alone = StateStore(folder / "alone")[fingerprint]
            alone.describe(state.node())
            assert run_node(Task(alone.folder.parent, fingerprint, device="cpu")) == "finished"
            one, two = load_file(alone.weights_file), load_file(state.weights_file)
            assert [key for key in one if not torch.equal(one[key], two[key])] == []
            assert (alone.result() or {})["metrics"] == (state.result() or {})["metrics"]


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """A study whose trainings take a few seconds each."""
    bed = Bed(tmp_path)
    yield bed
    for process in bed.started:
        process.kill()
        process.communicate()


def _until(found: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + _LONGEST
    while not (value := found()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def _end(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=_LONGEST)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    return output


def test_a_killed_launcher_is_continued_by_the_next_launch(bed: Bed, tmp_path: Path) -> None:
    first = bed.launch("--workers", "2")
    disturbed = [state.fingerprint for state in _until(lambda: list(bed.running())[1:] and list(bed.running()), first)]
    _until(lambda: len(bed.tracked("trial")) >= 2, first)
    workers = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    # Not only the launcher: the machine has failed.
    for worker in workers:
        worker.kill()
    first.wait()
    assert "RUNNING" in {run.info.status for run in bed.tracked("trial")}
    _end(bed.launch("--workers", "2"))
    bed.assert_complete()
    for state in bed.nodes():
        assert [attempt.outcome for attempt in state.attempts()] == (
            ["running", "finished"] if state.fingerprint in disturbed else ["finished"]
        )
    bed.assert_same_as_undisturbed(tmp_path, disturbed)


def test_workers_that_outlive_their_launcher_are_waited_for_or_taken_over(bed: Bed) -> None:
    first = bed.launch("--workers", "2")
    _until(lambda: list(bed.running())[1:], first)
    first.kill()
    first.wait()
    _end(bed.launch("--workers", "2"))
    bed.assert_complete()
    for state in bed.nodes():
        outcomes = [attempt.outcome for attempt in state.attempts()]
        assert outcomes[-1] == "finished"
        assert outcomes.count("finished") == 1


def test_what_a_killed_launcher_has_left_is_ended_by_a_launch_of_another_study(bed: Bed) -> None:
    first = bed.launch("--workers", "2")
    _until(lambda: list(bed.running())[1:], first)
    _until(lambda: len(bed.tracked("trial")) >= 2, first)
    workers = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    for worker in workers:
        worker.kill()
    first.wait()
    other = bed.study.read_text().replace("name: tiny", "name: other").replace(f"epochs: {EPOCHS}", "epochs: 1")
    bed.study.write_text(other)
    _end(bed.launch("--workers", "2"))
    statuses = [run.info.status for run in bed.tracked("trial")]
    assert statuses.count("KILLED") == 2
    assert "RUNNING" not in statuses


def test_a_killed_worker_is_tried_again(bed: Bed, tmp_path: Path) -> None:
    launch = bed.launch("--workers", "1", "--retry-wait", "0")
    state = next(iter(_until(lambda: list(bed.running()), launch)))
    last = state.lease()
    assert last is not None
    os.kill(last.process.pid, signal.SIGKILL)
    assert "retrying" in _end(launch)
    assert [attempt.outcome for attempt in state.attempts()] == ["killed", "finished"]
    assert "SIGKILL" in (state.attempts()[0].failure or {})["message"]
    bed.assert_complete()
    bed.assert_same_as_undisturbed(tmp_path, [state.fingerprint])


def test_a_suspended_worker_that_is_taken_over_and_wakes_up_spoils_nothing(bed: Bed, tmp_path: Path) -> None:
    first = bed.launch("--workers", "1", "--lease-seconds", "2")
    state = next(iter(_until(lambda: list(bed.running()), first)))
    last = state.lease()
    assert last is not None
    os.kill(last.process.pid, signal.SIGSTOP)
    second = bed.launch("--workers", "1", "--lease-seconds", "2")
    _until(lambda: len(state.attempts()) == 2, second)
    if not state.is_done:
        # It wakes up while the new owner is at it.
        _until(lambda: len(state.events()) > 3 or state.is_done, second)
    os.kill(last.process.pid, signal.SIGCONT)
    assert "by another launch" in _end(first)
    assert "taken over" in _end(second)
    assert [attempt.outcome for attempt in state.attempts()] == ["running", "finished"]
    assert "lost its lease" in state.log_file.read_text()
    assert [event["step"] for event in state.events()] == list(range(1, EPOCHS + 1))
    bed.assert_complete()
    bed.assert_same_as_undisturbed(tmp_path, [state.fingerprint])


@pytest.mark.parametrize("how", [("--dispatch", "inline"), ("--workers", "1")])
def test_eight_launchers_of_one_study_on_nothing_train_each_fingerprint_once(tmp_path: Path, how: tuple[str]) -> None:
    bed = Bed(tmp_path, epochs=2)
    for launch in [bed.launch(*how) for _ in range(8)]:
        _end(launch)
    assert [len(state.attempts()) for state in bed.nodes()] == [1] * NODES
    assert len({state.attempts()[0].launch for state in bed.nodes()}) > 1, "the work was shared"
    bed.assert_complete(epochs=2)
