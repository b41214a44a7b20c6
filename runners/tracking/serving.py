"""This module runs MLflow's server as a group of processes that ends as a whole, however its starter ends.

This file is also the first process of that group. It reads from a pipe whose other end its parent holds: when that
closes, also because the parent was killed, it kills the group. MLflow starts the other processes and would leave them
behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 5.0


class EndedError(Exception):
    """The server was told to end by a signal."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def serve(uri: str, port: int) -> int:
    """Run MLflow's UI on a store until it ends or this process is told to end; return the exit code.

    The store's address goes by a variable: arguments of a process can be read by every user of the machine.

    Args:
        port: Port on 127.0.0.1.
    """
    # -P: the modules beside this file must not stand in for Python's own.
    # One worker, which has threads for requests: MLflow's four would each import it again for a single reader.
    command = [sys.executable, "-P", __file__, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # MLflow's queue of jobs, which nothing here uses, would be seven more processes that import MLflow.
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    handlers: dict[int, Any] = {number: signal.signal(number, _raise) for number in _SIGNALS}
    process = None
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=variables, start_new_session=True)
        return process.wait()
    except EndedError as ended:
        # As a shell reports a process that a signal ended.
        return 128 + ended.number
    finally:
        # A second signal must not keep the rest of the group alive.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if process is not None:
            _end_group(process)
        for name, handler in handlers.items():
            signal.signal(name, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise EndedError(number)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its group: SIGTERM first, SIGKILL after a grace period."""
    _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while _is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _is_alive(process: subprocess.Popen[bytes]) -> bool:
    """Return True if a process of the group still runs; a zombie does not."""
    import psutil

    if process.poll() is None:
        return True
    for member in psutil.process_iter():
        try:
            if os.getpgid(member.pid) == process.pid and member.status() != psutil.STATUS_ZOMBIE:
                return True
        except (OSError, psutil.Error):
            continue
    return False


def _kill_group_at_end(read: Callable[[], bytes]) -> None:
    read()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the command line of MLflow's UI with the arguments of this process."""
    parent_pipe = os.dup(sys.stdin.fileno())
    # The copy is not inherited, and stdin no longer leads to the pipe: no child can read from it or hold it.
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    threading.Thread(target=_kill_group_at_end, args=(lambda: os.read(parent_pipe, 1),), daemon=True).start()
    from mlflow.cli import cli

    cli(["ui", *sys.argv[1:]])


if __name__ == "__main__":
    main()
