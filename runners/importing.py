"""Imports of large libraries in less time: Python's cycle collector stays out of them.

It would look again and again at half a million objects that are there to stay: a fifth of the time that torch and
torchvision take to import. It would do so once more when the process ends, for a second, only to free what ends anyway.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Runs a block of imports without the cycle collector; it never looks at what they made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
        atexit.unregister(_leave_all)
        atexit.register(_leave_all)


def _leave_all() -> None:
    """Has the interpreter end without a last collection of everything."""
    if "triton" in sys.modules:
        # It counts what it believes to be leaks when the interpreter ends, and prints them.
        gc.unfreeze()
    else:
        gc.freeze()
