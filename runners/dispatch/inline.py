"""This dispatcher runs tasks one after the other in this process: for debugging, where a breakpoint must work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Self

from runners.dispatch.base import Answer, Completion
from runners.dispatch.settings import DispatchSettings
from runners.dispatch.slots import usable_gpus
from runners.workers.task import Task
from runners.workers.trial import count_gpus, run_node


class InlineDispatcher:
    """A dispatcher that runs one task per call of `wait`, in this process."""

    capacity = 1

    def __init__(self, settings: DispatchSettings) -> None:
        self._settings = settings
        self._queue: deque[Task] = deque()

    def check(self, state_root: Path, devices: int) -> None:
        """Raise if the device is not there."""
        usable_gpus(self._settings.device, count_gpus())

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function and return its answer."""
        return question(*arguments)

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._queue.append(task)

    def wait(self, seconds: float) -> list[Completion]:
        """Run the next task to its end, however long it takes."""
        if not self._queue:
            return []
        task = self._queue.popleft()
        # How it ended is in the state folder, where the launch looks.
        run_node(task)
        return [Completion(task)]

    def cancel(self) -> None:
        """Forget the tasks that have not started."""
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.cancel()
