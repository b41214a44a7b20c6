"""This module defines the interface of all dispatchers: submit tasks, wait for completions, cancel.

A dispatcher knows nothing of studies. It receives tasks that may run, and reports the tasks that have ended and the
workers that died; results and failures are read from the state folders.
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
        crash: The death or loss of its worker as text, or `None` if the worker lived to write a result or a failure. No
            dispatcher tries again by itself, so that attempts are counted in one place; a task may be submitted again.
    """

    task: Task
    crash: str | None = None


class Dispatcher(Protocol):
    """An object that carries tasks to workers. Used as a context manager; leaving it ends all workers."""

    @property
    def capacity(self) -> int:
        """The number of tasks that may be under way at once; tasks beyond it wait."""

    def check(self, state_root: Path, devices: int) -> None:
        """Raise if tasks cannot run here, before any is submitted.

        Args:
            state_root: Folder of the state folders; it exists.
            devices: The most devices that a task trains on.

        Raises:
            AblationError: With what is missing and what to do: devices, a cluster, a shared folder.
        """

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function where tasks run, so that the launcher need not import torch; wait for its answer.

        Function, arguments and answer must be picklable.
        """

    def submit(self, task: Task) -> None:
        """Start a task, or queue it."""

    def wait(self, seconds: float) -> list[Completion]:
        """Return the tasks that have ended since the last call, after at most about `seconds`."""

    def cancel(self) -> None:
        """Stop all tasks under way, within seconds, without waiting for results."""

    def __enter__(self) -> Dispatcher:
        """Start the workers."""

    def __exit__(self, *raised: object) -> None:
        """End the workers."""
