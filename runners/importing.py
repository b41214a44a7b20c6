"""Shortens the import of large libraries: Python's cycle collector is off during it.

The collector would look again and again at half a million objects that are there to stay: a fifth of the time that
torch and torchvision take to import. It would do so once more when the process ends, for a second, only to free memory
that the system frees anyway.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Run a block of imports without the cycle collector, which ignores the imported objects afterwards, too."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
        # Registered last, so that it runs before the exit handlers of the libraries.
        atexit.unregister(_leave_all)
        atexit.register(_leave_all)


def _leave_all() -> None:
    """Have the interpreter end without a last collection of everything."""
    if "triton" in sys.modules:
        # Triton counts supposed leaks when the interpreter ends, and prints them.
        gc.unfreeze()
    else:
        gc.freeze()
