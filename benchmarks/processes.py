"""This module measures the processor time of a command, apart from that of processes that outlive it.

Such are the workers of a fork server. A process that nobody waits for is counted nowhere. Here the kernel gives every
orphan to a process that waits for all of them (`PR_SET_CHILD_SUBREAPER`, from sys/prctl.h), which only Linux can.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A script in a process of its own: it adopts every orphan below it until it ends.
_ADOPTER = """
import ctypes, json, os, resource, subprocess, sys

if ctypes.CDLL(None, use_errno=True).prctl(36, 1):
    sys.exit("orphans cannot be counted here")
command = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, own = os.wait4(command.pid, 0)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
every = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([usage.ru_utime + usage.ru_stime for usage in (own, every)]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class ProcessorSeconds:
    """User and system time.

    Attributes:
        own: Of the command, and of processes that it waited for.
        others: Of all processes that it started and did not wait for.
    """

    own: float
    others: float


def processor_seconds(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> ProcessorSeconds:
    """Run a command until it and every process that it started have ended.

    Raises:
        CalledProcessError: If the command fails.
        OSError: If this system is not Linux.
    """
    if sys.platform != "linux":
        raise OSError("only Linux counts the processor time of processes that nobody waits for")
    completed = subprocess.run(
        [sys.executable, "-c", _ADOPTER, *command],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    own_seconds, all_seconds = json.loads(completed.stdout)
    return ProcessorSeconds(own_seconds, all_seconds - own_seconds)
