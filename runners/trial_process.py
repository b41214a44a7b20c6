"""One of several processes that train one network together; started by `runners.distributed`, not by hand."""

from __future__ import annotations

import sys

from runners.distributed import joined, own_device
from runners.nodes import train
from runners.plugins import load_plugins
from runners.state import StateStore
from runners.task import Task


def main(arguments: list[str]) -> None:
    """Trains this process's share of the node in `arguments`."""
    task = Task.from_arguments(arguments)
    load_plugins(task.plugins)
    state = StateStore(task.state_root)[task.fingerprint]
    with joined() as world:
        train(state.node(), state, task, own_device(task.device), world)


if __name__ == "__main__":
    main(sys.argv[1:])
