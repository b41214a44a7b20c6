"""A worker that is killed while it trains on several devices: what it had started ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runners.workers.task import Task
from tests.runners.bench import Bench
from tests.runners.conformance import is_alive, wait_until

pytestmark = pytest.mark.torture

_WORKER = """
import sys
from runners.workers.task import Task
from runners.workers.trial import run_node
run_node(Task.from_arguments(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_processes_of_a_training_on_two_devices_end_with_their_worker(bench: Bench) -> None:
    node = bench.trial(train__devices=2, train__epochs=1000)
    state = bench.states[node.fingerprint]
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-c", _WORKER, *Task(bench.root, node.fingerprint, "cpu").as_arguments()]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(root)}, cwd=root) as worker:
        wait_until(lambda: bool(state.events()))
        family = [process.pid for process in psutil.Process(worker.pid).children(recursive=True)]
        assert len(family) >= 3, "torchrun and two processes that train"
        worker.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, family)), seconds=10)
    assert not state.is_done
