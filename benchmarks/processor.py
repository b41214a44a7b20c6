"""This module names the processor that measurements were made on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def processor() -> str:
    """Return the name of this machine's processor and the vector instructions that torch uses on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{names[0] if names else platform.processor()} ({capability})"
