"""This module measures the time that networks take for one image on this machine's CPU.

A measurement is not the same twice: clock speed and neighbours change over seconds. So the networks are timed in turn
and in one process, once per round, and a slow spell meets all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from dyconv.errors import ArgumentError
from dyconv.networks.dry_run import undisturbed, zero_images


def compare_latency(
    models: Mapping[str, nn.Module],
    input_size: tuple[int, int, int],
    *,
    repeats: int = 30,
    warmup: int = 5,
    threads: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return per name the median seconds that each of `models` takes for one image of `input_size` (C, H, W).

    After `warmup` rounds, each of `repeats` rounds times every network once, in the given order. The networks run in
    evaluation mode without gradient, with `threads` threads. They and the number of threads stay as they were.

    Raises:
        ArgumentError: no model, or a number of rounds or threads that cannot work.
        ShapeError: `input_size` is not three positive numbers.
        AggregationError: a network that shuffles across images has no other image in a batch of one.
    """
    if not models:
        raise ArgumentError("there is no model to time")
    for name, value, minimum in (("repeats", repeats, 1), ("warmup", warmup, 0), ("threads", threads, 1)):
        if value < minimum:
            raise ArgumentError(f"{name} must be at least {minimum}, got {value}")
    images = {name: zero_images(model, input_size, 1) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with ExitStack() as stack:
        stack.enter_context(_threads(threads))
        for model in models.values():
            stack.enter_context(undisturbed(model))
        # Every network once per round, so that a machine which slows down meanwhile slows all of them.
        for _ in range(warmup + repeats):
            for name, model in models.items():
                start = clock()
                model(images[name])
                seconds[name].append(clock() - start)
    return {name: statistics.median(measured[warmup:]) for name, measured in seconds.items()}


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
