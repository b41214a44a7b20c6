"""Times a few steps of a network in a worker; `forecast` estimates its trainings and evaluations from them.

Warm-up is left out, as algorithms are chosen in it. A step that would take long is timed with fewer images and scaled
up. Nothing is written but the time. Torch is imported only when something is measured.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ablations.datasets.facts import DatasetFacts
from ablations.planning.lint import network_of
from ablations.planning.nodes import CostNode, Node
from ablations.spec.parts import ModelSpec
from ablations.spec.trial import TrialSpec
from runners.estimates.estimate import Speed
from runners.hardware import forget_peak_memory, peak_memory_bytes
from runners.plugins import load_plugins

SECONDS = 0.6
"""The longest that the steps of a network are timed."""

_FEWEST, _MOST, _WARM_UP = 3, 12, 2
_ENOUGH, _CERTAIN = 5, 0.03
"""Timing ends after this many steps if the relative error of their mean is below this share.

Other causes make an estimate wrong by more.
"""
_LONG_STEP = 1.0
_FEW_IMAGES = 8
_MULTIPLY_ADDS_PER_SECOND = 5e9
"""Speed of one core, estimated low. It only decides when fewer images are timed."""
_PASSES = 3
"""A training pass counts three evaluation passes."""


@dataclass(frozen=True)
class Calibrated:
    """A worker's measurement of one node's work.

    Attributes:
        key: See `runners.estimates.estimate.speed_key`.
        device: `cpu`, or the model of the GPU.
        speed: The times; all zero if timing failed, which the launch itself reports better.
        parameters: Of the network.
        network: See `ablations.planning.lint.network_of`.
    """

    key: str
    device: str
    speed: Speed
    parameters: int
    network: str


def calibrate(key: str, node: Node, device: str, threads: int, plugins: tuple[str, ...]) -> Calibrated | str:
    """Return the speed of a node's network on this machine, or an error message; a worker can send either."""
    load_plugins(plugins)
    try:
        return _calibrate_cost(key, node) if isinstance(node, CostNode) else _calibrate(key, node.spec, device, threads)
    except Exception as error:
        # A network of a plug-in may raise anything, and its exception need not be picklable.
        return f"{type(error).__name__}: {error}"


def count_parameters(spec: TrialSpec, plugins: tuple[str, ...]) -> int:
    """Return the number of parameters of a network, or 0 if it cannot be built."""
    load_plugins(plugins)
    from runners.training.network import build_network

    try:
        return _parameters(build_network(spec.model, spec.data.facts, spec.seed))
    except Exception:
        return 0


def describe_conversion(model: ModelSpec, facts: DatasetFacts) -> str:
    """Return a description of the dynamic layers of a network, or of why it cannot be built."""
    import dyconv
    from runners.training.network import build_network

    try:
        report = dyconv.conversion_report(build_network(model, facts, seed=0))
    except Exception as error:
        return f"It cannot be built: {error}"
    return "" if report is None else str(report)


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _calibrate_cost(key: str, node: CostNode) -> Calibrated:
    """Time one round of latency measurement and scale it to all rounds."""
    import dyconv
    from runners.training.network import as_static, build_network, input_size
    from runners.workers.measure import LATENCY_ROUNDS

    facts, seed = node.spec.data.facts, node.spec.seed
    started = time.monotonic()
    # The measurement compares with the static network, so that is timed, too.
    networks = {name: build_network(spec, facts, seed) for name, spec in _pair(node, as_static).items()}
    dyconv.cost(networks["own"], input_size(facts))
    setup = time.monotonic() - started
    once = dyconv.compare_latency(networks, input_size(facts), repeats=1, warmup=1)
    seconds = setup + LATENCY_ROUNDS * sum(once.values())
    speed = Speed(setup=seconds, memory=peak_memory_bytes())
    return Calibrated(key, "cpu", speed, _parameters(networks["own"]), network_of(node.spec))


def _pair(node: CostNode, as_static: Callable[[Any], Any]) -> dict[str, Any]:
    return {"own": node.spec.model, "static": as_static(node.spec.model)}


def _calibrate(key: str, spec: TrialSpec, device: str, threads: int) -> Calibrated:
    import torch

    import dyconv
    from runners.training.network import build_network, input_size, open_source
    from runners.workers.measure import LAYOUT, choose_device

    torch.set_num_threads(threads)
    forget_peak_memory()
    torch_device = choose_device(device)
    started = time.monotonic()
    model = build_network(spec.model, spec.data.facts, spec.seed)
    # Fewer images if a step would take long; one device without gradient accumulation, whatever the training uses.
    images = _images_per_step(
        spec, dyconv.cost(model, input_size(spec.data.facts)).multiply_adds, threads, torch_device.type
    )
    timed_spec = spec.model_copy(
        update={"train": spec.train.model_copy(update={"batch_size": images, "micro_batch": None, "devices": 1})}
    )
    source = open_source(timed_spec, torch_device, LAYOUT)
    model = model.to(torch_device).to(memory_format=LAYOUT)
    setup = time.monotonic() - started
    steps, evaluations = _time(timed_spec, model, source)
    # Each device takes its share of the batch, and time per image is assumed not to depend on their number.
    scale = spec.train.batch_size / (images * spec.train.devices)
    speed = Speed(
        step=statistics.median(steps) * scale,
        image=statistics.median(evaluations),
        setup=setup,
        spread=_spread(steps),
        memory=peak_memory_bytes(),
        gpu_memory=torch.cuda.max_memory_reserved(torch_device) if torch_device.type == "cuda" else 0,
        weights=sum(tensor.nbytes for tensor in model.state_dict().values()),
    )
    return Calibrated(key, device_name(torch_device), speed, _parameters(model), network_of(spec))


def device_name(place: Any) -> str:
    """Return the kind of a torch device that times belong to: `cpu` or the model of the GPU."""
    import torch

    return torch.cuda.get_device_name(place) if place.type == "cuda" else str(place.type)


def _images_per_step(spec: TrialSpec, multiply_adds: int, threads: int, kind: str) -> int:
    """Return the number of images of a batch that are timed: all on a GPU, fewer on a CPU if a step would be long."""
    images = spec.train.batch_size
    if kind != "cpu":
        return images
    per_image = _PASSES * multiply_adds / (_MULTIPLY_ADDS_PER_SECOND * threads)
    while images >= 2 * _FEW_IMAGES and images * per_image > _LONG_STEP:
        images //= 2
    return images


def _time(spec: TrialSpec, model: Any, source: Any) -> tuple[list[float], list[float]]:
    """Return seconds per training step, and seconds per image of evaluation batches."""
    import dyconv
    from runners.training.checkpoint import CheckpointStore
    from runners.training.evaluation import evaluate
    from runners.training.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(spec, model, source, CheckpointStore(Path(folder)))
        steps = _until_known(trainer.rehearse())
    # A training records the attention of dynamic layers when it measures, and that takes time.
    recording = dyconv.record_attention(model) if any(dyconv.dynamic_layers(model)) else nullcontext()
    evaluations = []
    with recording:
        for images, labels in islice(source.evaluation("validation"), 1 + _FEWEST):
            started = time.monotonic()
            evaluate(model, [(images, labels)], source.facts.num_classes)
            evaluations.append((time.monotonic() - started) / len(labels))
            if sum(evaluations) * len(labels) > SECONDS:
                break
    # The first batch warms up.
    return steps, evaluations[1:] or evaluations


def _until_known(seconds: Iterator[float]) -> list[float]:
    """Return the times of steps until their mean is certain or time is up, without the warm-up if there are more."""
    times: list[float] = []
    for passed in seconds:
        times.append(passed)
        timed = times[_WARM_UP:]
        if len(timed) >= _ENOUGH and _spread(timed) < _CERTAIN:
            break
        # The last condition bounds a slow warm-up, which is not part of `timed`.
        if len(timed) >= _MOST or (len(timed) >= _FEWEST and sum(timed) > SECONDS) or sum(times) > 4 * SECONDS:
            break
    return times[min(_WARM_UP, len(times) - 1) :]


def _spread(seconds: list[float]) -> float:
    """Return the standard error of the mean logarithm of some times, which is the relative error of their mean."""
    return statistics.stdev(map(math.log, seconds)) / math.sqrt(len(seconds)) if len(seconds) > 1 else 0.0
