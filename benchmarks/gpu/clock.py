"""This module times steps on a GPU or the CPU, measures their memory, and ends the work when its time is over."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import torch

from benchmarks.timing import Step, peak_bytes

_WARMUP = 3
"""Rounds before those that are timed: caches fill and programs are compiled. A step that is not repeated has one."""
_MOST_ROUNDS = 50


class TimeIsUp(BaseException):
    """The budget of the run, or of one case, is used up.

    No `Exception`: a compiler turns those that pass through it into errors of its own.
    """


class Budget:
    """The time that is left: for the whole run, and for the parts that share it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end; negative afterwards."""
        return self._end - self._clock()

    def part(self, share: float) -> Budget:
        """Return the budget of a part that may use a share of what is left; what it leaves is for the parts after."""
        return Budget(max(0.0, self.left) * share, self._clock)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the block when it takes longer: a compiler, for one, does not look at the clock."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    # There is one such clock in a process: somebody else's goes on afterwards.
    others = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *others)


def medians(steps: Mapping[str, Step], device: torch.device, seconds: float) -> dict[str, float]:
    """Return the median seconds of each step; the steps take turns, in rounds that last `seconds` together.

    On a GPU the time is that between two events in its stream: waiting for the CPU counts, as it does in a training.
    """
    for _ in range(_WARMUP if seconds else 1):
        for step in steps.values():
            step()
    started = time.perf_counter()
    measured = [_round(steps, device)]
    while len(measured) < _MOST_ROUNDS and time.perf_counter() - started < seconds:
        measured.append(_round(steps, device))
    return {name: statistics.median(times[name] for times in measured) for name in steps}


def _round(steps: Mapping[str, Step], device: torch.device) -> dict[str, float]:
    """Return the seconds of each step, taken once, in order."""
    if device.type != "cuda":
        times = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name] = time.perf_counter() - start
        return times
    events = {name: [torch.cuda.Event(enable_timing=True) for _ in range(2)] for name in steps}  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    for name, step in steps.items():
        begin, end = events[name]
        begin.record()
        step()
        end.record()
    # Once for the round, so that the CPU runs ahead of the GPU as in a training.
    torch.cuda.synchronize(device)
    return {name: begin.elapsed_time(end) / 1e3 for name, (begin, end) in events.items()}


def peak(step: Step, device: torch.device) -> int:
    """Return the bytes that torch holds at the peak of a step, beyond those at its start."""
    if device.type != "cuda":
        return peak_bytes(step)
    step()
    torch.cuda.synchronize(device)
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - held
