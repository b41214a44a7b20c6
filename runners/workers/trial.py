"""This module runs one node of the plan; dispatchers call `run_node` and nothing else to do so.

A worker is given a fingerprint and finds everything else in the state folder. It leaves its result or its failure
there too, and the lease there keeps every other worker away. torch is imported when the first node runs, so that
dispatchers can import this module for free.
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from ablations.errors import AblationError, LeaseError, OutputError
from ablations.planning.nodes import ProposedNode
from runners.importing import without_collection
from runners.own_code import check_same_code
from runners.plugins import check_plugins, load_plugins
from runners.provenance import machine, versions
from runners.state.attempts import Lease
from runners.state.failures import cause_of
from runners.state.nodes import NodeState, StateStore
from runners.workers.memory import choose_micro_batch
from runners.workers.task import Task

TaskOutcome = Literal["finished", "failed", "held"]


def run_node(task: Task) -> TaskOutcome:
    """Run a node unless it is done already; a failure is written to its state folder, never raised.

    Returns:
        `held` if the node is another process's: it was at the start, or was taken over under way.
    """
    state = StateStore(task.state_root)[task.fingerprint]
    try:
        lease = Lease.take(
            state.folder,
            task.launch,
            lease_seconds=task.lease_seconds,
            watched=task.watched,
            unless=lambda: state.is_done,
        )
    except (OSError, OutputError) as error:
        _write_failure(state, error)
        return "failed"
    if lease is None:
        return "finished" if state.is_done else "held"
    with lease:
        outcome = _attempt(state, replace(task, attempt=lease.number), lease)
    if outcome == "failed":
        # Here, not where the error is handled: until then its traceback keeps tensors alive.
        from runners.workers import measure

        measure.free_memory()
    return outcome


def _attempt(state: NodeState, task: Task, lease: Lease) -> TaskOutcome:
    try:
        state.forget_failure()
        _measure(state, task, lease)
    except LeaseError as error:
        _note(state, str(error))
        return "held"
    except Exception as error:
        return _fail(state, lease, error)
    lease.end("finished")
    return "finished"


def _measure(state: NodeState, task: Task, lease: Lease) -> None:
    if task.code_root:
        check_same_code(task.code_root, task.code_digest)
    load_plugins(task.plugins)
    node = state.node()
    check_plugins(node, state.about())
    started = time.monotonic()
    from runners.workers import measure, proposed_training

    measure.forget_peak()

    device = str(measure.choose_device(task.device))
    # Noted at the start: an attempt that fails leaves no result to say where its time went.
    lease.note(machine={**machine(device), "threads": str(task.threads), "device": device})
    training_fields: dict[str, Any] = {}
    if isinstance(node, ProposedNode):
        proposed_training.settle_values(node, state, task)
    if node.is_training:
        train = state.training(node).train
        training_fields["micro_batch"] = choose_micro_batch(train, state.attempts(), state.weights_file.exists())
        # The training reads it from its attempt; after a lack of memory, so does the choice of the next attempt.
        lease.note(**training_fields)
    if isinstance(node, ProposedNode):
        metrics = proposed_training.run_proposed(node, state, task)
    else:
        runners = {
            "trial": measure.run_trial,
            "network": measure.run_network,
            "evaluation": measure.run_evaluation,
            "cost": measure.run_cost,
        }
        metrics = runners[node.kind](node, state, task)
    lease.check()
    environment = {**versions(), **machine(device)}
    state.finish(
        metrics, time.monotonic() - started, versions=environment, device=device, **measure.peak(), **training_fields
    )
    # After the result: a kill in between would otherwise cost the whole training. Files that stay do no harm.
    with suppress(OSError):
        measure.tidy(state)


def _fail(state: NodeState, lease: Lease, error: Exception) -> TaskOutcome:
    try:
        lease.check()
    except LeaseError:
        # The node is another process's now, so its failure file is too; only the log gets this error.
        _note(state, f"after the lease was lost: {type(error).__name__}: {error}")
        return "held"
    lease.end("failed", _write_failure(state, error))
    return "failed"


def _note(state: NodeState, message: str) -> None:
    with suppress(OSError):
        state.note(message)


def _write_failure(state: NodeState, error: Exception) -> dict[str, str]:
    is_ours = isinstance(error, (AblationError, *_dyconv_errors()))
    # Our own errors are sentences for people; the type of any other error belongs to its message.
    failure = {
        "kind": type(error).__name__,
        "message": str(error) if is_ours else repr(error),
        "cause": cause_of(error),
    }
    state.fail(failure["kind"], failure["message"], traceback.format_exc(), failure["cause"])
    return failure


def warm_up() -> None:
    """Import the modules that every node needs, while the launcher is still preparing."""
    with without_collection():
        from runners.workers import measure  # noqa: F401


def count_gpus() -> int:
    """Return the number of GPUs that torch can use in this process."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _dyconv_errors() -> tuple[type[Exception], ...]:
    from dyconv.errors import DyconvError

    return (DyconvError,)
