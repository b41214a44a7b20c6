"""One of several processes that train one network together; started by `runners.distributed`, not by hand."""

from __future__ import annotations

import sys

from runners.distributed import PROCESS_FAILURE, joined, own_device
from runners.failures import cause_of
from runners.files import write_json_once
from runners.lifetime import die_with_parent
from runners.nodes import train
from runners.plugins import check_plugins, load_plugins
from runners.state import StateStore
from runners.task import Task


def main(arguments: list[str]) -> None:
    """Trains this process's share of the node in `arguments`; the first process that fails writes down why."""
    task = Task.from_arguments(arguments)
    load_plugins(task.plugins)
    state = StateStore(task.state_root)[task.fingerprint]
    with joined() as world:
        try:
            node = state.node()
            check_plugins(node, state.about())
            train(node, state, task, own_device(task.device), world)
        except Exception as error:
            kind = type(error).__name__
            failure = {"kind": kind, "message": f"{kind}: {error}", "cause": cause_of(error)}
            write_json_once(state.folder / PROCESS_FAILURE, failure)
            raise


if __name__ == "__main__":
    die_with_parent()
    main(sys.argv[1:])
