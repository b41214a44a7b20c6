"""Runs one node of the plan: all that a dispatcher ever calls.

A worker is given a fingerprint and finds everything else in the state folder; it leaves its result or its failure
there too. torch is imported when the first node runs, so that dispatchers can import this module for free.
"""

from __future__ import annotations

import time
import traceback
from typing import Literal

from ablations.errors import AblationError
from runners.importing import without_collection
from runners.plugins import load_plugins
from runners.provenance import versions
from runners.state import StateStore
from runners.task import Task

Status = Literal["finished", "failed"]


def run_node(task: Task) -> Status:
    """Runs a node unless it is done already; a failure is written to its state folder, never raised."""
    state = StateStore(task.state_root)[task.fingerprint]
    if state.is_done:
        return "finished"
    try:
        load_plugins(task.plugins)
        node = state.node()
        started = time.monotonic()
        from runners import nodes

        runner = {"trial": nodes.run_trial, "evaluation": nodes.run_evaluation, "cost": nodes.run_cost}[node.kind]
        metrics = runner(node, state, task)
        device = str(nodes.choose_device(task.device))
        state.finish(metrics, time.monotonic() - started, versions=versions(), device=device)
        # Not before: a kill in between would cost the whole training.
        nodes.tidy(state)
    except Exception as error:
        known = isinstance(error, (AblationError, *_dyconv_errors()))
        state.fail(type(error).__name__, str(error) if known else repr(error), traceback.format_exc())
        return "failed"
    return "finished"


def warm_up() -> None:
    """Imports what every node needs, so that a worker does it while the launcher is still preparing."""
    with without_collection():
        from runners import nodes  # noqa: F401


def _dyconv_errors() -> tuple[type[Exception], ...]:
    from dyconv.errors import DyconvError

    return (DyconvError,)
