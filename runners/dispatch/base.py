"""The one interface behind which work is carried out: submit tasks, wait for completions, cancel.

A dispatcher knows nothing of studies. It is told what may run, and says which tasks have ended and whether a worker
died under one; results and failures are read from the state folders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from runners.workers.task import Task

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Completion:
    """A task that has ended.

    Attributes:
        task: The task.
        crash: Why its worker died or was lost, or `None` if the worker lived to write a result or a failure. No
            dispatcher tries again by itself, so that attempts are counted in one place; a task may be submitted again.
    """

    task: Task
    crash: str | None = None


class Dispatcher(Protocol):
    """Carries tasks to workers. Used as a context manager; leaving it ends all workers."""

    @property
    def capacity(self) -> int:
        """How many tasks may be under way at once; what is submitted beyond that waits."""

    def check(self, state_root: Path, devices: int) -> None:
        """Raise if tasks cannot run here, before any is submitted.

        Args:
            state_root: Folder of the state folders; it exists.
            devices: The most devices that a task trains on.

        Raises:
            AblationError: With what is missing and what to do: devices, a cluster, a shared folder.
        """

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function where the work is done, so that the launcher need not import torch; wait for its answer.

        Function, arguments and answer are such as can be pickled.
        """

    def submit(self, task: Task) -> None:
        """Start a task, or queues it."""

    def wait(self, seconds: float) -> list[Completion]:
        """Return the tasks that have ended since the last call, after at most about `seconds`."""

    def cancel(self) -> None:
        """Stop everything under way, within seconds, without waiting for results."""

    def __enter__(self) -> Dispatcher:
        """Start the workers."""

    def __exit__(self, *raised: object) -> None:
        """End the workers."""
