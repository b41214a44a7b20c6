"""This module asks SLURM for the states of a launch's jobs, cancels jobs, and has a job's options checked.

It needs no accounting database: `squeue` knows a job for some minutes after its end, which is longer than a launcher
waits between two looks.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations.errors import DispatchError, OptionError

_SECONDS = 60.0
# From the manual of squeue, "Job state codes".
_ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED")
) | {"TIMEOUT"}
# With widths, as squeue cuts a field at 20 characters by default.
_FIELDS = "JobArrayID:64,State:32,exit_code:16"


@dataclass(frozen=True)
class JobState:
    """The state of a job.

    Attributes:
        name: SLURM's word for it.
        wait_status: The exit status of the job, as `waitpid` encodes it.
    """

    name: str
    wait_status: int = 0

    @property
    def is_over(self) -> bool:
        """True if the job does nothing any more."""
        return self.name in _ENDED

    @property
    def is_ending(self) -> bool:
        """True if the job is over or about to be, unless it was put back into the queue."""
        return self.is_over or self.name == "COMPLETING"

    def __str__(self) -> str:
        # The high byte is the exit code, the low seven bits are the signal; a shell reports a signal as 128 + number.
        code = self.wait_status >> 8 or self.wait_status & 0x7F
        number = 0
        if code > 128:
            number = code - 128
        elif self.wait_status < 256:
            number = code
        for member in signal.Signals:
            if member == number:
                return f"{self.name}, killed by {member.name}"
        return f"{self.name}, exit code {code}" if code else self.name


def read_states(name: str) -> dict[str, JobState] | None:
    """Return the states of the jobs called `name` that SLURM knows, by id; `None` if it does not answer now."""
    try:
        output = _run(["squeue", "--noheader", "--array", "--states=all", f"--name={name}", f"--Format={_FIELDS}"])
    except DispatchError:
        return None
    states: dict[str, JobState] = {}
    for line in output.splitlines():
        job, state, status = line.split()
        states[job] = JobState(state, int(status))
    return states


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Kill jobs, and take those that have not started out of the queue.

    Running jobs get SIGKILL before they are cancelled: a job that is only cancelled gets half a minute to end.
    """
    # Waiting jobs first, so that none of them starts in the place of a killed one.
    for options in (["--state=PENDING"], ["--signal=KILL"], []):
        if jobs:
            subprocess.run(["scancel", *options, *jobs], capture_output=True, timeout=_SECONDS, check=False)


def check_accepted(arguments: Iterable[str]) -> None:
    """Raise if SLURM would refuse a job with these arguments of sbatch.

    Raises:
        OptionError: With SLURM's own message.
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
        message = "; ".join(ended.stderr.strip().splitlines())
        raise DispatchError(message[:300] or f"{command[0]} ended with exit code {ended.returncode}")
    return ended.stdout
