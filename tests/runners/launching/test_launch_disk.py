"""A launch whose own writes fail: it waits and tries again, and ends with a sentence if that does not pass."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from mlflow import MlflowClient

from ablations.errors import OutputError, RunsFolderError, TrackingError
from runners.dispatch import Completion
from runners.state import files
from runners.state.failures import FailurePolicy, cause_of, patiently
from runners.state.nodes import NodeState, StateStore
from tests.command_line import Invoke
from tests.runners.launching.test_launch import FakeDispatcher, _launch, _plan

STUDY = """\
name: tiny
question: Does it survive a full disk?
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
"""
FULL = OutputError("cannot write x: No space left on device. Free space or choose another folder.", errno.ENOSPC)
RunTiny = Callable[..., tuple[int, str]]


@pytest.fixture
def run_tiny(invoke: Invoke, tmp_path: Path) -> RunTiny:
    """Runs the tiny study in this process; no wait between two attempts."""
    (tmp_path / "tiny.yaml").write_text(STUDY)
    options = ("--preset", "smoke", "--dispatch", "inline", "--format", "md", "--retry-wait", "0")
    return partial(invoke, "run", "tiny.yaml", *options)


def later(*cases: int) -> list[ParameterSet]:
    """Return cases that are left to `make torture`."""
    return [pytest.param(case, marks=pytest.mark.torture) for case in cases]


def _failing(monkeypatch: pytest.MonkeyPatch, first: int, last: float) -> list[int]:
    """Makes the disk full for whole files from one write to another; returns a list with how many there were."""
    honest, count = files.temporary_file, [0]

    def temporary(path: Path) -> AbstractContextManager[Path]:
        count[0] += 1
        if first <= count[0] <= last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return honest(path)

    monkeypatch.setattr(files, "temporary_file", temporary)
    return count


@pytest.mark.parametrize("first", [2, 6, *later(1, 3, 4, 5, 8, 10, 14, 18)])
def test_wherever_the_disk_is_full_for_a_while_the_launch_ends_whole(
    run_tiny: RunTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    _failing(monkeypatch, first, first + 1)
    code, said = run_tiny("--offline")
    assert code == 0, said
    states = StateStore(tmp_path / "runs" / "state")
    assert len(states.done(states.fingerprints())) == 2
    assert "Traceback" not in said


@pytest.mark.parametrize("first", [3, *later(1, 2, 4, 6, 9)])
def test_a_disk_that_stays_full_ends_the_launch_with_a_sentence(
    run_tiny: RunTiny, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    _failing(monkeypatch, first, float("inf"))
    code, said = run_tiny("--offline")
    assert code in (1, 2)
    assert "No space left" in said
    assert "Traceback" not in said


def test_a_disk_that_stays_full_leaves_no_run_behind_as_running(
    run_tiny: RunTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, described = NodeState.describe, []

    def describe(self: NodeState, node: Any) -> None:
        described.append(node.fingerprint)
        if len(described) > 1:
            raise FULL
        honest(self, node)

    monkeypatch.setattr(NodeState, "describe", describe)
    code, said = run_tiny("--retries", "1")
    assert code == 2
    assert "No space left" in said
    assert "Traceback" not in said
    assert len(described) == 3, "once more, as the policy says"
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert "RUNNING" not in {run.info.status for run in client.search_runs(experiments)}


def test_a_launch_that_cannot_write_starts_nothing_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, left = NodeState.describe, [3]

    def describe(self: NodeState, node: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise FULL
        honest(self, node)

    monkeypatch.setattr(NodeState, "describe", describe)
    plan, policy = _plan(), FailurePolicy(retries=3, wait_seconds=0.01)
    summary, _, notes = _launch(tmp_path, FakeDispatcher(), plan, policy=policy)
    assert summary.finished == len(plan.nodes)
    assert sum("cannot write" in note for note in notes.notes) == 3


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_what_does_not_pass_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    calls = []

    def describe(self: NodeState, node: Any) -> None:
        calls.append(node)
        raise OutputError("no", number)

    monkeypatch.setattr(NodeState, "describe", describe)
    with pytest.raises(OutputError):
        _launch(tmp_path, FakeDispatcher(), _plan())
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        TrackingError("the tracking store sqlite:///x: (sqlite3.OperationalError) database or disk is full"),
    ],
)
def test_patience_waits_longer_each_time_and_ends(error: Exception) -> None:
    told: list[str] = []
    waited: list[float] = []

    def write() -> None:
        raise error

    with pytest.raises(type(error)):
        patiently(write, FailurePolicy(retries=3, wait_seconds=1.0), told.append, waited.append)
    assert waited == [1.0, 2.0, 4.0]
    assert len(told) == 3
    assert patiently(lambda: 7, FailurePolicy(), told.append, waited.append) == 7
    assert cause_of(TrackingError("the store does not answer")) == "error"


class Removing(FakeDispatcher):
    """After two ends the whole runs folder is removed; perhaps another one comes in its place."""

    def __init__(self, root: Path, *, is_made_anew: bool) -> None:
        super().__init__()
        self._root, self._is_made_anew = root, is_made_anew

    def wait(self, seconds: float) -> list[Completion]:
        ended = super().wait(seconds)
        if len(self.started) - len(self.queue) == 2:
            shutil.rmtree(self._root.parent)
            if self._is_made_anew:
                # Another folder first: a file system may give the number of the old one again.
                (self._root.parent / "other").mkdir(parents=True)
                self._root.mkdir()
        return ended


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_folder_that_is_removed_ends_the_launch_at_once(tmp_path: Path, is_made_anew: bool) -> None:
    root = tmp_path / "runs" / "state"
    root.mkdir(parents=True)
    dispatcher = Removing(root, is_made_anew=is_made_anew)
    abandoned = []

    def abandon(self: Any) -> None:
        abandoned.append(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.runners.launching.test_launch.FakeTrackingWorker.abandon", abandon, raising=False)
        with pytest.raises(RunsFolderError, match="removed or replaced"):
            _launch(root, dispatcher, _plan())
    assert dispatcher.cancelled
    assert abandoned
    assert not list(root.glob("*")), "nothing is written where the folder was"
    assert root.exists() == is_made_anew


def test_a_worker_does_not_make_a_runs_folder_anew(tmp_path: Path) -> None:
    from runners.workers.task import Task
    from runners.workers.trial import run_node

    root = tmp_path / "gone" / "state"
    assert run_node(Task(root, "f" * 64, device="cpu")) == "failed"
    assert not root.parent.exists()


def test_a_run_whose_folder_is_removed_says_one_sentence(
    run_tiny: RunTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = NodeState.append_event

    def remove(self: NodeState, *arguments: Any) -> None:
        shutil.rmtree(tmp_path / "runs")
        honest(self, *arguments)

    monkeypatch.setattr(NodeState, "append_event", remove)
    code, said = run_tiny()
    assert code == 1
    assert said.count("was removed or replaced") == 1
    assert "Traceback" not in said
