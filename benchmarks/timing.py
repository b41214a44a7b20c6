"""This module measures time and memory of alternatives, in turn, so that a slow spell of the machine meets all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], object]


def interleaved(steps: Mapping[str, Step], *, rounds: int, warmup: int = 2, quantile: float = 0.5) -> dict[str, float]:
    """Return the median seconds of each step over `rounds` rounds; each round takes every step once, in order.

    A lower `quantile` than the median is for steps of a millisecond on a machine that others use as well: waiting for a
    core takes several times as long as the step, and may happen in half of the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(warmup + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: _quantile(measured[warmup:], quantile) for name, measured in seconds.items()}


def _quantile(seconds: Sequence[float], quantile: float) -> float:
    return float(torch.tensor(seconds, dtype=torch.float64).quantile(quantile))


def median_of(seconds: Sequence[float]) -> float:
    """Return the median of repeated measurements."""
    return statistics.median(seconds)


def peak_bytes(step: Step) -> int:
    """Return the bytes that torch holds on the CPU at the peak of a step, beyond those at its start."""
    step()  # creates what later steps keep, such as gradients
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    # Allocations and releases in the order of time: their running sum is the memory that is held.
    held = peak = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def training_step(model: torch.nn.Module, images: torch.Tensor) -> Step:
    """Return a forward and backward pass as one step; it drops the gradients first, as a training does."""

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        torch.autograd.backward(model(images).logsumexp(1).sum())

    return step
