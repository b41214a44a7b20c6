"""This module runs a node on another machine, from the state folder that all machines share.

The Ray and SLURM dispatchers call it there. Only plain text is sent and nothing comes back: result, failure and log are
in the state folder.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

from ablations.errors import DispatchError
from runners.dispatch.base import Answer
from runners.own_code import check_same_code
from runners.workers.task import Task
from runners.workers.trial import run_node

_PATIENCE = 10.0
"""Seconds to wait for a new file, which a network file system shows to other machines only after a while."""


def run_remotely(*arguments: str) -> None:
    """Run the node of the task in `arguments`, see `Task.as_arguments`.

    Raises:
        DispatchError: If this machine does not see the node's state folder.
    """
    task = Task.from_arguments(list(arguments))
    check_visible(task.state_root / task.fingerprint / "node.json")
    run_node(task)


def call(question: Callable[..., Answer], *arguments: object) -> Answer:
    """Return the answer to a question of the launcher; the question may be a builtin function."""
    return question(*arguments)


def check_node(path: Path, code_root: str, code_digest: str) -> None:
    """Raise if this machine runs other code than the launcher, or does not see a file that the launcher has written."""
    check_same_code(code_root, code_digest, is_same_machine=False)
    check_visible(path)


def check_visible(path: Path, patience: float = _PATIENCE) -> None:
    """Raise if a file that the launcher has written is not there on this machine.

    Raises:
        DispatchError: If it does not appear within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while not path.exists():
        if time.monotonic() > deadline:
            raise DispatchError(
                f"the node {socket.gethostname()} does not see {path}. --runs-dir must be on a file system that all "
                "nodes share, under the same path."
            )
        time.sleep(0.2)
