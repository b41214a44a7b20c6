"""This script is one of several processes that train one network together; `runners.training.distributed` starts it."""

from __future__ import annotations

import sys

from runners.plugins import check_plugins, load_plugins
from runners.processes import die_with_parent
from runners.state.failures import cause_of
from runners.state.files import write_json_once
from runners.state.nodes import StateStore
from runners.training.distributed import PROCESS_FAILURE, joined, process_device
from runners.workers.measure import train
from runners.workers.task import Task


def main(arguments: list[str]) -> None:
    """Train this process's share of the node in `arguments`; the first process that fails writes its failure down."""
    task = Task.from_arguments(arguments)
    load_plugins(task.plugins)
    state = StateStore(task.state_root)[task.fingerprint]
    with joined() as world:
        try:
            node = state.node()
            check_plugins(node, state.about())
            train(node, state, task, process_device(task.device), world)
        except Exception as error:
            kind = type(error).__name__
            # Once: the first failure is the cause, and the other processes fail only because this one is gone.
            failure = {"kind": kind, "message": f"{kind}: {error}", "cause": cause_of(error)}
            write_json_once(state.folder / PROCESS_FAILURE, failure)
            raise


if __name__ == "__main__":
    die_with_parent()
    main(sys.argv[1:])
