"""Runs tasks as jobs of a SLURM cluster, through submitit: what is submitted together becomes one job array.

A job that reaches its time limit, or whose node is lost, is put back into the queue by SLURM and goes on from the
task's checkpoint. How a job ended is asked of `squeue` and read from the state folder; nothing that a job has pickled
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
from runners.state.nodes import StateStore
from runners.workers.task import Task

_JOBS_AT_ONCE = 100
_LARGEST_ARRAY = 500
_SAYS_NOTHING = re.compile(r"srun: (got|forcing|Job step aborted|error: \S+: tasks? \S+ (Exited|Killed|Terminated))")
"""What srun adds to the last words of a job."""

_UNKNOWN = JobState("unknown to SLURM")

Mark = tuple[int, int]


@dataclass(frozen=True)
class Patience:
    """How long to wait between two looks, in seconds.

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
    """A job under way: its task, where its output goes, how its folder looked before, since when it is over."""

    task: Task
    log_file: Path
    before: Mark
    over_since: float | None = None

    @property
    def has_written(self) -> bool:
        """Whether there is a result or a failure that was not there before; an old failure may be gone."""
        return any(now not in (0, then) for now, then in zip(_mark(self.task), self.before, strict=True))


class SlurmDispatcher:
    """Jobs of a cluster.

    Args:
        settings: What each job asks for, how many there may be at once, and where scripts and output go.
        patience: How often to look.
    """

    def __init__(self, settings: DispatchSettings, patience: Patience | None = None) -> None:
        self._settings = settings
        self._patience = patience or Patience()
        self._name = f"dyconv-{secrets.token_hex(6)}"
        self.folder = settings.folder.resolve() / "slurm" / self._name
        self._local = ProcessDispatcher(DispatchSettings(workers=1, device="cpu"))
        self._waiting: deque[Task] = deque()
        self._jobs: dict[str, _Job] = {}
        self._refused: list[Completion] = []
        self._asked = float("-inf")
        self._is_clean = True

    @property
    def capacity(self) -> int:
        """As many jobs at once as the user wants."""
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
        """Start what was submitted and returns the tasks that have ended."""
        self._start()
        deadline = time.monotonic() + seconds
        while True:
            ended = self._ended()
            left = deadline - time.monotonic()
            if ended or left <= 0 or not self._jobs:
                return ended
            time.sleep(min(left, self._patience.look))

    def cancel(self) -> None:
        """Kill the jobs and takes those that wait out of the queue; what they had saved stays."""
        self._waiting.clear()
        cancel_jobs(list(self._jobs))
        deadline = time.monotonic() + self._patience.grace
        while self._jobs and time.monotonic() < deadline:
            states = read_states(self._name) or {}
            if all(states.get(job, _UNKNOWN).is_over for job in self._jobs):
                break
            time.sleep(self._patience.look)
        self._jobs.clear()

    def __enter__(self) -> Self:
        # What it has to say, the launcher says.
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
        """Remove what the jobs left, but for the output of those that crashed."""
        if self._is_clean:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.folder.parent.rmdir()
        for path in self.folder.glob("*.pkl"):
            path.unlink(missing_ok=True)

    def _start(self) -> None:
        """Submit what waits, as far as the user wants so many at once: a job array per kind of job."""
        room = self.capacity - len(self._jobs)
        tasks = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        for devices in sorted({task.devices for task in tasks}):
            alike = [task for task in tasks if task.devices == devices]
            for first in range(0, len(alike), _LARGEST_ARRAY):
                self._submit(alike[first : first + _LARGEST_ARRAY], devices)

    def _submit(self, tasks: Sequence[Task], devices: int) -> None:
        s = self._settings
        executor = SlurmExecutor(self.folder, max_num_timeout=s.slurm.requeues)
        parameters = s.slurm.parameters(devices, s.threads)
        # Before the user's own setup, which may add to them.
        parameters["setup"] = [*_exports(), *parameters["setup"]]
        executor.update_parameters(job_name=self._name, nodes=1, **parameters)
        marks = [_mark(task) for task in tasks]
        try:
            jobs: list[Any] = executor.submit_array([Resumable.of(self._on_its_device(task)) for task in tasks])
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            words = "; ".join(str(error).strip().splitlines()) or type(error).__name__
            reason = f"SLURM refused the job: {words[:300]}"
            self._refused += [Completion(task, reason) for task in tasks]
            return
        for job, task, mark in zip(jobs, tasks, marks, strict=True):
            self._jobs[job.job_id] = _Job(task, Path(job.paths.stdout), mark)

    def _on_its_device(self, task: Task) -> Task:
        slurm = self._settings.slurm
        # A GPU that was asked for and does not work must not become days on the CPU.
        device = "cuda" if slurm.gpus else task.device if slurm.gres else "cpu"
        return replace(task, device=device)

    def _ended(self) -> list[Completion]:
        ended, self._refused = self._refused, []
        now = time.monotonic()
        wrote = {job for job, about in self._jobs.items() if about.has_written}
        watched = wrote or any(about.over_since is not None for about in self._jobs.values())
        if not self._jobs or now - self._asked < (self._patience.ask if watched else self._patience.rest):
            return ended
        self._asked = now
        states = read_states(self._name)
        if states is None:
            # A controller that restarts knows its jobs again afterwards.
            return ended
        for job in list(self._jobs):
            completion = self._judge(job, states.get(job, _UNKNOWN), job in wrote, now)
            if completion is not None:
                del self._jobs[job]
                self._is_clean &= completion.crash is None
                ended.append(completion)
        return ended

    def _judge(self, job: str, state: JobState, wrote: bool, now: float) -> Completion | None:
        """Return how a job ended, or `None` while it may still be going on."""
        about = self._jobs[job]
        is_over = state.is_over or state is _UNKNOWN
        if (wrote or _is_done(about.task)) and (is_over or state.is_ending):
            return Completion(about.task)
        if not is_over:
            about.over_since = None
            return None
        about.over_since = now if about.over_since is None else about.over_since
        if now - about.over_since < self._patience.grace:
            return None
        return Completion(about.task, None if state.name == "COMPLETED" else _crash(job, state, about.log_file))


def _exports() -> list[str]:
    """Return the lines with which a job's script has Python import the launcher's copy of the project."""
    return [f"export {name}={shlex.quote(value)}" for name, value in import_variables().items()]


def _crash(job: str, state: JobState, log_file: Path) -> str:
    try:
        text = log_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return (
            f"the SLURM job {job} ended as {state} and left no {log_file}. --runs-dir must be on a file system that "
            "all nodes share."
        )
    said = last_words(text)
    return f"the SLURM job {job} ended as {state}{f' ({said})' if said else ''}; its output is {log_file}"


def last_words(text: str) -> str:
    """Return the last line of a job's output that is not one in which srun repeats that it ended."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _SAYS_NOTHING.match(line)]
    return lines[-1][:300] if lines else ""


def _mark(task: Task) -> Mark:
    """Return when result and failure of a node were last written."""
    folder = StateStore(task.state_root)[task.fingerprint].folder
    return _written(folder / "result.json"), _written(folder / "failure.json")


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_done(task: Task) -> bool:
    return StateStore(task.state_root)[task.fingerprint].is_done
