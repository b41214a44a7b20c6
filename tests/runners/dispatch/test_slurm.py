"""SLURM through submitit, on a made-up cluster: the suite of all dispatchers, and what only a job promises."""

from __future__ import annotations

import pickletools
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("submitit", reason="submitit is not installed")

from submitit.core import utils

from ablations.errors import OptionError, OutputError
from runners.dispatch import Completion, Dispatcher, DispatchSettings
from runners.dispatch.slurm import dispatcher as slurm
from runners.dispatch.slurm.dispatcher import Patience, SlurmDispatcher
from runners.dispatch.slurm.options import SlurmOptions
from runners.dispatch.slurm.queue import JobState
from tests.runners.conformance import (
    DIES,
    FINE,
    FORGETS_AND_DIES,
    HANGS_ONCE,
    WORKERS,
    Conformance,
    Work,
    collect,
    runs_of,
    state_of,
    wait_until,
)
from tests.runners.fake_slurm import fake_slurm

QUICK = Patience(look=0.05, ask=0.1, rest=0.5, grace=1.0)


@contextmanager
def cluster(cores: int) -> Iterator[Path]:
    """A made-up cluster, and a folder for its jobs."""
    with tempfile.TemporaryDirectory() as folder, fake_slurm(Path(folder), cores):
        yield Path(folder) / "runs"


class TestSlurm(Conformance):
    """As jobs of a made-up cluster."""

    @classmethod
    @contextmanager
    def make(cls) -> Iterator[Dispatcher]:
        with cluster(cores=2 * WORKERS) as folder:
            settings = DispatchSettings("slurm", workers=WORKERS, folder=folder)
            with SlurmDispatcher(settings, QUICK) as dispatcher:
                yield dispatcher


@pytest.fixture(scope="module")
def runs() -> Iterator[Path]:
    """The folder of the jobs of a made-up cluster that all tests below share."""
    with cluster(cores=3) as folder:
        yield folder


@pytest.fixture
def settings(runs: Path) -> DispatchSettings:
    """Jobs on that cluster."""
    shutil.rmtree(runs, ignore_errors=True)
    return DispatchSettings("slurm", folder=runs)


def test_what_is_submitted_together_is_one_array_of_fingerprints_in_a_private_folder(
    settings: DispatchSettings, work: Work
) -> None:
    with SlurmDispatcher(settings, QUICK) as dispatcher:
        tasks = [work.submit(dispatcher, FINE) for _ in range(3)]
        assert dispatcher.wait(0.0) == []
        (folder,) = (settings.folder / "slurm").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (script,) = folder.glob("*_submission.sh")
        assert "#SBATCH --array=0-2%3" in script.read_text()
        pickles = [path.read_bytes() for path in folder.glob("*_submitted.pkl")]
        assert len(pickles) == 3
        for content, task in zip(sorted(pickles), sorted(tasks, key=lambda task: task.fingerprint), strict=True):
            assert task.fingerprint.encode() in content
            assert _names_in(content) == {
                ("submitit.core.utils", "DelayedSubmission"),
                ("runners.dispatch.slurm.job", "Resumable"),
            }
        assert {completion.task for completion in collect(dispatcher, 3)} == set(tasks)
    assert not (settings.folder / "slurm").exists(), "nothing is left of jobs that ended well"


def _names_in(content: bytes) -> set[tuple[str, str]]:
    """Returns what a pickle would import, without loading it."""
    names, words = set(), []
    for code, value, _ in pickletools.genops(content):
        if code.name == "STACK_GLOBAL":
            names.add((words[-2], words[-1]))
        elif code.name == "GLOBAL":
            names.add(tuple(value.split()))
        elif isinstance(value, str):
            words.append(value)
    return names


def test_nothing_that_a_job_has_pickled_is_loaded(
    settings: DispatchSettings, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any) -> None:
        raise AssertionError(f"{path} was loaded")

    monkeypatch.setattr(utils, "pickle_load", refuse)
    with SlurmDispatcher(settings, QUICK) as dispatcher:
        tasks = [work.submit(dispatcher, kind) for kind in (FINE, DIES)]
        assert {completion.task for completion in collect(dispatcher, 2)} == set(tasks)


def test_a_job_at_its_limit_goes_on_by_itself(settings: DispatchSettings, work: Work) -> None:
    with SlurmDispatcher(settings, QUICK) as dispatcher:
        task = work.submit(dispatcher, HANGS_ONCE)
        job = _wait_for_its_run(dispatcher, task)
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
        assert collect(dispatcher, 1) == [Completion(task)]
    assert len(runs_of(task)) == 2
    assert state_of(task).is_done


def test_a_job_that_reaches_its_limit_too_often_is_a_failure_that_says_so(
    settings: DispatchSettings, work: Work
) -> None:
    with SlurmDispatcher(replace(settings, slurm=SlurmOptions(requeues=0, time=1, signal=10)), QUICK) as dispatcher:
        task = work.submit(dispatcher, HANGS_ONCE)
        job = _wait_for_its_run(dispatcher, task)
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
        assert collect(dispatcher, 1) == [Completion(task)]
    failure = state_of(task).failure()
    assert failure is not None
    assert "timed-out too many times" in failure["message"]


def _wait_for_its_run(dispatcher: SlurmDispatcher, task: Any) -> str:
    wait_until(lambda: dispatcher.wait(0.05) == [] and bool(runs_of(task)))
    (script,) = dispatcher.folder.glob("*_submission.sh")
    return script.name.partition("_")[0]


def test_a_crash_tells_how_the_job_ended_and_keeps_its_output(settings: DispatchSettings, work: Work) -> None:
    with SlurmDispatcher(settings, QUICK) as dispatcher:
        work.submit(dispatcher, DIES)
        crash = collect(dispatcher, 1)[0].crash or ""
    assert "ended as FAILED, killed by SIGKILL" in crash
    output = Path(crash.rpartition("its output is ")[2])
    assert "Loading pickle" in output.read_text()
    assert not list(output.parent.glob("*.pkl"))


def test_a_crash_after_an_earlier_failure_is_a_crash(settings: DispatchSettings, work: Work) -> None:
    task = work.task(FORGETS_AND_DIES)
    state_of(task).fail("TrainingError", "an earlier attempt", "")
    with SlurmDispatcher(settings, QUICK) as dispatcher:
        dispatcher.submit(task)
        (ended,) = collect(dispatcher, 1)
    assert state_of(task).failure() is None
    assert "SIGKILL" in (ended.crash or "")


def test_what_slurm_refuses_is_told_in_its_words_before_anything_starts(settings: DispatchSettings, work: Work) -> None:
    with SlurmDispatcher(replace(settings, slurm=SlurmOptions(partition="nowhere")), QUICK) as dispatcher:
        with pytest.raises(OptionError, match="invalid partition specified: nowhere"):
            dispatcher.check(work.bench.root, devices=1)
        task = work.submit(dispatcher, FINE)
        (refused,) = collect(dispatcher, 1)
    assert refused.task == task
    assert "SLURM refused the job" in (refused.crash or "")


def test_a_controller_that_does_not_answer_for_a_while_costs_nothing(
    settings: DispatchSettings, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, silent = slurm.read_states, [4]

    def now_and_then(name: str) -> dict[str, JobState] | None:
        silent[0] -= 1
        return None if silent[0] >= 0 else honest(name)

    monkeypatch.setattr(slurm, "read_states", now_and_then)
    with SlurmDispatcher(settings, QUICK) as dispatcher:
        task = work.submit(dispatcher, FINE)
        assert collect(dispatcher, 1) == [Completion(task)]
    assert silent[0] < 0


def test_a_job_that_slurm_has_forgotten_is_judged_by_what_it_wrote(
    settings: DispatchSettings, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SlurmDispatcher(settings, QUICK) as dispatcher:
        tasks = [work.submit(dispatcher, kind) for kind in (FINE, DIES)]
        dispatcher.wait(0.0)
        wait_until(lambda: all(runs_of(task) for task in tasks) and state_of(tasks[0]).is_done)
        monkeypatch.setattr(slurm, "read_states", lambda name: {})
        ended = {completion.task: completion.crash for completion in collect(dispatcher, 2)}
    assert ended[tasks[0]] is None
    assert "unknown to SLURM" in (ended[tasks[1]] or "")


def test_a_folder_that_cannot_be_made_is_a_sentence(settings: DispatchSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="cannot create"),
        SlurmDispatcher(replace(settings, folder=tmp_path / "file"), QUICK),
    ):
        pass


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (0, "FAILED"),
        (9, "FAILED, killed by SIGKILL"),
        (137 << 8, "FAILED, killed by SIGKILL"),
        (1 << 8, "FAILED, exit code 1"),
        (9 << 8, "FAILED, exit code 9"),
        (255 << 8, "FAILED, exit code 255"),
    ],
)
def test_the_end_of_a_job_in_words(status: int, told: str) -> None:
    assert str(JobState("FAILED", status)) == told


@pytest.mark.parametrize(
    ("output", "last"),
    [
        ("ValueError: this one\nsrun: error: vm: task 0: Exited with exit code 1\n", "ValueError: this one"),
        ("one\nsrun: error: n[1-2]: tasks 0-1: Killed\nsrun: forcing job termination\n\n", "one"),
        ("one\nsrun: error: Unable to create step for job 2: Invalid job id\n", "srun: error: Unable to create step"),
        ("one\nslurmstepd: error: Detected 1 oom_kill event\n", "slurmstepd: error: Detected 1 oom_kill event"),
        ("", ""),
    ],
)
def test_the_last_words_of_a_job_are_its_own(output: str, last: str) -> None:
    assert slurm.last_words(output).startswith(last)
