"""This module measures the load of a training's own process, epoch by epoch: its cores, its memory and its GPU.

The process that trains measures itself, wherever it runs, so that a launch that only follows it need not be on the same
machine. Of a training on several devices it is the main process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from ablations.vocabulary import SYSTEM_PREFIX

CORES = f"{SYSTEM_PREFIX}cores"
"""CPU seconds of the process, all its threads, per second of the epoch."""
MEMORY = f"{SYSTEM_PREFIX}memory_mb"
"""Main memory of the process at the end of the epoch, in megabytes (10⁶ bytes)."""
GPU_MEMORY = f"{SYSTEM_PREFIX}gpu_memory_mb"
"""GPU memory that torch has reserved at the end of the epoch, in megabytes."""
GPU_BUSY = f"{SYSTEM_PREFIX}gpu_busy_percent"
"""Mean over the epoch of the share of time in which the GPU computed, whoever used it."""

_MEGABYTE = 1e6


def gpu_busy(device: torch.device) -> float | None:
    """Return the per cent of the last second or less in which a GPU computed; `None` where nothing tells.

    NVML tells, with the package nvidia-ml-py (`pip install "dyconv-ablations[energy]"`).
    """
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device))
    # No package, no driver that tells, no right to ask: torch raises many kinds, and no load is worth a training.
    except Exception:
        return None


class LoadMeter:
    """The load of this process since it was last read.

    Args:
        device: The device of the training.
        clock: Seconds that only ever grow.
        cpu_clock: CPU seconds of this process.
        busy: The share of time in which the device computes, in per cent.
    """

    def __init__(
        self,
        device: torch.device,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
        busy: Callable[[torch.device], float | None] = gpu_busy,
    ) -> None:
        self._device, self._clock, self._cpu_clock, self._busy = device, clock, cpu_clock, busy
        self._began, self._cpu_began = clock(), cpu_clock()
        self._samples: list[float] = []

    def sample(self) -> None:
        """Look at the GPU, which tells of the last moment alone; to be called about once a second."""
        share = self._busy(self._device)
        if share is not None:
            self._samples.append(share)

    def read(self) -> dict[str, float]:
        """Return the load since the last reading, or since the start, by metric; begin anew."""
        clock_time, cpu_time = self._clock(), self._cpu_clock()
        load = {MEMORY: psutil.Process().memory_info().rss / _MEGABYTE}
        if clock_time > self._began:
            load[CORES] = (cpu_time - self._cpu_began) / (clock_time - self._began)
        if self._samples:
            load[GPU_BUSY] = sum(self._samples) / len(self._samples)
        cuda: Any = torch.cuda
        if self._device.type == "cuda":
            load[GPU_MEMORY] = cuda.memory_reserved(self._device) / _MEGABYTE
        self._began, self._cpu_began, self._samples = clock_time, cpu_time, []
        return load
