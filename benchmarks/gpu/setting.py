"""This module holds what a run measures on: the device, its dtype, and how large and how long cases are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Setting:
    """The surroundings of every case.

    Attributes:
        device: Where tensors are.
        tiny: True for a dry run, in which every case is small and nothing is repeated for a median.
        seconds: Seconds that the rounds of one case last.
    """

    device: torch.device
    tiny: bool
    seconds: float = 1.0

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in bfloat16 as a training in mixed precision does."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def images(self, *size: int) -> Tensor:
        """Return random channels-last images (B, C, H, W) on the device."""
        return torch.randn(size).to(self.device).contiguous(memory_format=torch.channels_last)


def on_gpu() -> Setting:
    """Return the setting of a measurement on the first GPU."""
    return Setting(torch.device("cuda", 0), tiny=False)


def on_cpu() -> Setting:
    """Return the setting of a dry run."""
    return Setting(torch.device("cpu"), tiny=True, seconds=0.0)
