"""This module keeps freed memory for the next step, and lowers the micro-batch of a training that ran out of memory.

glibc hands large blocks back at once, and the next step of a training pays for every page anew: 4 to 9 % of a training
step of a dynamic MobileNetV2, measured in turn in one process. A worker does the same step thousands of times, so it
keeps freed blocks. With another C library nothing is changed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from ablations.spec.parts import TrainSpec
from runners.state.attempts import Attempt

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Numbers of mallopt's parameters, from malloc.h."""
_NEVER = 2**31 - 1

_FEWEST_IMAGES = 8
"""The smallest number of images per device to which lack of memory lowers a micro-batch; batch normalisation needs
some. With two images, a loss became NaN in an experiment."""


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks; return True if it accepts."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # No block by mmap, which would be unmapped when it is freed, and no trimming of the heap's end.
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


def choose_micro_batch(train: TrainSpec, attempts: Iterable[Attempt], is_trained: bool = False) -> int:
    """Return the number of images that a training passes through the network at once.

    The lowest number of earlier attempts stays. After each attempt that ran out of memory it is about halved, where
    the spec allows that and batch normalisation can work with the smaller number.

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
    """Return the largest divisor of the batch size of at most `size` / 2, or `size` if none is large enough."""
    for smaller in range(size // 2, _FEWEST_IMAGES * train.devices - 1, -1):
        if train.batch_size % smaller == 0 and smaller % train.devices == 0:
            return smaller
    return size
