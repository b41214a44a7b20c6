"""A full disk, a folder that can only be read, a clock set back: a sentence each, and nothing lost but the time."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from ablations.errors import OutputError
from runners.state.files import write_json
from runners.state.nodes import NodeState
from runners.training.checkpoint import CheckpointStore
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.command_line import run_command
from tests.runners.bench import Bench
from tests.upkeep.made_up import STUDY

ROOT = Path(__file__).resolve().parent.parent.parent

_READ_ONLY, _REMOUNT = 1, 32


def _mount(path: Path, flags: int = 0, size: str = "16m") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", flags, f"size={size}".encode()):
        pytest.skip(f"mounting needs root: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of sixteen megabytes, or of another size."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount(path, size=getattr(request, "param", "16m"))
    yield path
    ctypes.CDLL(None).umount2(str(path).encode(), 2)


def _task(bench: Bench, seed: int = 0, **more: Any) -> tuple[Task, NodeState]:
    node = bench.trial(seed=seed, model__depth=0.25)
    return Task(bench.root, node.fingerprint, device="cpu", **more), bench.states[node.fingerprint]


def _assert_same(one: NodeState, two: NodeState) -> None:
    first, second = load_file(one.weights_file), load_file(two.weights_file)
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    assert [(state.result() or {}).get("metrics") for state in (one, one)] == [
        (state.result() or {}).get("metrics") for state in (one, two)
    ]


def test_a_disk_that_is_full_fails_the_trial_with_advice_and_the_next_attempt_goes_on(
    bench: Bench, small_disk: Path
) -> None:
    whole = Bench(bench.root.parent / "whole")
    task, expected = _task(whole)
    assert run_node(task) == "finished"
    filled = Bench(small_disk / "state")
    task, state = _task(filled, checkpoint_seconds=0.0)
    filler = small_disk / "filler"
    size = expected.weights_file.stat().st_size
    filler.write_bytes(bytes(max(0, _free(small_disk) - 5 * size)))
    assert run_node(task) == "failed"
    failure = state.failure()
    assert failure is None or "No space left" in failure["message"], "where even that could be written"
    assert not list(state.folder.glob(".*.tmp")), "what could not be written takes up space"
    assert list(state.folder.glob("checkpoint-*")), "the last whole checkpoint stays"
    filler.unlink()
    _mount(small_disk, _REMOUNT, "32m")
    assert run_node(task) == "finished"
    _assert_same(state, expected)


def _launch(folder: Path, runs: Path) -> subprocess.Popen[str]:
    """Start a launch of three tiny trainings whose runs folder is on another disk."""
    (folder / "tiny.yaml").write_text(STUDY)
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    options = ["--preset", "smoke", "--device", "cpu", "--workers", "1", "--format", "md", "--runs-dir", str(runs)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_ablation.py"), "run", "tiny.yaml", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )


def _fill(disk: Path, process: subprocess.Popen[str], runs: Path) -> Path:
    """Leave no byte on a disk as soon as a launch has described a node there."""
    while not list(runs.glob("state/*/node.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def _statuses(runs: Path) -> set[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{runs}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.status for run in client.search_runs(experiments)}


@pytest.mark.torture
@pytest.mark.parametrize("small_disk", ["64m"], indirect=True)
def test_a_launch_whose_disk_is_full_for_a_while_is_whole_in_the_end(tmp_path: Path, small_disk: Path) -> None:
    runs = small_disk / "runs"
    process = _launch(tmp_path, runs)
    filler = _fill(small_disk, process, runs)
    time.sleep(3)
    filler.unlink()
    said, _ = process.communicate(timeout=600)
    assert "Traceback" not in said
    if process.returncode:
        # What was tried again too early has failed with a sentence, and is done by the command once more.
        assert "No space left" in said
        said, _ = _launch(tmp_path, runs).communicate(timeout=600)
    assert len(list(runs.glob("state/*/result.json"))) == 3, said
    assert _statuses(runs) == {"FINISHED"}


@pytest.mark.torture
@pytest.mark.parametrize("small_disk", ["64m"], indirect=True)
def test_a_launch_whose_disk_stays_full_ends_with_a_sentence_and_goes_on_later(
    tmp_path: Path, small_disk: Path
) -> None:
    runs = small_disk / "runs"
    process = _launch(tmp_path, runs)
    filler = _fill(small_disk, process, runs)
    said, _ = process.communicate(timeout=900)
    assert process.returncode in (1, 2, 3)
    assert "No space left" in said
    assert "Traceback" not in said
    filler.unlink()
    again = _launch(tmp_path, runs)
    said, _ = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert len(list(runs.glob("state/*/result.json"))) == 3
    assert "RUNNING" not in _statuses(runs)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


LATER = [pytest.param(writes, marks=pytest.mark.torture) for writes in (0, 2, 6, 8, 10)]


@pytest.mark.parametrize("writes", [4, *LATER])
def test_wherever_the_disk_is_full_the_next_attempt_ends_with_the_same_bits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    whole = Bench(bench.root.parent / "whole")
    task, expected = _task(whole)
    run_node(task)
    task, state = _task(bench, checkpoint_seconds=0.0)
    honest, left = os.fsync, [writes]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert run_node(task) == "failed"
    monkeypatch.setattr(os, "fsync", honest)
    assert "No space left" in state.log_file.read_text()
    assert run_node(task) == "finished"
    _assert_same(state, expected)


def test_a_disk_that_can_only_be_read_is_said_in_a_sentence(
    small_disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _mount(small_disk, _REMOUNT | _READ_ONLY)
    with pytest.raises(OutputError, match="Read-only"):
        write_json(small_disk / "result.json", {})
    runs_dir = small_disk / "runs"
    assert run_command("run", "temperature", "--preset", "smoke", "--dispatch", "inline", "--runs-dir", runs_dir) == 2
    told = capsys.readouterr().err
    assert "cannot write" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("jump", [-30 * 86400.0, -1.0, 3600.0])
def test_a_clock_set_back_in_the_middle_changes_no_number_and_no_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    whole = Bench(bench.root.parent / "whole")
    task, expected = _task(whole)
    run_node(task)
    honest, calls, saved = time.time, [0], []
    save = CheckpointStore.save

    def jumps() -> float:
        calls[0] += 1
        return honest() + (jump if calls[0] > 2 else 0.0)

    def noted(self: CheckpointStore, *arguments: Any) -> None:
        saved.append(arguments[1].step)
        save(self, *arguments)

    monkeypatch.setattr(time, "time", jumps)
    monkeypatch.setattr(CheckpointStore, "save", noted)
    task, state = _task(bench, checkpoint_seconds=0.0)
    assert run_node(task) == "finished"
    assert calls[0] > 2
    assert saved == [1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert [event["step"] for event in state.events()] == [1, 2]
    assert (state.result() or {})["seconds"] > 0
    _assert_same(state, expected)
