"""Puts an estimate into words, such as `12 min (9 to 16 min)`. The numbers come from `estimate`."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.invocation import suggested_command
from ablations.launches import duration, range_words
from runners.estimates.estimate import Estimate

_NAMED = 3
_MUCH = 0.9
"""Share of a machine's memory beyond which the words contain a warning."""


def size(count: int) -> str:
    """Return a number of bytes as `350 MB` or `1.2 GB`."""
    if count < 999_500:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 999_500_000 else f"{count / 1e9:.1f} GB"


def estimate_lines(estimate: Estimate, memory: int | None, free: int | None) -> Iterator[str]:
    """Yield lines on a plan: its time, what sharing saves, memory and disk, and warnings if these do not suffice.

    Args:
        estimate: The estimate.
        memory: Bytes of main memory there are, if that is known.
        free: Bytes of disk that are free, if that is known.
    """
    yield from _time_lines(estimate)
    if estimate.wall is None:
        return
    # A saving of less than half a per cent would print two equal durations.
    if estimate.unshared > 1.005 * estimate.shared:
        yield (
            f"Sharing: {duration(estimate.shared)} of computing for the whole plan, where one training per table row "
            f"and seed would take {duration(estimate.unshared)}."
        )
    if estimate.wall.likely:
        yield _needs(estimate, memory, free)
        yield from _warnings(estimate, memory, free)


def _time_lines(estimate: Estimate) -> Iterator[str]:
    workers = f"{estimate.workers} worker{'s' if estimate.workers > 1 else ''}"
    if estimate.wall is not None and estimate.wall.likely:
        kinds = (("trainings", estimate.trainings), ("evaluations", estimate.evaluations), ("counts", estimate.counts))
        shares = ", ".join(f"{name} {duration(seconds)}" for name, seconds in kinds if seconds)
        at_least = "" if estimate.is_complete else "at least "
        yield f"Time: {at_least}{range_words(estimate.wall)} with {workers}; of computing, {shares}."
    if not estimate.is_complete:
        titles = list(dict.fromkeys(estimate.unknown.values()))
        tail = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
        yield (
            f"Time: it cannot be told yet{' for the rest' if estimate.wall else ''}: {len(estimate.unknown)} networks "
            f"have not been timed on this machine with this data and batch size ({'; '.join(titles[:_NAMED])}{tail}). "
            "What has been trained here is known. To time a few steps of each: "
            f"{suggested_command('plan', calibrate=True)}"
        )


def _needs(estimate: Estimate, memory: int | None, free: int | None) -> str:
    items = [f"memory up to {size(estimate.memory)}" + (f" of {size(memory)}" if memory else "")]
    if estimate.gpu_memory:
        items.append(f"of a GPU up to {size(estimate.gpu_memory)} per worker")
    items.append(f"disk about {size(estimate.disk)}" + (f" of {size(free)} free" if free is not None else ""))
    return f"Needs: {', '.join(items)}."


def _warnings(estimate: Estimate, memory: int | None, free: int | None) -> Iterator[str]:
    if memory and estimate.memory > _MUCH * memory:
        fitting = max(1, int(estimate.workers * _MUCH * memory / estimate.memory))
        advice = f"Take --workers {fitting}" if fitting < estimate.workers else "Lower train.micro_batch"
        yield f"Warning: the workers may need {size(estimate.memory)} of {size(memory)} of memory. {advice}."
    if free is not None and estimate.disk > free:
        yield f"Warning: about {size(estimate.disk)} will be written, and {size(free)} are free."
