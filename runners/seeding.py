"""Seeds for everything that draws, derived from what they are for and never from global state.

A 64-bit key names seed and purpose; the counter-based draws of `runners.data.hashing` take it as it is, torch's
generators take the seed made of it. torchvision's transforms and dropout know only the global generator: it is lent
to them for a block and put back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_CPU = torch.device("cpu")


def derive_key(*parts: int | str) -> int:
    """Returns a 64-bit key that names `parts`; other parts, or the same in another order, give another key."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Returns a seed for one purpose, in [0, 2^63).

    Args:
        seed: The trial's seed.
        purpose: What it is for, for example `("dropout", step)`; other words give an independent seed.
    """
    return derive_key(seed, *purpose) >> 1


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """Runs a block with the global generators of the CPU and of `device` seeded, and puts their states back."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed would format a traceback each time for a GPU that nobody uses.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
