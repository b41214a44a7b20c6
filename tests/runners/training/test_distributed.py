"""One training on two processes against the same training on one (gloo, CPU)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ablations.errors import SpecError, WorkerError
from runners.state.nodes import NodeState
from runners.training import distributed
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench

ROOT = Path(__file__).resolve().parent.parent.parent.parent

# In single precision, batch normalisation of maps of one pixel amplifies the last bit of a sum a thousandfold; in
# double precision the two trainings can be held against each other.
DOUBLE = """
import torch
torch.set_default_dtype(torch.float64)
import runners.workers.measure, runners.training.trainer
mix, evaluate = runners.training.trainer.mix, runners.workers.measure.evaluate
def in_double(model, batches, *more):
    return evaluate(model, ((images.double(), labels) for images, labels in batches), *more)
runners.training.trainer.mix = lambda images, *more: mix(images.double(), *more)
runners.training.trainer.evaluate = runners.workers.measure.evaluate = in_double
"""
RUN = """
import sys
from runners.workers.task import Task
from runners.workers.trial import run_node
run_node(Task.from_arguments(sys.argv[1:]))
"""


def _run_in_double(bench: Bench, devices: int) -> NodeState:
    # In parts too: each process takes its share of each part.
    parts = {"train__batch_size": 20, "train__micro_batch": 10}
    node = bench.trial(train__temperature__start=1.0, train__devices=devices, train__epochs=2, **parts)
    task = Task(bench.root, node.fingerprint, device="cpu", plugins=("double_precision",))
    (bench.root / "double_precision.py").write_text(DOUBLE)
    path = os.pathsep.join([str(bench.root), str(ROOT)])
    command = [sys.executable, "-c", RUN, *task.as_arguments()]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT)
    state = bench.states[node.fingerprint]
    assert state.is_done, (state.failure(), state.log_file.read_text() if state.log_file.exists() else "")
    return state


@pytest.mark.torture
def test_two_processes_train_what_one_does(bench: Bench, tmp_path: Path) -> None:
    one, two = _run_in_double(bench, 1), _run_in_double(Bench(tmp_path / "two"), 2)
    assert one.fingerprint == two.fingerprint
    first, second = load_file(one.weights_file), load_file(two.weights_file)
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-5, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    losses = [[event["metrics"]["train/loss"] for event in state.events()] for state in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    ("gpus", "seen", "visible"),
    [((0, 2), None, "0,2"), ((2, 0), "4,5,7", "7,4"), ((1,), "GPU-a, GPU-b", "GPU-b")],
)
def test_a_training_sees_the_gpus_it_was_given(gpus: tuple[int, ...], seen: str | None, visible: str) -> None:
    assert distributed.visible_devices(gpus, seen) == visible


def test_a_batch_that_does_not_divide_is_refused(bench: Bench) -> None:
    with pytest.raises(SpecError, match=r"multiple of train\.devices"):
        bench.trial(train__devices=3)


@pytest.mark.torture
def test_a_failing_process_is_a_failure_that_names_its_log(bench: Bench) -> None:
    node = bench.trial(train__devices=2, train__learning_rate=1e30)
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "failed"
    failure = bench.states[node.fingerprint].failure()
    assert failure is not None
    assert "processes failed" in failure["message"]
    assert "Lower train.learning_rate" in failure["message"]
    assert failure["cause"] == "training"
    assert "Lower train.learning_rate" in bench.states[node.fingerprint].log_file.read_text()


def test_a_process_that_could_not_say_why_it_failed_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess([], returncode=1)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **more: ended)
    (tmp_path / distributed.PROCESS_FAILURE).write_text(
        '{"kind": "Error", "message": "of an earlier attempt", "cause": "training"}'
    )
    with pytest.raises(WorkerError, match="exit code 1") as found:
        distributed.start(tmp_path, 2, (), [])
    assert found.value.cause == "killed"
