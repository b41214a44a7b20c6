"""Memory: what torch frees is kept for the next step, and a training that lacks some passes fewer images at once.

glibc hands large blocks back at once, and the next step of a training pays for every page anew: 4 to 9 % of a training
step of a dynamic MobileNetV2, measured in turn in one process. A worker does the same step thousands of times; it
keeps what it once had. Does nothing where the C library is another one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from ablations.spec.parts import TrainSpec
from runners.state.attempts import Attempt

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of parameters, from malloc.h."""
_NEVER = 2**31 - 1

_FEWEST_IMAGES = 8
"""On one device, to which lack of memory brings a training down at most; batch normalisation needs some. With two, a
loss was seen to be no number any more."""


def keep_freed_memory() -> bool:
    """Asks glibc to keep freed blocks; returns whether it will."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


def choose_micro_batch(train: TrainSpec, attempts: Iterable[Attempt], is_trained: bool = False) -> int:
    """Returns how many images a training passes through the network at once.

    What an earlier attempt came down to stays; if the last one ran out of memory it is about halved, where the spec
    allows that and a smaller part is left that batch normalisation can work on.

    Args:
        train: The spec.
        attempts: The attempts at the training so far, the first one first.
        is_trained: Whether they left weights, so that only the measurement can have run out of memory.
    """
    size = train.micro_batch or train.batch_size
    if train.on_out_of_memory == "fail":
        return size
    for attempt in attempts:
        size = min(size, attempt.micro_batch or size)
        if not is_trained and attempt.failure is not None and attempt.failure.get("cause") == "memory":
            size = _smaller(size, train)
    return size


def _smaller(size: int, train: TrainSpec) -> int:
    """Returns the largest part of a batch of at most half the size, or the size if there is none large enough."""
    for smaller in range(size // 2, _FEWEST_IMAGES * train.devices - 1, -1):
        if train.batch_size % smaller == 0 and smaller % train.devices == 0:
            return smaller
    return size
