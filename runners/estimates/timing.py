"""Times a few steps of a training, or a round of a latency measurement. Only workers import it, as it needs torch."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import dyconv
from ablations.spec.trial import TrialSpec
from runners.estimates.estimate import Speed
from runners.hardware import forget_peak_memory, peak_memory_bytes
from runners.training.checkpoint import CheckpointStore
from runners.training.network import build_network, input_size, open_source, timed_networks
from runners.training.trainer import Trainer
from runners.workers.measure import LATENCY_ROUNDS, LAYOUT, choose_device

_TIMED_SECONDS = 0.6
"""The longest that the steps of a network are timed."""
_FEWEST_STEPS, _MOST_STEPS, _WARM_UP_STEPS = 3, 12, 2
# A step that would take longer is timed with fewer images. The speed of a core is a low guess that only decides that.
_LONG_STEP_SECONDS, _FEW_IMAGES, _MULTIPLY_ADDS_PER_SECOND = 1.0, 8, 5e9


def time_count(spec: TrialSpec) -> tuple[str, Speed]:
    """Time one round of latency measurement and scale it to all rounds."""
    facts, size, started = spec.data.facts, input_size(spec.data.facts), time.monotonic()
    # The measurement compares with the static network, so that is timed, too.
    networks = timed_networks(spec.model, facts, spec.seed)
    dyconv.cost(networks["network"], size)
    building_seconds = time.monotonic() - started
    round_seconds = sum(dyconv.compare_latency(networks, size, repeats=1, warmup=1).values())
    seconds = building_seconds + LATENCY_ROUNDS * round_seconds
    return "cpu", Speed(setup_seconds=seconds, memory_bytes=peak_memory_bytes())


def time_training(spec: TrialSpec, device_option: str, threads: int) -> tuple[str, Speed]:
    """Time a few steps of a training on one device."""
    torch.set_num_threads(threads)
    forget_peak_memory()
    device, started = choose_device(device_option), time.monotonic()
    model = build_network(spec.model, spec.data.facts, spec.seed)
    images = spec.train.batch_size
    if device.type == "cpu":
        multiply_adds = dyconv.cost(model, input_size(spec.data.facts)).multiply_adds
        images = images_per_step(images, multiply_adds, threads)
    # One device without gradient accumulation, whatever the training uses.
    train = spec.train.model_copy(update={"batch_size": images, "micro_batch": None, "devices": 1})
    timed_spec = spec.model_copy(update={"train": train})
    source = open_source(timed_spec, device, LAYOUT)
    model = model.to(device).to(memory_format=LAYOUT)
    setup_seconds = time.monotonic() - started
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(timed_spec, model, source, CheckpointStore(Path(folder)))
        times = timed_steps(trainer.rehearse())
    device_name, gpu_memory_bytes, spread = device.type, 0, 0.0
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
        gpu_memory_bytes = torch.cuda.max_memory_reserved(device)
    if len(times) > 1:
        # The relative error of the mean, which scatters less than the steps.
        spread = statistics.stdev(map(math.log, times)) / math.sqrt(len(times))
    return device_name, Speed(
        # Each device takes its share of the batch, and time per image is assumed not to depend on their number.
        step_seconds=statistics.median(times) * spec.train.batch_size / (images * spec.train.devices),
        setup_seconds=setup_seconds,
        memory_bytes=peak_memory_bytes(),
        gpu_memory_bytes=gpu_memory_bytes,
        weights_bytes=sum(tensor.nbytes for tensor in model.state_dict().values()),
        spread=spread,
    )


def images_per_step(batch_size: int, multiply_adds: int, threads: int) -> int:
    """Return the number of images of a batch that are timed on a CPU: fewer than all if a step would be long."""
    # Forward, backward to the inputs and backward to the weights.
    image_seconds = 3 * multiply_adds / (_MULTIPLY_ADDS_PER_SECOND * threads)
    while batch_size >= 2 * _FEW_IMAGES and batch_size * image_seconds > _LONG_STEP_SECONDS:
        batch_size //= 2
    return batch_size


def timed_steps(step_seconds: Iterator[float]) -> list[float]:
    """Take the times of steps until there are enough; return them without the warm-up if there are more."""
    times: list[float] = []
    for seconds in step_seconds:
        times.append(seconds)
        timed = times[_WARM_UP_STEPS:]
        is_over = len(timed) >= _FEWEST_STEPS and sum(timed) > _TIMED_SECONDS
        # The last condition bounds a slow warm-up, in which algorithms are chosen.
        if is_over or len(timed) >= _MOST_STEPS or sum(times) > 4 * _TIMED_SECONDS:
            break
    return times[min(_WARM_UP_STEPS, len(times) - 1) :]
