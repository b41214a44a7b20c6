"""Tells a temperature that was averaged from one that was set, so that an average of networks keeps no mean of it.

`AveragedModel` and timm's `ModelEma` copy a network and write means of all its numbers into the copy, through the
tensors themselves. A temperature is a setting and no weight: a mean of 30 and 1 is the temperature of no network. So a
copy remembers which layer it was made from, and takes that layer's temperature where its own was written to by
somebody else, to a number between those that the original has had.
"""

import weakref
from typing import Any

from torch import Tensor, nn

_ROUNDING = 1e-3
"""How far a mean may leave the range of what it is a mean of, relatively: half precision rounds."""


class Lineage:
    """What a layer knows of its temperature: the last that was set, the range of all, and the layer it is a copy of."""

    def __init__(self) -> None:
        self.owner: weakref.ref[nn.Module] | None = None
        self.source: Lineage | None = None
        self.value = self.lowest = self.highest = float("nan")
        self.version = -1

    def __deepcopy__(self, memo: dict[int, Any]) -> "Lineage":
        """Return what a copy of the layer knows: whose copy it is."""
        copied = Lineage()
        copied.source, copied.value, copied.version = self, self.value, -1
        return copied

    def __reduce__(self) -> tuple[type["Lineage"], tuple[()]]:
        """A layer that was pickled is a copy of nobody."""
        return Lineage, ()

    def set(self, owner: nn.Module, buffer: Tensor, value: float) -> None:
        """Take note of a temperature that was set, as by `set_temperature` or from a checkpoint."""
        if self.owner is None:
            self.owner = weakref.ref(owner)
        self.value, self.version = value, _version(buffer)
        self.lowest = value if self.lowest != self.lowest else min(self.lowest, value)
        self.highest = value if self.highest != self.highest else max(self.highest, value)

    def averaged_from(self, owner: nn.Module, buffer: Tensor) -> float | None:
        """Return the temperature of the original if `buffer` was written to as averaging does, else None."""
        if self.version == _version(buffer) and self.version >= 0:
            return None
        value, source = float(buffer), self.source
        original = source.owner() if source is not None and source.owner is not None else None
        if source is None or original is None or buffer.is_meta:
            return None
        current = float(original._buffers["temperature"])  # type: ignore[arg-type]
        known = [number for number in (source.lowest, source.highest, current, self.value) if number == number]
        within = min(known) * (1 - _ROUNDING) <= value <= max(known) * (1 + _ROUNDING)
        if within and value not in (self.value, current):
            return current
        self.set(owner, buffer, value)
        return None


def _version(buffer: Tensor) -> int:
    """Return how often a tensor was written to; tensors of inference mode do not know."""
    return -1 if buffer.is_inference() else buffer._version
