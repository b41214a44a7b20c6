"""Identifies a process on a machine, and tells it from a later one, or one elsewhere, with the same number.

It also lets a process end with the one that started it, however that one ends. A worker that is killed cannot tidy up:
processes that it had started would go on, and train beside the next attempt.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

_PROC = Path("/proc")
_UNKNOWN = "?"


@dataclass(frozen=True)
class Process:
    """A process; with the defaults, an unknown one.

    Attributes:
        host: The name of its machine, for people.
        machine: The space of process numbers: the machine since its last start, and the container.
        started: Its start time, by a clock of the machine that cannot be set.
    """

    host: str = ""
    machine: str = ""
    pid: Annotated[int, Field(ge=0, lt=2**31)] = 0
    started: str = ""

    @classmethod
    def current(cls) -> Process:
        """Return this process."""
        return cls(socket.gethostname(), _machine(), os.getpid(), _started(os.getpid()) or _UNKNOWN)

    @property
    def is_here(self) -> bool:
        """Whether it is or was a process of this machine."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this machine and has ended; of other machines nothing is known."""
        if not self.is_here:
            return False
        started = _started(self.pid)
        return started is None or (_UNKNOWN not in (started, self.started) and started != self.started)


@cache
def _machine() -> str:
    # The boot id tells restarts apart, the namespace of process numbers tells containers apart.
    return "/".join([socket.gethostname(), _boot(), _container()])


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _container() -> str:
    try:
        return os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Return the start time of a process of this machine, `?` if it is hidden, `None` if there is no such process."""
    if sys.platform != "linux":
        return _started_by_psutil(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        # The name in brackets may contain anything; state and start, in ticks since the machine's, come after it.
        fields = stat.rpartition(")")[2].split()
        state, start = fields[0], fields[19]
    except (OSError, IndexError):
        return _UNKNOWN if _exists(pid) else None
    # A zombie has ended: its parent has only not noticed yet.
    return None if state in "ZX" else start


def _exists(pid: int) -> bool:
    """Return True if there is such a process, even a hidden one of another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started_by_psutil(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return _UNKNOWN


_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of sys/prctl.h."""


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. Only Linux can do that."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent ended before the kernel was asked, so no signal will come.
        os.kill(os.getpid(), signal.SIGKILL)
