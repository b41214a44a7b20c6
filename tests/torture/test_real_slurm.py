"""Jobs on a real SLURM of one node: the suite of all dispatchers, limits, resumed trainings, whole studies."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("submitit", reason="submitit is not installed")

from ablations.errors import OptionError
from runners.dispatch import Completion, Dispatcher, DispatchSettings
from runners.dispatch.slurm.dispatcher import Patience, SlurmDispatcher
from runners.dispatch.slurm.options import SlurmOptions
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench
from tests.runners.conformance import (
    FINE,
    HANGS_ONCE,
    WORKERS,
    Conformance,
    Work,
    collect,
    runs_of,
    state_of,
    wait_until,
)
from tests.torture.clusters import local_slurm
from tests.torture.studies import assert_same_results, run_study, start_study

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

EPOCHS = 40
QUICK = Patience(look=0.1, ask=0.5, rest=1.0, grace=3.0)


class TestSlurm(Conformance):
    """As jobs of a cluster with more room than the user wants to use."""

    @classmethod
    @contextmanager
    def make(cls) -> Iterator[Dispatcher]:
        with local_slurm(cpus=2 * WORKERS) as folder:
            settings = DispatchSettings("slurm", workers=WORKERS, folder=folder)
            with SlurmDispatcher(settings, QUICK) as dispatcher:
                yield dispatcher


@pytest.fixture(scope="module")
def runs() -> Iterator[Path]:
    """The folder of the jobs of a real cluster that all tests below share."""
    with local_slurm(cpus=2) as folder:
        yield folder


@pytest.fixture
def jobs(runs: Path) -> Iterator[Dispatcher]:
    """Jobs of a minute on that cluster, stopped twenty seconds before."""
    limit = SlurmOptions(time=1, signal=20)
    with SlurmDispatcher(DispatchSettings("slurm", folder=runs, slurm=limit), QUICK) as dispatcher:
        yield dispatcher


def test_a_job_at_its_time_limit_is_put_back_and_goes_on(jobs: Dispatcher, work: Work) -> None:
    task = work.submit(jobs, HANGS_ONCE)
    _wait_for_the_queue(jobs, lambda: bool(runs_of(task)))
    (job,) = _jobs("RUNNING")
    _wait_for_the_queue(jobs, lambda: _jobs("PENDING") == [job])
    _start_soon(job)
    assert collect(jobs, 1) == [Completion(task)]
    assert len(runs_of(task)) == 2
    assert state_of(task).is_done


def test_a_training_that_was_put_back_ends_with_the_same_bits(runs: Path, tmp_path: Path) -> None:
    whole, parts = Bench(tmp_path / "whole"), Bench(tmp_path / "parts")
    node = whole.trial(train__epochs=EPOCHS, model__dropout=0.1)
    parts.trial(train__epochs=EPOCHS, model__dropout=0.1)
    expected, state = whole.states[node.fingerprint], parts.states[node.fingerprint]
    assert run_node(Task(whole.root, node.fingerprint, "cpu")) == "finished"
    with SlurmDispatcher(DispatchSettings("slurm", folder=runs), QUICK) as dispatcher:
        task = Task(parts.root, node.fingerprint, "cpu", checkpoint_seconds=0.0)
        dispatcher.submit(task)
        _wait_for_the_queue(dispatcher, lambda: len(state.events()) >= 3)
        (job,) = _jobs("RUNNING")
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
        _wait_for_the_queue(dispatcher, lambda: _jobs("PENDING") == [job])
        assert len(state.events()) < EPOCHS
        _start_soon(job)
        assert collect(dispatcher, 1, seconds=120) == [Completion(task)]
    assert (state.result() or {})["metrics"] == (expected.result() or {})["metrics"]
    assert [event["step"] for event in state.events()] == list(range(1, EPOCHS + 1))
    one, two = load_file(expected.weights_file), load_file(state.weights_file)
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_a_node_that_does_not_see_the_state_folder_says_so(jobs: Dispatcher, work: Work, tmp_path: Path) -> None:
    jobs.submit(replace(work.task(FINE), state_root=tmp_path / "elsewhere"))
    crash = collect(jobs, 1)[0].crash or ""
    assert "does not see" in crash
    assert "must be on a file system that all nodes share" in crash


def test_what_the_cluster_cannot_give_is_said_in_its_words(runs: Path, tmp_path: Path) -> None:
    for options, words in (
        (SlurmOptions(partition="nowhere"), "nvalid partition"),
        (SlurmOptions(cpus=99), "not avail"),
    ):
        with (
            SlurmDispatcher(DispatchSettings("slurm", folder=runs, slurm=options)) as dispatcher,
            pytest.raises(OptionError, match=words),
        ):
            dispatcher.check(tmp_path, devices=1)


def test_a_study_measures_as_jobs_what_it_measures_inline(runs: Path, tmp_path: Path) -> None:
    run_study(tmp_path / "inline", "--dispatch", "inline")
    run_study(tmp_path / "slurm", "--dispatch", "slurm", "--slurm", "partition=local", "--slurm", "time=00:10:00")
    assert_same_results(tmp_path / "inline", tmp_path / "slurm")
    assert not (tmp_path / "slurm" / "slurm").exists(), "nothing is left of jobs that ended well"


def test_an_interrupted_launcher_leaves_no_job(runs: Path, tmp_path: Path) -> None:
    launcher = start_study(tmp_path, "--dispatch", "slurm", epochs=2000)
    wait_until(lambda: len(list(tmp_path.glob("state/*/events.jsonl"))) == 2)
    launcher.send_signal(signal.SIGINT)
    output, errors = launcher.communicate(timeout=600)
    assert launcher.returncode == 130, output + errors
    assert "Traceback" not in errors
    assert _jobs("RUNNING") == _jobs("PENDING") == []


def _wait_for_the_queue(dispatcher: Dispatcher, condition: Callable[[], bool]) -> None:
    def is_so() -> bool:
        assert dispatcher.wait(0.2) == []
        return condition()

    wait_until(is_so, seconds=150)


def _jobs(state: str) -> list[str]:
    command = ["squeue", "--noheader", "--array", f"--states={state}", "--format=%i"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _start_soon(job: str) -> None:
    """Starts a job that was put back, once its node is free and knows so; SLURM would let it wait for two minutes."""
    idle = ["sinfo", "--noheader", "--format=%T"]
    wait_until(lambda: subprocess.run(idle, capture_output=True, text=True, check=True).stdout.strip() == "idle")
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now+5"], check=True)
