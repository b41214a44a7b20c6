"""Seeds for everything that draws, derived from a trial's one seed and never from global state."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Returns a seed for one purpose, in [0, 2^63).

    Args:
        seed: The trial's seed.
        purpose: What it is for, for example `("dropout", step)`; other words give an independent seed.
    """
    text = "\0".join([str(seed), *(f"{type(word).__name__}:{word}" for word in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
