"""This module derives seeds from their purpose, and draws from a seed without touching the global generator.

Every random number of this package comes from a seed made here or from a generator its caller chose.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on `parts` alone; different parts give unrelated seeds."""
    # A hash of the text: Python's own `hash` of a string differs from process to process.
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int | None, purpose: str) -> Iterator[None]:
    """Draw on the CPU from a generator seeded by `seed` and `purpose`; restore the global state afterwards.

    With a seed of None, draws come from the global generator.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, purpose))
        yield
