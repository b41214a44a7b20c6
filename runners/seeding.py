"""Derives the seed of everything random from its purpose, never from global state.

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
    """Return a 64-bit key of `parts`; other parts, or the same in another order, give another key."""
    # Types and a separator keep ("1", 2), (1, "2") and (12,) apart.
    text = "\x1f".join(f"{type(item).__name__}:{item}" for item in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for one purpose, in [0, 2^63).

    Args:
        seed: The trial's seed.
        purpose: The use of the seed, for example `("dropout", step)`; another purpose gives an independent seed.
    """
    return derive_key(seed, *purpose) >> 1


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """Run a block with the global generators of the CPU and of `device` seeded, and put their states back."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed would format a traceback each time for a GPU that is not used.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
