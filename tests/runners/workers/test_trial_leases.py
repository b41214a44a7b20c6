"""A node is run by who holds its lease; who has lost it stops and spoils nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import runners.workers.measure
from ablations.spec.parts import Intervention
from runners.state.attempts import Lease
from runners.state.nodes import NodeState
from runners.training.sealed_tensors import load_tensors, save_tensors
from runners.training.trainer import Trainer
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench


def _take_over(state: NodeState) -> Lease:
    """Takes a node from its living owner, as who has watched it stand still does."""
    last = state.lease()
    lease = Lease.take(state.folder, "another launch", watched=last.token if last is not None else "")
    assert lease is not None
    return lease


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "log.txt"}


def test_a_result_says_in_how_large_parts_it_was_trained_and_the_attempt_how_it_ended(bench: Bench) -> None:
    trial = bench.trial()
    evaluation = bench.evaluation(trial, Intervention(aggregation="max"))
    for node in (trial, evaluation):
        assert run_node(Task(bench.root, node.fingerprint, device="cpu", launch="mine")) == "finished"
        (attempt,) = bench.states[node.fingerprint].attempts()
        assert (attempt.launch, attempt.outcome, attempt.process.pid) == ("mine", "finished", os.getpid())
    assert (bench.states[trial.fingerprint].result() or {})["micro_batch"] == 10
    assert "micro_batch" not in (bench.states[evaluation.fingerprint].result() or {})


def test_what_another_process_runs_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    node = bench.trial()
    state = bench.states[node.fingerprint]
    _take_over(state)
    monkeypatch.setattr(runners.workers.measure, "run_trial", lambda *args: pytest.fail("it ran"))
    before = _content(state.folder)
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "held"
    assert _content(state.folder) == before
    assert len(state.attempts()) == 1


@pytest.mark.parametrize("place", ["a step", "an epoch", "a checkpoint", "the weights", "the test split"])
def test_who_is_taken_over_stops_and_leaves_everything_to_the_new_owner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    owner, name = {
        "a step": (Trainer, "_step"),
        "an epoch": (Trainer, "_validate"),
        "a checkpoint": (Trainer, "_save"),
        "the weights": (runners.workers.measure, "save_tensors"),
        "the test split": (runners.workers.measure, "_measure"),
    }[place]
    node = bench.trial()
    state = bench.states[node.fingerprint]
    honest, owners, left = getattr(owner, name), [], []

    def overtaken(*arguments: Any, **more: Any) -> Any:
        if not owners:
            owners.append(_take_over(state))
            if place in ("the weights", "the test split"):
                state.weights_file.unlink(missing_ok=True)
                save_tensors(state.weights_file, {"theirs": torch.ones(1)})
            left.append(_content(state.folder))
        return honest(*arguments, **more)

    monkeypatch.setattr(owner, name, overtaken)
    seconds = 0.0 if place == "a checkpoint" else 60.0
    assert run_node(Task(bench.root, node.fingerprint, device="cpu", checkpoint_seconds=seconds)) == "held"
    # What was measured may lie there, but not as a result, nor as a failure; weights are the new owner's.
    found = {key: value for key, value in _content(state.folder).items() if key != "attention.json"}
    assert found == left[0]
    assert not {"result.json", "failure.json"} & found.keys()
    assert [attempt.outcome for attempt in state.attempts()] == ["running", "running"]
    owners[0].check()
    assert "lease" in state.log_file.read_text()


def test_a_failure_of_who_is_taken_over_is_none_of_the_new_owner(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    node = bench.trial()
    state = bench.states[node.fingerprint]

    def fails(*arguments: Any) -> Any:
        _take_over(state)
        raise ValueError("too late")

    monkeypatch.setattr(runners.workers.measure, "run_trial", fails)
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "held"
    assert state.failure() is None
    assert "too late" in state.log_file.read_text()


def test_the_first_result_stays(bench: Bench) -> None:
    state = bench.states[bench.trial().fingerprint]
    state.finish({"test/top1": 1.0}, seconds=1.0)
    state.finish({"test/top1": 2.0}, seconds=1.0)
    assert (state.result() or {})["metrics"] == {"test/top1": 1.0}


@pytest.mark.parametrize("torn", [False, True])
def test_weights_that_are_there_are_only_measured_unless_they_are_torn(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    whole = bench.states[bench.trial().fingerprint]
    run_node(Task(bench.root, whole.fingerprint, device="cpu"))
    other = Bench(tmp_path / "other")
    state = other.states[other.trial().fingerprint]
    honest = runners.workers.measure._measure
    monkeypatch.setattr(runners.workers.measure, "_measure", lambda *arguments: 1 / 0)
    task = Task(other.root, state.fingerprint, device="cpu")
    assert run_node(task) == "failed"
    monkeypatch.setattr(runners.workers.measure, "_measure", honest)
    if torn:
        state.weights_file.write_bytes(state.weights_file.read_bytes()[:-100])
    steps = []
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda *arguments: (steps.append(1), step(*arguments))[1])
    assert run_node(task) == "finished", state.failure()
    assert bool(steps) is torn
    assert (state.result() or {})["metrics"] == (whole.result() or {})["metrics"]
    assert [event["step"] for event in state.events()] == [1, 2]
    one, two = load_tensors(whole.weights_file), load_tensors(state.weights_file)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_failure_is_told_by_its_attempt_even_when_the_next_one_succeeds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = bench.trial()
    state, task = bench.states[node.fingerprint], Task(bench.root, node.fingerprint, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(runners.workers.measure, "run_trial", lambda *arguments: 1 / 0)
        assert run_node(task) == "failed"
    assert run_node(task) == "finished"
    assert state.failure() is None
    first, second = state.attempts()
    assert dict(first.failure or {}) == {
        "kind": "ZeroDivisionError",
        "message": "ZeroDivisionError('division by zero')",
        "cause": "error",
    }
    assert (first.outcome, second.outcome, second.failure) == ("failed", "finished", None)


def test_a_folder_in_which_no_attempt_can_begin_is_a_failure_and_no_traceback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = bench.trial()
    (bench.states[node.fingerprint].folder / "attempts").write_text("a file")
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "failed"
    assert (bench.states[node.fingerprint].failure() or {})["kind"] == "FileExistsError"
