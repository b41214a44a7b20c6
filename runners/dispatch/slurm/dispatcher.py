"""This dispatcher runs tasks as jobs of a SLURM cluster, through submitit: tasks submitted together form a job array.

A job that reaches its time limit, or whose node is lost, is put back into the queue by SLURM and goes on from the
task's checkpoint. The end of a job is learned from `squeue` and from the state folder; nothing that a job has pickled
is ever loaded.
"""

from __future__ import annotations

import logging
import re
import secrets
import shlex
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ablations.errors import OutputError
from runners.dispatch.base import Answer, Completion
from runners.dispatch.processes import ProcessDispatcher
from runners.dispatch.settings import DispatchSettings
from runners.dispatch.slurm.job import Resumable
from runners.dispatch.slurm.queue import JobState, cancel_jobs, check_accepted, read_states
from runners.own_code import import_variables
from runners.state.layout import RunsFolder
from runners.state.nodes import NodeState, StateStore
from runners.workers.task import Task

_JOBS_AT_ONCE = 100
# Below SLURM's MaxArraySize, which is 1001 by default.
_LARGEST_ARRAY = 500
_SAYS_NOTHING = re.compile(r"srun: (got|forcing|Job step aborted|error: \S+: tasks? \S+ (Exited|Killed|Terminated))")
"""Lines that srun adds to the end of a job's output."""

_UNKNOWN = JobState("unknown to SLURM")

Mark = tuple[int, int]


@dataclass(frozen=True)
class Patience:
    """The intervals between two looks, in seconds.

    Attributes:
        look: Between two looks at the state folders.
        ask: Between two questions to SLURM while a job has just written its end.
        rest: Between two questions to SLURM while nothing happens.
        grace: From the end of a job until it is believed that it has written nothing: network file systems take time.
    """

    look: float = 0.5
    ask: float = 2.0
    rest: float = 20.0
    grace: float = 15.0


@dataclass
class _Job:
    """A job under way: its task, its output file, the mark of its folder before it began, and the time of its end."""

    task: Task
    log_file: Path
    before: Mark
    over_since: float | None = None

    @property
    def has_written(self) -> bool:
        """True if there is a result or a failure that was not there before; an old failure may be gone."""
        result, failure = _mark(self.task)
        result_before, failure_before = self.before
        return result not in (0, result_before) or failure not in (0, failure_before)


class SlurmDispatcher:
    """A dispatcher whose workers are jobs of a cluster.

    Args:
        settings: The options of each job, the number of jobs at once, and the folder of scripts and output.
        patience: The intervals between two looks.
    """

    def __init__(self, settings: DispatchSettings, patience: Patience | None = None) -> None:
        self._settings = settings
        self._patience = patience or Patience()
        # Random, as squeue finds the jobs of this launch alone by their name.
        self._name = f"dyconv-{secrets.token_hex(6)}"
        self.folder = RunsFolder(settings.folder.resolve()).slurm / self._name
        # Answers the questions of the launcher, which must not wait in the queue.
        self._local = ProcessDispatcher(DispatchSettings(workers=1, device="cpu"))
        self._waiting: deque[Task] = deque()
        self._jobs: dict[str, _Job] = {}
        self._refused: list[Completion] = []
        self._last_query = float("-inf")
        self._is_clean = True

    @property
    def capacity(self) -> int:
        """The user's number of jobs at once, or a default."""
        return self._settings.workers or _JOBS_AT_ONCE

    def check(self, state_root: Path, devices: int) -> None:
        """Raise if SLURM would refuse the largest job."""
        check_accepted(self._settings.slurm.sbatch_arguments(devices, self._settings.threads))

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function in a process of this machine: an answer must not wait in the cluster's queue."""
        return self._local.ask(question, *arguments)

    def submit(self, task: Task) -> None:
        """Queue a task for the next job array, which starts with the next `wait`."""
        self._waiting.append(task)

    def wait(self, seconds: float) -> list[Completion]:
        """Start the submitted tasks and return the tasks that have ended."""
        self._start()
        deadline = time.monotonic() + seconds
        while True:
            ended = self._ended()
            left = deadline - time.monotonic()
            if ended or left <= 0 or not self._jobs:
                return ended
            time.sleep(min(left, self._patience.look))

    def cancel(self) -> None:
        """Kill the jobs and take waiting ones out of the queue; their checkpoints stay."""
        self._waiting.clear()
        cancel_jobs(list(self._jobs))
        # Wait until no job writes any more: the next launch may begin in the same state folders.
        deadline = time.monotonic() + self._patience.grace
        while self._jobs and time.monotonic() < deadline:
            states = read_states(self._name) or {}
            if all(states.get(job, _UNKNOWN).is_over for job in self._jobs):
                break
            time.sleep(self._patience.look)
        self._jobs.clear()

    def __enter__(self) -> Self:
        # The launcher reports its errors itself.
        logging.getLogger("submitit").setLevel(logging.CRITICAL)
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"cannot create {self.folder}: {error.strerror}. Choose another folder.") from None
        self._local.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self._local.__exit__(*raised)
        finally:
            self.cancel()
            self._tidy()

    def _tidy(self) -> None:
        """Remove the files of the jobs, but for the output of those that crashed."""
        if self._is_clean:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.folder.parent.rmdir()
        for path in self.folder.glob("*.pkl"):
            path.unlink(missing_ok=True)

    def _start(self) -> None:
        """Submit waiting tasks, up to the user's number of jobs at once: a job array per number of devices."""
        by_size: dict[int, list[Task]] = {}
        for _ in range(min(self.capacity - len(self._jobs), len(self._waiting))):
            task = self._waiting.popleft()
            by_size.setdefault(task.devices, []).append(task)
        for devices, tasks in sorted(by_size.items()):
            for first in range(0, len(tasks), _LARGEST_ARRAY):
                self._submit(tasks[first : first + _LARGEST_ARRAY], devices)

    def _submit(self, tasks: Sequence[Task], devices: int) -> None:
        s = self._settings
        executor = SlurmExecutor(self.folder, max_num_timeout=s.slurm.requeues)
        parameters = s.slurm.parameters(devices, s.threads)
        # Before the user's setup lines, which may extend these variables.
        parameters["setup"] = [*_exports(), *parameters["setup"]]
        executor.update_parameters(job_name=self._name, nodes=1, **parameters)
        # Taken before the submission: a job may write its result at once.
        marks = [_mark(task) for task in tasks]
        try:
            jobs: list[Any] = executor.submit_array([Resumable.of(self._on_its_device(task)) for task in tasks])
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            message = "; ".join(str(error).strip().splitlines()) or type(error).__name__
            reason = f"SLURM refused the job: {message[:300]}"
            self._refused += [Completion(task, reason) for task in tasks]
            return
        for job, task, mark in zip(jobs, tasks, marks, strict=True):
            self._jobs[job.job_id] = _Job(task, Path(job.paths.stdout), mark)

    def _on_its_device(self, task: Task) -> Task:
        slurm = self._settings.slurm
        if slurm.gpus:
            # Not "auto": a requested GPU that does not work must not become days on the CPU.
            return replace(task, device="cuda")
        # What `gres` gives may be GPUs or not, so the user's own --device decides.
        return task if slurm.gres else replace(task, device="cpu")

    def _ended(self) -> list[Completion]:
        ended, self._refused = self._refused, []
        clock_time = time.monotonic()
        wrote: set[str] = set()
        pause = self._patience.rest
        for job, slurm_job in self._jobs.items():
            if slurm_job.has_written:
                wrote.add(job)
            # SLURM is asked more often only while a job seems to end, as its controller serves the whole cluster.
            if job in wrote or slurm_job.over_since is not None:
                pause = self._patience.ask
        if not self._jobs or clock_time - self._last_query < pause:
            return ended
        self._last_query = clock_time
        states = read_states(self._name)
        if states is None:
            # SLURM did not answer. A controller that restarts knows its jobs again afterwards.
            return ended
        for job in list(self._jobs):
            completion = self._completion(job, states.get(job, _UNKNOWN), job in wrote, clock_time)
            if completion is not None:
                del self._jobs[job]
                self._is_clean &= completion.crash is None
                ended.append(completion)
        return ended

    def _completion(self, job: str, state: JobState, wrote: bool, clock_time: float) -> Completion | None:
        """Return the completion of a job, or `None` while the job may still be going on."""
        slurm_job = self._jobs[job]
        is_over = state.is_over or state is _UNKNOWN
        if (wrote or _state_of(slurm_job.task).is_done) and (is_over or state.is_ending):
            return Completion(slurm_job.task)
        if not is_over:
            # Put back into the queue, perhaps, after it seemed to be over.
            slurm_job.over_since = None
            return None
        if slurm_job.over_since is None:
            slurm_job.over_since = clock_time
        if clock_time - slurm_job.over_since < self._patience.grace:
            return None
        if state.name == "COMPLETED":
            return Completion(slurm_job.task)
        return Completion(slurm_job.task, _crash(job, state, slurm_job.log_file))


def _exports() -> list[str]:
    """Return the lines of a job's script that let Python import the launcher's copy of the project."""
    return [f"export {name}={shlex.quote(value)}" for name, value in import_variables().items()]


def _crash(job: str, state: JobState, log_file: Path) -> str:
    try:
        text = log_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return (
            f"the SLURM job {job} ended as {state} and left no {log_file}. --runs-dir must be on a file system that "
            "all nodes share."
        )
    ending = str(state)
    last_line = last_words(text)
    if last_line:
        ending += f" ({last_line})"
    return f"the SLURM job {job} ended as {ending}; its output is {log_file}"


def last_words(text: str) -> str:
    """Return the last line of a job's output that is not srun's report of the end, at most 300 characters."""
    for line in reversed(text.splitlines()):
        if line.strip() and not _SAYS_NOTHING.match(line):
            return line.strip()[:300]
    return ""


def _state_of(task: Task) -> NodeState:
    return StateStore(task.state_root)[task.fingerprint]


def _mark(task: Task) -> Mark:
    """Return the times of the last writes of a node's result and failure, in nanoseconds; 0 for a missing file."""
    folder = _state_of(task).folder
    return _written(folder / "result.json"), _written(folder / "failure.json")


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
