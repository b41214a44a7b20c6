"""Seeds made from what they are for, and a context that draws from one without touching the global generator.

Every random number of this package comes from a seed made here or from a generator its caller chose.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(*parts: object) -> int:
    """Return a 63-bit seed that is a function of `parts` alone; other parts give an unrelated seed."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int | None, purpose: str) -> Iterator[None]:
    """Draw on CPU from a generator seeded for `seed` and `purpose`; put the global state back after.

    None leaves the draws to the global generator as it is.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, purpose))
        yield
