"""This module runs a node again in a folder of its own, apart from any runs folder.

It is for whoever checks a report: nothing is taken over from an earlier result, and nothing is tracked.
"""

from __future__ import annotations

from ablations.errors import TrainingError
from ablations.planning.nodes import Node
from runners.state.nodes import NodeState, StateStore
from runners.workers.task import Task
from runners.workers.trial import run_node

_LAUNCH = "verify"


def rerun_node(
    node: Node, states: StateStore, *, device: str, threads: int, plugins: tuple[str, ...] = ()
) -> NodeState:
    """Run a node in this process and return its state folder; an evaluation finds its training among `states`.

    Raises:
        TrainingError: If it fails, with the reason.
    """
    state = states[node.fingerprint]
    state.describe(node)
    outcome = run_node(
        Task(states.root, node.fingerprint, device=device, threads=threads, plugins=plugins, launch=_LAUNCH)
    )
    if outcome != "finished" or state.result() is None:
        failure = state.failure() or {}
        raise TrainingError(f"{node.title} cannot be run again here: {failure.get('message', outcome)}")
    return state
