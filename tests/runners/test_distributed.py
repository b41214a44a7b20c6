"""One training on two processes against the same training on one (gloo, CPU)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ablations.errors import SpecError
from runners.state import NodeState
from runners.task import Task
from runners.trial import run_node
from tests.runners.bench import Bench


def _run(bench: Bench, **changes: object) -> NodeState:
    node = bench.trial(train__temperature__start=1.0, **changes)
    run_node(Task(bench.root, node.fingerprint, device="cpu"))
    state = bench.states[node.fingerprint]
    assert state.is_done, (state.failure(), state.log_file.read_text() if state.log_file.exists() else "")
    return state


def test_two_processes_train_what_one_does(bench: Bench, tmp_path: Path) -> None:
    # Few steps: batch normalisation of maps of one pixel amplifies the last bit of a sum from step to step.
    few = {"train__epochs": 1, "train__batch_size": 20}
    one, two = _run(bench, **few), _run(Bench(tmp_path / "two"), train__devices=2, **few)
    assert one.fingerprint == two.fingerprint
    first, second = load_file(one.weights_file), load_file(two.weights_file)
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-3, atol=5e-5, msg=lambda text, key=key: f"{key}: {text}")
    losses = [[event["metrics"]["train/loss"] for event in state.events()] for state in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_batch_that_does_not_divide_is_refused(bench: Bench) -> None:
    with pytest.raises(SpecError, match=r"multiple of train\.devices"):
        bench.trial(train__devices=3)


def test_a_failing_process_is_a_failure_that_names_its_log(bench: Bench) -> None:
    node = bench.trial(train__devices=2, train__learning_rate=1e30)
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "failed"
    failure = bench.states[node.fingerprint].failure()
    assert failure is not None
    assert "processes failed" in failure["message"]
    assert "Lower train.learning_rate" in bench.states[node.fingerprint].log_file.read_text()
