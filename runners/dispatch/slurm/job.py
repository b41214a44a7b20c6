"""This module defines the callable that a SLURM job runs: one task, as text, that can be put back into the queue.

submitit pickles the callable; the pickle holds the name of a class and a line of text.
"""

from __future__ import annotations

from dataclasses import dataclass

from submitit.helpers import DelayedSubmission

from runners.dispatch.remote import run_remotely
from runners.workers.task import Task


@dataclass(frozen=True)
class Resumable:
    """A callable that runs a task in a job; at the job's time limit the same task is submitted again.

    The work until then is in the task's own checkpoints, so there is nothing else to hand on.

    Attributes:
        arguments: The task, see `Task.as_arguments`.
    """

    arguments: tuple[str, ...]

    @classmethod
    def of(cls, task: Task) -> Resumable:
        """Return the callable for a task."""
        return cls(tuple(task.as_arguments()))

    def __call__(self) -> None:
        """Run the task in this job."""
        run_remotely(*self.arguments)

    def checkpoint(self) -> DelayedSubmission:
        """Return the submission that submitit puts back into the queue."""
        return DelayedSubmission(self)
