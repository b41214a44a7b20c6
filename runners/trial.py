"""Runs one node of the plan: all that a dispatcher ever calls.

A worker is given a fingerprint and finds everything else in the state folder; it leaves its result or its failure
there too. torch is imported when the first node runs, so that dispatchers can import this module for free.
"""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ablations.errors import AblationError
from ablations.planning import EvaluationNode, Node
from runners.provenance import versions
from runners.state import NodeState, StateStore

if TYPE_CHECKING:
    import torch
    from torch import nn

    from runners.data import BatchSource

Status = Literal["finished", "failed"]


@dataclass(frozen=True)
class Task:
    """What a dispatcher carries to a worker: which node, where its state is, and what it may use.

    Attributes:
        state_root: Folder of the state folders.
        fingerprint: The node.
        device: `cpu`, `cuda`, `cuda:1` or `auto`.
        threads: Threads that torch may use.
        plugins: Modules to import first.
        checkpoint_seconds: Longest time between two checkpoints.
    """

    state_root: Path
    fingerprint: str
    device: str = "auto"
    threads: int = 1
    plugins: tuple[str, ...] = ()
    checkpoint_seconds: float = 60.0


def run_node(task: Task) -> Status:
    """Runs a node unless it is done already; a failure is written to its state folder, never raised."""
    state = StateStore(task.state_root)[task.fingerprint]
    if state.is_done:
        return "finished"
    try:
        load_plugins(task.plugins)
        node = state.node()
        started = time.monotonic()
        measured = _run_evaluation if isinstance(node, EvaluationNode) else _run_trial
        metrics = measured(node, state, task)
        state.finish(metrics, time.monotonic() - started, versions=versions(), device=str(_device(task.device)))
    except Exception as error:
        known = isinstance(error, (AblationError, *_dyconv_errors()))
        state.fail(type(error).__name__, str(error) if known else repr(error), traceback.format_exc())
        return "failed"
    return "finished"


def load_plugins(plugins: tuple[str, ...]) -> None:
    """Imports the modules that register a user's own strategies, networks, data sets and studies.

    Raises:
        AblationError: If one cannot be imported.
    """
    for name in plugins:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise AblationError(f"plug-in {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def _dyconv_errors() -> tuple[type[Exception], ...]:
    from dyconv.errors import DyconvError

    return (DyconvError,)


def _device(wanted: str) -> torch.device:
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def _prepare(node: Node, task: Task) -> tuple[nn.Module, BatchSource]:
    """Returns the untrained network and its batches, on the device."""
    import torch

    from runners.network import build_network, open_source

    torch.set_num_threads(task.threads)
    device = _device(task.device)
    layout = torch.channels_last
    source = open_source(node.spec, device, layout)
    model = build_network(node.spec.model, source.facts, node.spec.seed)
    return model.to(device).to(memory_format=layout), source


def _run_trial(node: Node, state: NodeState, task: Task) -> dict[str, float]:
    from runners.checkpoint import CheckpointStore, load_weights, save_tensors
    from runners.training import Hooks, Trainer

    model, source = _prepare(node, task)
    checkpoints = CheckpointStore(state.folder)
    trainer = Trainer(node.spec, model, source, checkpoints, checkpoint_seconds=task.checkpoint_seconds)
    done = trainer.resume()
    state.truncate_events(after_step=done // source.steps_per_epoch)
    trainer.run(Hooks(on_epoch=_epoch_writer(state, node, source), on_progress=_progress_writer(state, node, source)))
    save_tensors(state.weights_file, model.state_dict())
    load_weights(state.weights_file, model)
    metrics = _test(model, source)
    checkpoints.clear()
    return metrics


def _run_evaluation(node: Node, state: NodeState, task: Task) -> dict[str, float]:
    from runners.checkpoint import load_weights
    from runners.network import intervened

    assert isinstance(node, EvaluationNode)
    model, source = _prepare(node, task)
    load_weights(NodeState(state.folder.parent / node.trial.fingerprint).weights_file, model)
    state.report_progress(step=0, steps=1)
    with intervened(model, node.intervention, source.facts, node.trial.spec.seed):
        return _test(model, source)


def _test(model: nn.Module, source: BatchSource) -> dict[str, float]:
    from runners.evaluation import evaluate

    measured = evaluate(model, source.evaluation("test"), source.facts.num_classes)
    return measured.metrics("test", with_classes=True)


def _epoch_writer(state: NodeState, node: Node, source: BatchSource) -> Callable[[int, dict[str, float]], None]:
    def write(epoch: int, metrics: dict[str, float]) -> None:
        state.append_event(epoch, metrics)
        state.report_progress(
            epoch=epoch,
            epochs=node.spec.train.epochs,
            step=epoch * source.steps_per_epoch,
            steps=node.spec.train.epochs * source.steps_per_epoch,
            loss=metrics["train/loss"],
            val_top1=metrics["val/top1"],
            images_per_second=metrics["train/images_per_second"],
        )

    return write


def _progress_writer(state: NodeState, node: Node, source: BatchSource) -> Callable[[int, int, float, float], None]:
    def write(epoch: int, step: int, loss: float, speed: float) -> None:
        last = state.progress().get("val_top1")
        state.report_progress(
            epoch=epoch + 1,
            epochs=node.spec.train.epochs,
            step=epoch * source.steps_per_epoch + step,
            steps=node.spec.train.epochs * source.steps_per_epoch,
            loss=loss,
            val_top1=last,
            images_per_second=speed,
        )

    return write
