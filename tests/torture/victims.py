"""Processes that are killed: forked in milliseconds from a server that has imported torch, one node and one death each.

Nothing is tidied up by SIGKILL, so each of these leaves the state folder as a power failure or the kernel's
out-of-memory killer would leave it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.workers.task import Task

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["runners.workers.measure", "runners.data.transforms", "mlflow"])
_LONGEST = 120


@dataclass(frozen=True)
class Death:
    """Where a process kills itself with SIGKILL.

    Attributes:
        place: A key of `PLACES`, or `""` for a process that lives.
        passes: How often it comes by before it dies.
    """

    place: str = ""
    passes: int = 0


def _places() -> dict[str, tuple[Any, str]]:
    from runners.state.nodes import NodeState
    from runners.training.checkpoint import CheckpointStore
    from runners.training.trainer import Trainer
    from runners.workers import measure

    return {
        "a step": (Trainer, "_step"),
        "a validation": (Trainer, "_validate"),
        "a line of metrics": (NodeState, "append_event"),
        "half a file": (Path, "write_bytes"),
        "a flush": (os, "fsync"),
        "a renaming": (Path, "replace"),
        "a removal": (Path, "unlink"),
        "forgetting": (CheckpointStore, "forget_beyond"),
        "the test split": (measure, "_measure"),
        "the result": (NodeState, "finish"),
    }


PLACES = tuple(_places())


def call(function: Callable[..., None], *arguments: object) -> int:
    """Runs a function in a process of its own; returns the exit code, negative for a signal."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join(_LONGEST)
    assert process.exitcode is not None, "it is still running"
    return process.exitcode


def start(function: Callable[..., None], *arguments: object) -> Any:
    """Starts a function in a process of its own, which the caller may kill."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def run_to_death(task: Task, death: Death, epoch_seconds: float = 0.0) -> None:
    """Runs a node and dies where it is told.

    Args:
        task: The node.
        death: Where.
        epoch_seconds: An epoch that ends so soon after a checkpoint gets none.
    """
    import torch

    import runners.training.trainer
    from runners.workers.trial import run_node

    torch.set_num_threads(1)
    runners.training.trainer._EPOCH_SECONDS = epoch_seconds
    if death.place:
        _arm(*_places()[death.place], death)
    run_node(task)


def _arm(owner: Any, name: str, death: Death) -> None:
    honest, left = getattr(owner, name), [death.passes]

    def deadly(*arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            return honest(*arguments, **more)
        if death.place == "half a file":
            honest(arguments[0], arguments[1][: len(arguments[1]) // 2])
        return os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)
