"""Asking SLURM: which jobs of a launch are still there, how the others ended, and their cancellation.

Needs no accounting database: `squeue` knows a job for some minutes after its end, which is longer than a launcher
looks away.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations.errors import DispatchError, OptionError

_SECONDS = 60.0
_ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED")
) | {"TIMEOUT"}
_FIELDS = "JobArrayID:64,State:32,exit_code:16"


@dataclass(frozen=True)
class JobState:
    """How a job stands.

    Attributes:
        name: SLURM's word for it.
        wait_status: What the system said of its end, as `waitpid` would.
    """

    name: str
    wait_status: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the job does nothing any more."""
        return self.name in _ENDED

    @property
    def is_ending(self) -> bool:
        """Whether the job is over or about to be, if it was not put back into the queue."""
        return self.is_over or self.name == "COMPLETING"

    def __str__(self) -> str:
        code = self.wait_status >> 8 or self.wait_status & 0x7F
        number = code - 128 if code > 128 else code if self.wait_status < 256 else 0
        names = {int(known): known.name for known in signal.Signals}
        told = f", killed by {names[number]}" if number in names else f", exit code {code}" if code else ""
        return f"{self.name}{told}"


def read_states(name: str) -> dict[str, JobState] | None:
    """Return the jobs called `name` that SLURM knows, by id; `None` if it does not answer now."""
    try:
        told = _run(["squeue", "--noheader", "--array", "--states=all", f"--name={name}", f"--Format={_FIELDS}"])
    except DispatchError:
        return None
    rows = (line.split() for line in told.splitlines())
    return {job: JobState(state, int(status)) for job, state, status in rows}


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Kill jobs and takes those that have not started out of the queue.

    What runs is killed first: a cancelled job would be asked politely and given half a minute.
    """
    for options in (["--state=PENDING"], ["--signal=KILL"], []):
        if jobs:
            subprocess.run(["scancel", *options, *jobs], capture_output=True, timeout=_SECONDS, check=False)


def check_accepted(arguments: Iterable[str]) -> None:
    """Raise if SLURM would refuse a job that asks for this.

    Raises:
        OptionError: With SLURM's own words.
    """
    try:
        _run(["sbatch", "--test-only", *arguments, "--wrap=true"])
    except DispatchError as error:
        raise OptionError(f"SLURM refuses such a job: {error}. Change what --slurm asks for.") from None


def _run(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DispatchError(f"{command[0]}: {error}") from None
    if ended.returncode:
        words = "; ".join(ended.stderr.strip().splitlines())
        raise DispatchError(words[:300] or f"{command[0]} ended with exit code {ended.returncode}")
    return ended.stdout
