"""Imports of large libraries in less time: Python's cycle collector stays out of them.

It would look again and again at half a million objects that are there to stay: a fifth of the time that torch and
torchvision take to import.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Runs a block of imports without the cycle collector; it never looks at what they made until the process ends."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
        # triton counts what it believes to be leaks when the interpreter ends, and prints them.
        atexit.register(gc.unfreeze)
