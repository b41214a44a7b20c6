"""As much of Ray as the dispatcher uses, on one made-up node: enough to test it where Ray is not installed.

Tasks are run by worker processes that are forked with torch imported, as far as the node's CPUs reach; what a task
asked for is kept in `asked`. The real Ray is in the torture tests.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

from pebble import ProcessExpired, ProcessPool

NODE = "made-up"


class RayError(Exception):
    """Base of what Ray raises."""


class WorkerCrashedError(RayError):
    """The worker of a task died."""


class NodeDiedError(RayError):
    """The node of a worker was lost."""


class OutOfMemoryError(RayError):
    """The worker was killed because its node was out of memory."""


class TaskCancelledError(RayError):
    """The task was cancelled."""


class RayTaskError(RayError):
    """The task raised `cause`."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(f"ray::task()\n{cause!r}")


@dataclass(eq=False)
class Reference:
    """A task: what to call, what it needs, and its future once it has started."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    future: Future[Any] | None = None
    error: RayError | None = None

    @property
    def is_ready(self) -> bool:
        return self.error is not None or (self.future is not None and self.future.done())


@dataclass
class Node:
    """The node, its tasks and its workers."""

    resources: dict[str, float]
    tasks: list[Reference] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    init: dict[str, Any] = field(default_factory=dict)
    pool: ProcessPool | None = None

    def open(self, **options: Any) -> None:
        if options.get("address") == "auto":
            raise ConnectionError("Could not find any running Ray instance.\nAnd more.")
        self.init = options
        self.resources["CPU"] = options.get("num_cpus", self.resources["CPU"])
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["runners.dispatch.preloaded"])
        self.pool = ProcessPool(max_workers=int(self.resources["CPU"]) + 1, context=context)

    def close(self) -> None:
        if self.pool is not None:
            self.pool.stop()  # type: ignore[no-untyped-call]
            self.pool.join()

    def submit(self, reference: Reference) -> Reference:
        self.tasks.append(reference)
        self.asked.append(reference.options)
        self.step()
        return reference

    def step(self) -> None:
        assert self.pool is not None
        for task in self.tasks:
            running = [other for other in self.tasks if other.future is not None and not other.is_ready]
            used = sum(other.options["num_cpus"] for other in running)
            if task.future is None and not task.is_ready and used + task.options["num_cpus"] <= self.resources["CPU"]:
                task.future = self.pool.schedule(task.function, args=task.arguments)

    def wait(
        self, references: Sequence[Reference], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Reference], list[Reference]]:
        deadline = time.monotonic() + (timeout or 0)
        while True:
            self.step()
            ready = [reference for reference in references if reference.is_ready]
            if len(ready) >= num_returns or time.monotonic() > deadline:
                return ready[:num_returns], [reference for reference in references if reference not in ready]
            time.sleep(0.01)

    def get(self, reference: Reference) -> Any:
        while not reference.is_ready:
            self.wait([reference], timeout=1)
        if reference.error is not None:
            raise reference.error
        assert reference.future is not None
        try:
            return reference.future.result()
        except ProcessExpired:
            raise WorkerCrashedError("The worker died unexpectedly") from None
        except Exception as error:
            raise RayTaskError(error) from None

    def cancel(self, reference: Reference, *, force: bool) -> None:
        assert force
        if reference.future is not None:
            reference.future.cancel()
        reference.error = TaskCancelledError()

    def remote(self, function: Callable[..., Any]) -> Any:
        def options(**asked: Any) -> Any:
            assert asked["max_retries"] == 0, "the launcher counts the attempts"
            return SimpleNamespace(remote=lambda *arguments: self.submit(Reference(function, arguments, asked)))

        return SimpleNamespace(options=options)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": NODE, "Alive": True, "Resources": self.resources},
            {"NodeID": "lost", "Alive": False, "Resources": {"CPU": 999.0}},
        ]


@contextmanager
def fake_ray(**resources: float) -> Iterator[Node]:
    """Has `import ray` give a made-up Ray for the length of a block.

    Args:
        resources: What its node offers, in Ray's names.
    """
    node = Node({"CPU": 1.0, **resources})
    errors = (RayError, WorkerCrashedError, NodeDiedError, OutOfMemoryError, RayTaskError)
    made_up = {
        "ray": {name: getattr(node, name) for name in ("wait", "get", "cancel", "remote", "nodes")}
        | {"init": node.open, "shutdown": node.close, "_private": SimpleNamespace(worker=SimpleNamespace())},
        "ray.exceptions": {error.__name__: error for error in errors},
        "ray.util": {},
        "ray.util.scheduling_strategies": {"NodeAffinitySchedulingStrategy": lambda id, soft: (id, soft)},
    }
    names = [*made_up, "runners.dispatch.ray"]
    real = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    for name, content in made_up.items():
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(content)
    try:
        yield node
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(real)
