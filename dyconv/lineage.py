"""`Lineage` tells an averaged temperature from one that was set, so that averaged networks keep no mean of it.

`AveragedModel` and timm's `ModelEma` copy a network and write means of all its numbers into the copy, through the
tensors themselves. A temperature is a setting and no weight: a mean of 30 and 1 is the temperature of no network. So a
copy remembers its original layer. If somebody else wrote a number into the copy's temperature, and the number lies
between temperatures that the original has had, the copy takes the temperature of the original.
"""

import weakref
from typing import Any

from torch import Tensor, nn

_ROUNDING = 1e-3
"""The relative distance by which a mean may leave the range of its terms: half precision rounds."""


class Lineage:
    """The history of a layer's temperature: the last one set, the range of all, and the layer that it is a copy of."""

    def __init__(self) -> None:
        self.owner: weakref.ref[nn.Module] | None = None
        self.source: Lineage | None = None
        self.value = self.lowest = self.highest = float("nan")
        self.version = -1

    def __deepcopy__(self, memo: dict[int, Any]) -> "Lineage":
        """Return the lineage of a copy: its source, and no version, so that its buffer counts as written to."""
        copied = Lineage()
        copied.source, copied.value, copied.version = self, self.value, -1
        return copied

    def __reduce__(self) -> tuple[type["Lineage"], tuple[()]]:
        """Pickle nothing: an unpickled layer is a copy of nobody."""
        return Lineage, ()

    def set(self, owner: nn.Module, buffer: Tensor, value: float) -> None:
        """Record a temperature that was set, by `set_temperature` or from a checkpoint."""
        # Weak, because the layer holds this object, and a copy must not keep its original alive.
        if self.owner is None:
            self.owner = weakref.ref(owner)
        self.value, self.version = value, _version(buffer)
        # NaN is unequal to itself: no temperature was set before.
        if self.lowest != self.lowest:
            self.lowest = self.highest = value
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)

    def averaged_from(self, owner: nn.Module, buffer: Tensor) -> float | None:
        """Return the temperature of the original if `buffer` was written to as averaging does, else None."""
        # The version is unchanged if nobody wrote into the buffer since it was set here.
        if self.version == _version(buffer) and self.version >= 0:
            return None
        value, source = float(buffer), self.source
        if source is None or source.owner is None or buffer.is_meta:
            return None
        original = source.owner()
        if original is None:
            return None
        current = float(original._buffers["temperature"])  # type: ignore[arg-type]
        temperatures = [number for number in (source.lowest, source.highest, current, self.value) if number == number]
        within = min(temperatures) * (1 - _ROUNDING) <= value <= max(temperatures) * (1 + _ROUNDING)
        if within and value not in (self.value, current):
            return current
        self.set(owner, buffer, value)
        return None


def _version(buffer: Tensor) -> int:
    """Return the number of writes into a tensor so far; -1 for tensors of inference mode, which do not count."""
    return -1 if buffer.is_inference() else buffer._version
