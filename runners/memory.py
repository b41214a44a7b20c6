"""Memory that torch frees is kept for the next step instead of given back to the system.

glibc hands large blocks back at once, and the next step of a training pays for every page anew: 4 to 9 % of a training
step of a dynamic MobileNetV2, measured in turn in one process. A worker does the same step thousands of times; it
keeps what it once had. Does nothing where the C library is another one.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of parameters, from malloc.h."""
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Asks glibc to keep freed blocks; returns whether it will."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
