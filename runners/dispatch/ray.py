"""This dispatcher runs tasks on a Ray cluster: a running one, or one started on this machine for a launch.

Each task is a plain remote function with its cores and its share of a GPU; Ray chooses the node. Ray retries nothing
by itself: a lost worker or node is reported to the launcher, which counts the attempts.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ablations.errors import AblationError, DispatchError, OptionError
from ablations.stores.addresses import shown
from ablations.stores.secrets import without_secrets
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
    """A dispatcher with workers on the nodes of a Ray cluster.

    Args:
        settings: The number of tasks at once, the resources of each, and the address of the cluster.
    """

    def __init__(self, settings: DispatchSettings) -> None:
        self._settings = settings
        self._waiting: deque[Task] = deque()
        self._running: dict[Any, Task] = {}
        self._uses_gpus = settings.device == "cuda"

    @property
    def capacity(self) -> int:
        """The user's number of tasks at once, or as many as the present nodes have room for."""
        # The user may want more than fits: a cluster that can grow then does.
        return self._settings.workers or max(1, sum(_rooms(self._resources(1))))

    def check(self, state_root: Path, devices: int) -> None:
        """Raise if no node has room for a training on so many devices, or one does not see the state folder."""
        resources = self._resources(devices)
        if not any(_rooms(resources)):
            listing = ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
            raise OptionError(f"no node of the Ray cluster offers what a training needs: {listing}.")
        with NamedTemporaryFile(dir=state_root, prefix=".seen.") as file:
            _check_each_node(Path(file.name))

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function on a node of the cluster and return its answer.

        Raises:
            DispatchError: If the worker dies of it or cannot import the project.
        """
        reference = ray.remote(call).options(num_cpus=0, **_ONCE).remote(question, *arguments)
        answer: Answer = _answer(reference)
        return answer

    def submit(self, task: Task) -> None:
        """Hand a task to Ray, or queue it while as many are under way as the user wants."""
        self._waiting.append(task)
        self._start()

    def wait(self, seconds: float) -> list[Completion]:
        """Return the tasks that have ended."""
        if not self._running:
            return []
        # First wait for one task, then collect all others that have ended too.
        ray.wait(list(self._running), timeout=seconds)
        completed, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        ended: list[Completion] = []
        for reference in completed:
            ended.append(Completion(self._running.pop(reference), _crash(reference)))
        self._start()
        return ended

    def cancel(self) -> None:
        """Kill the workers; their checkpoints stay."""
        self._waiting.clear()
        for reference in self._running:
            ray.cancel(reference, force=True)
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=10)
        self._running.clear()

    def __enter__(self) -> Self:
        with _own_signals():
            self._connect()
        # Decided once: after a GPU node is lost, its trials must not go to the CPU of another node.
        if self._settings.device == "auto":
            self._uses_gpus = any(node.get("GPU") for node in _nodes().values())
        return self

    def __exit__(self, *raised: object) -> None:
        self.cancel()
        ray.shutdown()

    def _connect(self) -> None:
        """Connect to the cluster, or start one.

        Raises:
            DispatchError: If there is no cluster at the address.
        """
        s = self._settings
        # No usage statistics are sent unless the user wants them.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        use_short_sockets()
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if s.ray_address is None:
            options["num_cpus"] = (s.workers or max(1, cores() // s.threads)) * s.threads
            if s.device == "cpu":
                options["num_gpus"] = 0
            options |= {"include_dashboard": False, "address": "local"}
        else:
            options["address"] = s.ray_address
            _check_answers(s.ray_address)
            # The import path of this code and of plug-ins; the nodes may have been started in another folder.
            import_path = import_variables().get("PYTHONPATH")
            if import_path is not None:
                options["runtime_env"] = {"env_vars": {"PYTHONPATH": import_path}}
        try:
            with imported_by_children():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
            ray.shutdown()
            cluster = shown(s.ray_address or "this machine")
            cause = without_secrets(str(error), s.ray_address or "").strip().splitlines()[0]
            raise DispatchError(f"Ray on {cluster} cannot be used: {cause}") from None
        _silence_worker_errors()

    def _start(self) -> None:
        """Start waiting tasks in their order, up to the number that the user wants at once."""
        while self._waiting:
            if len(self._running) >= (self._settings.workers or float("inf")):
                return
            task = self._waiting.popleft()
            resources = self._resources(task.devices)
            options = {"num_cpus": resources["CPU"], "num_gpus": resources.get("GPU", 0), **_ONCE}
            # Ray shows a worker only the GPUs that it gives it.
            placed = replace(task, device="cuda" if "GPU" in resources else "cpu")
            self._running[ray.remote(run_remotely).options(**options).remote(*placed.as_arguments())] = task

    def _resources(self, devices: int) -> dict[str, float]:
        """Return the resources of a training on so many devices, under Ray's names."""
        resources: dict[str, float] = {"CPU": self._settings.threads * devices}
        if self._uses_gpus:
            # Only a training on one device shares its GPU.
            resources["GPU"] = 1 / self._settings.trials_per_gpu if devices == 1 else devices
        return resources


def _silence_worker_errors() -> None:
    """Keep Ray from printing that a worker died: the launcher reports it.

    Ray has no public switch for that: neither `log_to_driver` nor `logging_level` reaches the thread that prints these
    messages. Ray's own debugger sets the same private name. A version of Ray without it prints them.
    """
    with suppress(AttributeError):
        ray._private.worker._worker_logs_enabled = False


def _nodes() -> dict[str, dict[str, float]]:
    """Return the resources of each living node of the cluster, by the node's id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _rooms(resources: Mapping[str, float]) -> Iterator[int]:
    """Yield the number of tasks with these resources that each node takes at once."""
    for node in _nodes().values():
        # Ten times a tenth of a GPU is a little more than one in floating point.
        yield min(int(node.get(name, 0) / amount + 1e-6) for name, amount in resources.items())


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
    references: list[Any] = []
    for node in _nodes():
        options = {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False), **_ONCE}
        references.append(probe.options(num_cpus=0, **options).remote(path, str(ROOT), code_digest()))
    for reference in references:
        try:
            _answer(reference)
        except (ImportError, RuntimeError) as error:
            raise DispatchError(
                f"a node of the Ray cluster cannot run this project: {error}. Install the same environment everywhere."
            ) from None


def _answer(reference: Any) -> Any:
    """Return the answer to a question, or raise the error that it raised."""
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
        if isinstance(cause, AblationError):
            return str(cause)
        return f"{type(cause).__name__}: {cause}"
    except RayError as error:
        return _end_of(error)
    return None


def _end_of(error: RayError) -> str:
    for kind, text in _ENDS.items():
        if isinstance(error, kind):
            return text
    lines = str(error).strip().splitlines()
    if not lines:
        return f"Ray: {type(error).__name__}"
    return f"Ray: {type(error).__name__}: {lines[0][:300]}"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restore this process's handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
