"""`compare_latency`: how long networks take for one image on this machine's CPU, timed in turn in one process.

In turn, because clock speed and neighbours change over seconds: each round times every network once, so that a slow
spell meets all of them. A measurement, and as such not the same twice; multiply-adds are `cost`'s business.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from dyconv.errors import ArgumentError
from dyconv.networks.description import undisturbed, zero_images


def latency(
    model: nn.Module, input_size: tuple[int, int, int], *, repeats: int = 30, warmup: int = 5, threads: int = 1
) -> float:
    """Return the median seconds that `model` takes for one image of `input_size` (C, H, W); see `compare_latency`."""
    return compare_latency({"": model}, input_size, repeats=repeats, warmup=warmup, threads=threads)[""]


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

    After `warmup` rounds, each of `repeats` rounds times every network once, in the given order. They run in
    evaluation mode without gradient, with `threads` threads, and are left as they were, as is the number of threads.

    Raises:
        ArgumentError: no model, or a number of rounds or threads that cannot work.
        ShapeError: `input_size` is not three positive numbers.
        AggregationError: a network that shuffles across images has no other image in a batch of one.
    """
    if not models:
        raise ArgumentError("there is no model to time")
    for name, value, least in (("repeats", repeats, 1), ("warmup", warmup, 0), ("threads", threads, 1)):
        if value < least:
            raise ArgumentError(f"{name} must be at least {least}, got {value}")
    images = {name: zero_images(model, input_size, 1) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with ExitStack() as stack:
        stack.enter_context(_threads(threads))
        for model in models.values():
            stack.enter_context(undisturbed(model))
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
