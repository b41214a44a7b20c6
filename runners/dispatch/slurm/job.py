"""What a SLURM job carries: one task, as text, and how it is put back into the queue.

submitit pickles what it submits; here that is the name of a class and a line of text.
"""

from __future__ import annotations

from dataclasses import dataclass

from submitit.helpers import DelayedSubmission

from runners.dispatch.remote import run_remotely
from runners.workers.task import Task


@dataclass(frozen=True)
class Resumable:
    """Runs a task in a job; at the job's time limit the same task is submitted again.

    What was done until then is in the task's own checkpoints, so there is nothing else to hand on.

    Attributes:
        arguments: The task, see `Task.as_arguments`.
    """

    arguments: tuple[str, ...]

    @classmethod
    def of(cls, task: Task) -> Resumable:
        """Return what is submitted for a task."""
        return cls(tuple(task.as_arguments()))

    def __call__(self) -> None:
        """Run the task in this job."""
        run_remotely(*self.arguments)

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit puts back into the queue."""
        return DelayedSubmission(self)
