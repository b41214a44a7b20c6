"""Freed memory stays with the process: seen from outside, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FREED = """
import ctypes, resource, sys
from pathlib import Path
from runners.workers.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
block = libc.malloc(200 * 2**20)
ctypes.memset(block, 1, 200 * 2**20)
libc.free(block)
print(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20)
"""


def resident(how: str) -> int:
    """MiB that a process holds after it has used and freed 200."""
    done = subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, cwd=ROOT, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_freed_memory_is_kept() -> None:
    assert resident("keep") > 200
    assert resident("usual") < 100
