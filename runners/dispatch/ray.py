"""Runs tasks on a Ray cluster: one started on this machine for the length of a launch, or one that is there already.

Each task is a plain remote function with its cores and its share of a GPU; Ray chooses the node. Ray retries nothing
by itself: a lost worker or node is told to the launcher, which counts the attempts.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ablations.addresses import shown, without_secrets
from ablations.errors import AblationError, DispatchError, OptionError
from runners.dispatch.base import Answer, Completion
from runners.dispatch.remote import call, check_node, run_remotely
from runners.dispatch.settings import DispatchSettings
from runners.dispatch.sockets import use_short_sockets
from runners.hardware import cores
from runners.own_code import ROOT, code_digest, import_variables, imported_by_children
from runners.workers.task import Task

_CONNECT_SECONDS = 10.0
_ONCE = {"max_retries": 0, "retry_exceptions": False}

_ENDS: Mapping[type[RayError], str] = {
    WorkerCrashedError: "the Ray worker died (killed, or its node was lost)",
    NodeDiedError: "the node of the Ray worker was lost",
    OutOfMemoryError: "Ray killed the worker because its node ran out of memory",
}


class RayDispatcher:
    """Workers wherever Ray has room.

    Args:
        settings: How many tasks at once, what each needs, and where the cluster is.
    """

    def __init__(self, settings: DispatchSettings) -> None:
        self._settings = settings
        self._waiting: deque[Task] = deque()
        self._running: dict[Any, Task] = {}
        self._uses_gpus = settings.device == "cuda"

    @property
    def capacity(self) -> int:
        """As many tasks as the nodes take that are there now, or as the user wants at once."""
        # What the user wants may be more than fits: that is what makes a cluster grow that can.
        return self._settings.workers or max(1, sum(_room(node, self._resources(1)) for node in _nodes().values()))

    def check(self, state_root: Path, devices: int) -> None:
        """Raise if no node has room for a training on so many devices, or one does not see the state folder."""
        wanted = self._resources(devices)
        if not any(_room(node, wanted) for node in _nodes().values()):
            told = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items())
            raise OptionError(f"no node of the Ray cluster offers what a training needs: {told}.")
        with NamedTemporaryFile(dir=state_root, prefix=".seen.") as file:
            _check_each_node(Path(file.name))

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function on a node of the cluster and returns its answer.

        Raises:
            DispatchError: If the worker dies of it or cannot import the project.
        """
        reference = ray.remote(call).options(num_cpus=0, **_ONCE).remote(question, *arguments)
        answer: Answer = _answer(reference)
        return answer

    def submit(self, task: Task) -> None:
        """Hand a task to Ray, or queues it while there are as many under way as the user wants."""
        self._waiting.append(task)
        self._start()

    def wait(self, seconds: float) -> list[Completion]:
        """Return the tasks that have ended."""
        if not self._running:
            return []
        ray.wait(list(self._running), timeout=seconds)
        done, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        ended = [Completion(self._running.pop(reference), _crash(reference)) for reference in done]
        self._start()
        return ended

    def cancel(self) -> None:
        """Kill the workers; what they had saved stays."""
        self._waiting.clear()
        for reference in self._running:
            ray.cancel(reference, force=True)
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=10)
        self._running.clear()

    def __enter__(self) -> Self:
        with _own_signals():
            self._connect()
        # Once: a GPU node that is lost must not send its trials to the CPU of another.
        if self._settings.device == "auto":
            self._uses_gpus = any(node.get("GPU") for node in _nodes().values())
        return self

    def __exit__(self, *raised: object) -> None:
        self.cancel()
        ray.shutdown()

    def _connect(self) -> None:
        """Connect to the cluster, or starts one.

        Raises:
            DispatchError: If there is none at the address.
        """
        s = self._settings
        # A cluster of one's own tells nobody that it is there.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        use_short_sockets()
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if s.ray_address is None:
            gpus = {"num_gpus": 0} if s.device == "cpu" else {}
            options |= {"num_cpus": (s.workers or max(1, cores() // s.threads)) * s.threads, **gpus}
            options |= {"include_dashboard": False, "address": "local"}
        else:
            options["address"] = s.ray_address
            _check_answers(s.ray_address)
            # Where this code and plug-ins are found; the nodes may have been started from elsewhere.
            seen = {name: value for name, value in import_variables().items() if name == "PYTHONPATH"}
            options |= {"runtime_env": {"env_vars": seen}} if seen else {}
        try:
            with imported_by_children():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
            ray.shutdown()
            where = shown(s.ray_address or "this machine")
            cause = without_secrets(str(error), s.ray_address or "").strip().splitlines()[0]
            raise DispatchError(f"Ray on {where} cannot be used: {cause}") from None
        # What it prints of dead workers the launcher tells too; a Ray that does not know this one prints it.
        ray._private.worker._worker_logs_enabled = False

    def _start(self) -> None:
        """Start what waits, in its order, as far as the user wants so many at once."""
        while self._waiting:
            if len(self._running) >= (self._settings.workers or float("inf")):
                return
            task = self._waiting.popleft()
            wanted = self._resources(task.devices)
            options = {"num_cpus": wanted["CPU"], "num_gpus": wanted.get("GPU", 0), **_ONCE}
            # Ray shows a worker only the GPUs that it gives it.
            placed = replace(task, device="cuda" if "GPU" in wanted else "cpu")
            self._running[ray.remote(run_remotely).options(**options).remote(*placed.as_arguments())] = task

    def _resources(self, devices: int) -> dict[str, float]:
        """Return what a training on so many devices needs, in Ray's names."""
        share = 1 / self._settings.trials_per_gpu if devices == 1 else devices
        return {"CPU": self._settings.threads * devices, **({"GPU": share} if self._uses_gpus else {})}


def _nodes() -> dict[str, dict[str, float]]:
    """Return what each living node of the cluster offers, by the node's id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _room(node: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """Return how many tasks that want so much a node takes at once."""
    # A tenth of a GPU ten times is a little more than one.
    return min(int(node.get(name, 0) / amount + 1e-6) for name, amount in wanted.items())


def _check_answers(address: str) -> None:
    """Raise if nothing listens at an address; Ray would go on trying for minutes."""
    host, separator, port = address.rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise DispatchError(
            f"no Ray cluster answers at {address}: {error}. Start one with `ray start --head`, see docs/cluster.md."
        ) from None


def _check_each_node(path: Path) -> None:
    """Raise if a node cannot import the project or does not see a file."""
    probe = ray.remote(check_node)
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in _nodes()]
    references = [
        probe.options(num_cpus=0, scheduling_strategy=at, **_ONCE).remote(path, str(ROOT), code_digest())
        for at in there
    ]
    for reference in references:
        try:
            _answer(reference)
        except (ImportError, RuntimeError) as error:
            raise DispatchError(
                f"a node of the Ray cluster cannot run this project: {error}. Install the same environment everywhere."
            ) from None


def _answer(reference: Any) -> Any:
    """Return what a question was answered with, or raises what it raised."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        # The error itself, without the pages that Ray adds.
        raise error.cause or error from None
    except RayError as error:
        raise DispatchError(f"{_end_of(error)} before anything was trained.") from None


def _crash(reference: Any) -> str | None:
    try:
        ray.get(reference)
    except RayTaskError as error:
        cause = error.cause or error
        return str(cause) if isinstance(cause, AblationError) else f"{type(cause).__name__}: {cause}"
    except RayError as error:
        return _end_of(error)
    return None


def _end_of(error: RayError) -> str:
    known = next((words for kind, words in _ENDS.items() if isinstance(error, kind)), None)
    lines = str(error).strip().splitlines()
    return known or f"Ray: {type(error).__name__}{': ' if lines else ''}{lines[0][:300] if lines else ''}"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep Ray from replacing what this process does when it is asked to end."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
