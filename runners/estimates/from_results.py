"""Derives the speed of this machine from finished trainings, evaluations and counts. Reads state folders alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ablations import vocabulary as names
from ablations.planning.lint import network_of
from ablations.planning.nodes import CostNode, EvaluationNode, Node, ProposedNode
from ablations.planning.plan import Plan
from ablations.spec.trial import TrialSpec
from runners.estimates.estimate import Speed, measured_images, speed_key, training_steps
from runners.estimates.measurements import Load, Measurement
from runners.hardware import Machine
from runners.state.nodes import NodeState, StateStore

_MOST_ALIKE = 3
"""The most nodes with the same work that a launch learns from; more would tell nothing new."""

Own = tuple[Node, NodeState]


def own_nodes(plan: Plan, states: StateStore, launch: str) -> list[Own]:
    """Return the missing nodes of a plan that one launch has carried out on this machine at the first attempt."""
    pairs = ((node, states[node.fingerprint]) for node in plan.missing)
    return [(node, state) for node, state in pairs if _is_own(state, launch)]


def _is_own(state: NodeState, launch: str) -> bool:
    attempts = state.attempts()
    # A later attempt went on from a checkpoint: its seconds are not those of the whole training.
    return state.is_done and len(attempts) == 1 and attempts[0].launch == launch and attempts[0].process.is_here


def learn(own: Iterable[Own], machine: Machine, load: Load) -> dict[str, list[Measurement]]:
    """Return measurements by the key of their work.

    Args:
        own: Nodes that were carried out on this machine.
        machine: This machine.
        load: The tasks that ran at once.
    """
    measurements: dict[str, list[Measurement]] = {}
    kinds: dict[tuple[str, str], int] = {}
    for node, state in own:
        kind = (speed_key(node), node.kind)
        result = state.result()
        if kinds.get(kind, 0) >= _MOST_ALIKE or result is None:
            continue
        speed = _speed(node, state, result)
        if speed is not None:
            kinds[kind] = kinds.get(kind, 0) + 1
            measurements.setdefault(kind[0], []).append(_measurement(node, speed, result, machine, load))
    return measurements


def _measurement(node: Node, speed: Speed, result: dict[str, Any], machine: Machine, load: Load) -> Measurement:
    # Costs are counted and timed on the CPU, whatever trainings use.
    under = Load("cpu", load.workers, load.threads) if isinstance(node, CostNode) else load
    counted = int(result["metrics"].get(names.COST_PARAMETERS, 0))
    network = network_of(node.spec) if counted else ""
    time = float(result.get("time", 0.0))
    return Measurement("learned", time, machine.version, under, machine.host, speed, counted, network)


def _speed(node: Node, state: NodeState, result: dict[str, Any]) -> Speed | None:
    seconds, memory = float(result["seconds"]), int(result.get("peak_memory", 0))
    gpu_memory = int(result.get("peak_gpu_memory", 0))
    if isinstance(node, ProposedNode):
        # It may have been stopped early, is not measured on the test split, and may be another network than planned.
        return None
    if isinstance(node, CostNode):
        return Speed(setup=seconds, memory=memory)
    if isinstance(node, EvaluationNode):
        images = node.spec.data.test_images or node.spec.data.facts.test_images
        return Speed(evaluation_image=seconds / images, memory=memory, gpu_memory=gpu_memory)
    # A training that fell back to a smaller micro-batch for lack of memory does not show the speed of the planned one.
    size = result.get("micro_batch") or 0
    if size != (node.spec.train.micro_batch or node.spec.train.batch_size):
        return None
    epochs = _epochs(node.spec, state)
    if len(epochs) != node.spec.train.epochs:
        return None
    weights = state.weights_file.stat().st_size if state.weights_file.exists() else 0
    return _training(node.spec, epochs, seconds, Speed(memory=memory, gpu_memory=gpu_memory, weights=weights))


@dataclass(frozen=True)
class _Epoch:
    """Seconds of an epoch's steps, and when it had been measured."""

    training: float
    ended: float


def _epochs(spec: TrialSpec, state: NodeState) -> list[_Epoch]:
    per_epoch = training_steps(spec) // spec.train.epochs * spec.train.batch_size
    return [
        # Events are timed in milliseconds.
        _Epoch(per_epoch / event["metrics"][names.TRAIN_IMAGES_PER_SECOND], event["time"] / 1000)
        for event in state.events()
        if event["metrics"].get(names.TRAIN_IMAGES_PER_SECOND)
    ]


def _training(spec: TrialSpec, epochs: list[_Epoch], seconds: float, known: Speed) -> Speed:
    """Return the speed of a whole training from its epochs and total seconds.

    The time beside training steps went into measuring, and into beginning and end. The time between the ends of two
    epochs, less the training steps of the later one, is the measurement after the later one.
    """
    training = sum(epoch.training for epoch in epochs)
    remainder, images = max(0.0, seconds - training), measured_images(spec)
    validation = (images - (spec.data.test_images or spec.data.facts.test_images)) // spec.train.epochs
    between = [max(0.0, later.ended - earlier.ended - later.training) for earlier, later in pairwise(epochs)]
    # Times are kept to the millisecond; too short a measurement says nothing.
    per_image = statistics.median(between) / validation if between and validation else 0.0
    # Set-up cannot be negative: measuring takes at most all of the remainder.
    per_image = min(per_image, remainder / images) or remainder / images
    steps = training_steps(spec) // spec.train.epochs
    logs = [math.log(epoch.training) for epoch in epochs if epoch.training > 0]
    return Speed(
        step=training / (steps * len(epochs)),
        image=per_image,
        setup=remainder - images * per_image,
        spread=statistics.stdev(logs) if len(logs) > 2 else 0.0,
        memory=known.memory,
        gpu_memory=known.gpu_memory,
        weights=known.weights,
    )
