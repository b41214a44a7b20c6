"""This module measures each kind of node: a training, a checkpoint from elsewhere, an evaluation, a cost.

`runners.workers.trial` calls it and writes down the result or the failure. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

import dyconv
from ablations import vocabulary as names
from ablations.errors import CheckpointError
from ablations.planning.nodes import Node, TrialNode
from runners.data import BatchSource
from runners.hardware import forget_peak_memory, peak_memory_bytes
from runners.state import attempts
from runners.state.files import write_json
from runners.state.nodes import NodeState
from runners.state.schemas import remove_file
from runners.training import distributed
from runners.training.attention_profile import attention_gap, attention_profile
from runners.training.checkpoint import CheckpointStore, load_weights
from runners.training.correctness import correctness
from runners.training.distributed import World
from runners.training.evaluation import Measurement, evaluate
from runners.training.inspected import load_inspected, load_kept
from runners.training.network import (
    build_trained_network,
    calibration_images,
    input_size,
    intervened,
    open_source,
    timed_networks,
)
from runners.training.sealed_tensors import load_tensors, save_tensors
from runners.training.trainer import Hooks, Trainer
from runners.workers.load import LoadMeter
from runners.workers.memory import keep_freed_memory
from runners.workers.task import Task

LAYOUT = torch.channels_last
"""The memory layout in which static and dynamic networks alike are fastest, on CPU and GPU."""
LATENCY_ROUNDS = 20

AfterEpoch = Callable[[int, dict[str, float]], None]

_ALONE = World()


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def run_trial(node: Node, state: NodeState, task: Task) -> dict[str, float]:
    """Train a network, from its last checkpoint if there is one, and measure it once on the test split."""
    train_anywhere(node, state, task)
    # Always from the weights file: a resumed worker and one that trained measure the same bits.
    model, source = _prepare(node, task, choose_device(task.device))
    load_weights(state.weights_file, model)
    return _measure(model, source, state, task)


def train_anywhere(node: Node, state: NodeState, task: Task, after_epoch: AfterEpoch | None = None) -> None:
    """Train a network, from its last checkpoint if there is one, in this process or on several devices in others.

    Args:
        node: The node to train.
        state: Its folder, which has the weights afterwards.
        task: Its task, with the device and its options.
        after_epoch: Called with the epoch (from 1) and its metrics when these are written down; what it raises ends the
            training. On several devices nobody calls it.
    """
    devices = node.spec.train.devices
    if _is_trained(state):
        state.note("the weights are there already: what is left is to measure them")
    elif devices == 1:
        train(node, state, task, choose_device(task.device), after_epoch=after_epoch)
    else:
        distributed.start(state.folder, devices, task.gpus, task.as_arguments())


def _is_trained(state: NodeState) -> bool:
    """Return True if an earlier attempt wrote the weights, whole; remove torn ones."""
    if not state.weights_file.exists():
        return False
    try:
        load_tensors(state.weights_file, node=state.fingerprint)
    except CheckpointError as error:
        state.note(f"the weights are not used: {error}")
        remove_file(state.weights_file)
        return False
    return True


def tidy(state: NodeState) -> None:
    """Remove the checkpoints, which a finished node does not need, and the temporary files of killed attempts."""
    CheckpointStore(state.folder).clear()
    state.remove_half_written()


def free_memory() -> None:
    """Give a GPU's memory back after a failure: the next attempt, or another worker, may be short of it."""
    memory: Any = torch.cuda
    # Not `is_available`: this must not start CUDA in a process that has not used it.
    if memory.is_initialized():
        memory.empty_cache()


def forget_peak() -> None:
    """Reset the counters that `peak` reads."""
    forget_peak_memory()
    memory: Any = torch.cuda
    if memory.is_initialized():
        memory.reset_peak_memory_stats()


def peak() -> dict[str, int]:
    """Return the peak main memory of this process in bytes, and that of its GPU if it uses one."""
    memory: Any = torch.cuda
    peaks = {"peak_memory": peak_memory_bytes()}
    if memory.is_initialized():
        # Reserved, not allocated: other processes cannot have the memory that torch has reserved.
        peaks["peak_gpu_memory"] = int(memory.max_memory_reserved())
    return peaks


def train(
    node: Node,
    state: NodeState,
    task: Task,
    device: torch.device,
    world: World = _ALONE,
    *,
    after_epoch: AfterEpoch | None = None,
) -> None:
    """Train a network and write its weights; with several processes, the main one writes.

    Raises:
        LeaseError: If another process has taken over, before anything more is written.
    """
    # From here on a node with proposed values is a training like any other.
    node = TrialNode(node.fingerprint, state.training(node))
    model, source = _prepare(node, task, device)
    if world.size > 1:
        model = distributed.with_global_norms(model, device)
    check_owner = _owner_check(state, task)
    attempt = attempts.Attempt.read(state.folder, task.attempt)
    micro_batch = None
    if attempt is not None:
        micro_batch = attempt.micro_batch
    trainer = Trainer(
        node.spec,
        model,
        source,
        CheckpointStore(state.folder, check_owner),
        world=world,
        checkpoint_seconds=task.checkpoint_seconds,
        micro_batch=micro_batch,
    )
    log = state.note if world.is_main else lambda message: None
    epochs_done = trainer.resume(log)
    if world.is_main:
        # Epochs after the checkpoint are trained again and would be in the file twice.
        state.truncate_events(after_step=epochs_done)
    load = LoadMeter(device)
    on_epoch = _epoch_writer(state, node, source, load, check_owner, after_epoch)
    trainer.run(Hooks(on_epoch, _progress_writer(state, node, source, load, check_owner)))
    if world.is_main:
        check_owner()
        # The first weights stay: a process that loses its lease just here must not replace weights already measured.
        save_tensors(state.weights_file, model.state_dict(), node=state.fingerprint, model=node.spec.model, once=True)


def _owner_check(state: NodeState, task: Task) -> Callable[[], None]:
    """Return a function that raises `LeaseError` once another process has the node; without an attempt, a no-op."""
    if not task.attempt:
        return lambda: None
    return partial(attempts.check, state.folder, task.attempt)


def run_network(node: Node, state: NodeState, task: Task) -> dict[str, float]:
    """Measure a network that was trained elsewhere on the test split, and keep its weights as a training does."""
    assert node.file is not None
    model, source = _prepare(node, task, choose_device(task.device))
    state.report_progress(step=0, steps=1)
    if not _is_trained(state):
        state.note(str(load_inspected(node.file, model)))
        _owner_check(state, task)()
        save_tensors(state.weights_file, model.state_dict(), node=state.fingerprint, once=True)
    # Always from the weights file, as after a training: the evaluations measure the same bits.
    load_kept(state.weights_file, model)
    metrics = _measure(model, source, state, task)
    temperatures = {float(layer.temperature) for _, layer in dyconv.dynamic_layers(model) if layer.reads_temperature}
    if len(temperatures) == 1:
        # Its training is not known, and this much of it is: the temperature that it ended with.
        metrics[names.TEMPERATURE] = temperatures.pop()
    return metrics


def run_evaluation(node: Node, state: NodeState, task: Task) -> dict[str, float]:
    """Measure the checkpoint of a trained network on the test split under an intervention."""
    assert node.intervention is not None
    model, source = _prepare(node, task, choose_device(task.device))
    weights_file = NodeState(state.folder.parent / node.checkpoint).weights_file
    if node.file is None:
        load_weights(weights_file, model)
    else:
        load_kept(weights_file, model)
    state.report_progress(step=0, steps=1)
    calibration = calibration_images(source)
    with intervened(model, node.intervention, source.facts, node.spec.seed, calibration) as network:
        measurement = _test(network, source)
    _write_correctness(measurement, source, state, task)
    return measurement.metrics("test", with_classes=True)


def run_cost(node: Node, state: NodeState, task: Task) -> dict[str, float]:
    """Count parameters and multiply-adds, and time one image in turn with the same network with static layers."""
    torch.set_num_threads(1)
    facts, seed = node.spec.data.facts, node.spec.seed
    size = input_size(facts)
    state.report_progress(step=0, steps=1)
    networks = timed_networks(node.spec.model, facts, seed)
    seconds = dyconv.compare_latency(networks, size, repeats=LATENCY_ROUNDS)
    cost = dyconv.cost(networks["network"], size)
    metrics = {
        names.COST_PARAMETERS: float(cost.parameters),
        names.COST_MULTIPLY_ADDS: float(cost.multiply_adds),
        # In milliseconds.
        names.COST_LATENCY: seconds["network"] * 1000,
    }
    if "static" in seconds:
        metrics[names.COST_LATENCY_RATIO] = seconds["network"] / seconds["static"]
    return metrics


def _prepare(node: Node, task: Task, device: torch.device) -> tuple[nn.Module, BatchSource]:
    """Return the untrained network on the device, and its batches."""
    torch.set_num_threads(task.threads)
    keep_freed_memory()
    if device.type == "cuda" and device.index is not None:
        # Libraries that allocate without naming a device must not use the GPU of another worker.
        torch.cuda.set_device(device)
    source = open_source(node.spec, device, LAYOUT)
    model = build_trained_network(node.spec, source.facts)
    return model.to(device).to(memory_format=LAYOUT), source


def _test(model: nn.Module, source: BatchSource) -> Measurement:
    return evaluate(model, source.evaluation("test"), source.facts.num_classes)


def _write_correctness(measurement: Measurement, source: BatchSource, state: NodeState, task: Task) -> None:
    """Write which test images were classified right, unless another process has taken over.

    The file of that process belongs to its own weights, whose bits may differ.
    """
    _owner_check(state, task)()
    content = correctness(measurement, source, "test", state.fingerprint)
    write_json(state.folder / names.CORRECTNESS_FILE, content)


def _measure(model: nn.Module, source: BatchSource, state: NodeState, task: Task) -> dict[str, float]:
    """Measure a trained network on the test split, and its attention there if it is dynamic."""
    is_dynamic = any(dyconv.dynamic_layers(model))
    with dyconv.record_attention(model) if is_dynamic else nullcontext() as attention:
        measurement = _test(model, source)
    _write_correctness(measurement, source, state, task)
    metrics = measurement.metrics("test", with_classes=True)
    if attention is None:
        return metrics
    infos = dyconv.describe_layers(model, input_size(source.facts))
    layers = {info.name: (info.resolution or 0, info.depth) for info in infos}
    profile = attention_profile(attention.branch, measurement.labels, layers, source.class_names)
    write_json(state.folder / names.ATTENTION_FILE, {"fingerprint": state.fingerprint, **profile})
    return metrics | {names.ATTENTION_GAP: attention_gap(profile)}


def _epoch_writer(
    state: NodeState,
    node: Node,
    source: BatchSource,
    load: LoadMeter,
    check_owner: Callable[[], None],
    after_epoch: AfterEpoch | None,
) -> AfterEpoch:
    def write(epoch: int, metrics: dict[str, float]) -> None:
        # Raises before anything is written if another process has the node.
        check_owner()
        state.append_event(epoch, metrics | load.read())
        state.report_progress(
            epoch=epoch,
            epochs=node.spec.train.epochs,
            step=epoch * source.steps_per_epoch,
            steps=node.spec.train.epochs * source.steps_per_epoch,
            loss=metrics["train/loss"],
            val_top1=metrics["val/top1"],
            images_per_second=metrics["train/images_per_second"],
        )
        if after_epoch is not None:
            after_epoch(epoch, metrics)

    return write


def _progress_writer(
    state: NodeState, node: Node, source: BatchSource, load: LoadMeter, check_owner: Callable[[], None]
) -> Callable[[int, int, float, float], None]:
    def write(epoch: int, step: int, loss: float, speed: float) -> None:
        check_owner()
        load.sample()
        # The last epoch's accuracy, which the new report would otherwise drop from the display.
        val_top1 = state.progress().get("val_top1")
        state.report_progress(
            epoch=epoch + 1,
            epochs=node.spec.train.epochs,
            step=epoch * source.steps_per_epoch + step,
            steps=node.spec.train.epochs * source.steps_per_epoch,
            loss=loss,
            val_top1=val_top1,
            images_per_second=speed,
        )

    return write
