"""This module defines temperature schedules: the softmax temperature as a function of the fractional epoch.

A trainer calls `schedule(step / steps_per_epoch)` before each step and hands the value to `set_temperature`. Nothing
here knows networks.
"""

import math
from dataclasses import dataclass

from dyconv.base import checked_temperature
from dyconv.errors import ArgumentError


@dataclass(frozen=True)
class ConstantTemperature:
    """The same temperature throughout.

    Raises:
        ArgumentError: the value is not a positive number, or the schedule is called with a negative epoch.
    """

    value: float

    def __post_init__(self) -> None:
        checked_temperature(self.value)

    def __call__(self, epoch: float) -> float:
        _checked_epoch(epoch)
        return float(self.value)


@dataclass(frozen=True)
class LinearAnnealing:
    """From `start` to `end` in a straight line over the first `epochs` epochs, then `end`.

    Raises:
        ArgumentError: a temperature or number of epochs that is not positive, or a call with a negative epoch.

    Source: Chen et al. 2020, section 3.3: 30 to 1 over the first 10 epochs.
    """

    start: float = 30.0
    end: float = 1.0
    epochs: float = 10.0

    def __post_init__(self) -> None:
        checked_temperature(self.start)
        checked_temperature(self.end)
        if not 0 < self.epochs < math.inf:
            raise ArgumentError(f"annealing needs a positive number of epochs, got {self.epochs!r}")

    def __call__(self, epoch: float) -> float:
        progress = min(1.0, _checked_epoch(epoch) / self.epochs)
        # `end` exactly: start + (end - start) could round.
        return float(self.end) if progress == 1.0 else self.start + (self.end - self.start) * progress


def _checked_epoch(epoch: float) -> float:
    if not 0 <= epoch < math.inf:
        raise ArgumentError(f"an epoch is counted from 0, got {epoch!r}")
    return epoch
