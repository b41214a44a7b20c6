"""Processes that end with the one that started them, however that one ends.

A worker that is killed cannot tidy up; what it had started would go on, and train beside the next attempt.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_SET_DEATH_SIGNAL = 1
"""From sys/prctl.h."""


def die_with_parent() -> None:
    """Has the kernel kill this process when the process that started it ends; only Linux can."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended in between.
        os.kill(os.getpid(), signal.SIGKILL)
