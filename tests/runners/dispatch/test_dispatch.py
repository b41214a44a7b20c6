"""The dispatchers of one machine: the suite that all dispatchers pass, and what only worker processes promise."""

from __future__ import annotations

import errno
import multiprocessing.synchronize
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from ablations.errors import DispatchError, OptionError
from runners.dispatch import Dispatcher, DispatchSettings, make_dispatcher, processes
from tests.runners.conformance import (
    FINE,
    HANGS,
    TAKES_TIME,
    WORKERS,
    Conformance,
    Work,
    collect,
    is_alive,
    metrics_of,
    most_at_once,
    runs_of,
    wait_until,
)


class TestInline(Conformance):
    """One after the other, in this process."""

    has_workers = False

    @classmethod
    def make(cls) -> Dispatcher:
        return make_dispatcher(DispatchSettings("inline", device="cpu"))


class TestProcesses(Conformance):
    """In worker processes."""

    @classmethod
    def make(cls) -> Dispatcher:
        return make_dispatcher(DispatchSettings(workers=WORKERS, device="cpu"))


class TestProcessesOnMadeUpGpus:
    """Nothing is computed on them; which one a task was given is what it says itself."""

    @classmethod
    @contextmanager
    def make(cls) -> Iterator[Dispatcher]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes, "count_gpus", partial(int, 2))
            with make_dispatcher(DispatchSettings(trials_per_gpu=2)) as dispatcher:
                yield dispatcher

    def test_each_gpu_has_workers_of_its_own_and_no_more_tasks_than_may_share_it(
        self, dispatcher: Dispatcher, work: Work
    ) -> None:
        assert dispatcher.capacity == 4
        tasks = [work.submit(dispatcher, TAKES_TIME) for _ in range(9)]
        collect(dispatcher, 9)
        found = [metrics_of(task) for task in tasks]
        assert {metrics["gpu"] for metrics in found} == {0.0, 1.0}
        for gpu in (0.0, 1.0):
            there = [task for task in tasks if metrics_of(task)["gpu"] == gpu]
            assert most_at_once(there) <= 2
            assert len({metrics_of(task)["pid"] for task in there}) <= 2
        homes = {(metrics["pid"], metrics["gpu"]) for metrics in found}
        assert len({pid for pid, _ in homes}) == len(homes), "a worker has left its GPU"

    def test_a_training_on_two_devices_gets_two_gpus(self, dispatcher: Dispatcher, work: Work) -> None:
        several, one = work.submit(dispatcher, FINE, devices=2), work.submit(dispatcher, FINE)
        collect(dispatcher, 2)
        assert metrics_of(several)["gpus"] == 2
        assert metrics_of(one)["gpus"] == 1

    def test_more_devices_than_there_are_is_said_before_anything_starts(
        self, dispatcher: Dispatcher, work: Work
    ) -> None:
        with pytest.raises(OptionError, match=r"train\.devices = 3, and there are 2 GPUs"):
            dispatcher.check(work.bench.root, devices=3)


def test_a_training_on_two_devices_takes_two_workers(work: Work) -> None:
    with make_dispatcher(DispatchSettings(workers=2, device="cpu")) as dispatcher:
        tasks = [work.submit(dispatcher, TAKES_TIME, devices) for devices in (1, 2, 1)]
        assert len(collect(dispatcher, 3)) == 3
        assert most_at_once(tasks) == 1
        with pytest.raises(OptionError, match="there are 2 workers"):
            dispatcher.check(work.bench.root, devices=3)


def test_an_error_of_the_launcher_does_not_wait_for_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "warm_up", partial(time.sleep, 60))

    def launch() -> None:
        with make_dispatcher(DispatchSettings(workers=1, device="cpu")):
            time.sleep(2)
            raise ValueError("no store")

    started = time.monotonic()
    with pytest.raises(ValueError, match="no store"):
        launch()
    assert time.monotonic() - started < 30


def test_workers_are_processes_that_live_for_several_tasks(work: Work) -> None:
    with make_dispatcher(DispatchSettings(workers=1, device="cpu")) as dispatcher:
        tasks = [work.submit(dispatcher, FINE) for _ in range(2)]
        collect(dispatcher, 2)
    pids = {pid for task in tasks for pid in runs_of(task)}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_a_worker_knows_torch_before_its_first_task_and_nothing_that_only_the_launcher_needs() -> None:
    with make_dispatcher(DispatchSettings(workers=1, device="cpu")) as dispatcher:
        modules = dispatcher.ask(eval, "set(__import__('sys').modules)")
    known = {module.partition(".")[0] for module in modules}
    assert {"torch", "torchvision", "dyconv", "runners"} <= known
    assert not known & {"alembic", "matplotlib", "mlflow", "optuna", "pandas", "reports", "rich", "scipy", "sqlalchemy"}


def test_the_pool_that_told_of_gpus_looks_for_no_more_work_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "usable_gpus", lambda device, count: ())
    with make_dispatcher(DispatchSettings(workers=1, device="auto")) as dispatcher:
        assert dispatcher.capacity == 1
        assert dispatcher.ask(abs, -2) == 2
        wait_until(lambda: sum("pool_manager_loop" in thread.name for thread in threading.enumerate()) == 1)
        assert dispatcher.ask(abs, -3) == 3


LAUNCHER = """
import os, sys, threading, time
from runners.dispatch import DispatchSettings, make_dispatcher

if __name__ == "__main__":
    with make_dispatcher(DispatchSettings(workers=2, device="cpu")) as dispatcher:
        threading.Thread(target=dispatcher.ask, args=(time.sleep, 600), daemon=True).start()
        print(dispatcher.ask(os.getppid), flush=True)
        sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a fork server")
def test_workers_and_their_server_die_with_the_launcher_also_in_the_middle_of_a_task(tmp_path: Path) -> None:
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(tmp_path / "launcher.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as launcher:
        assert launcher.stdout is not None
        server = psutil.Process(int(launcher.stdout.readline()))
        assert server.ppid() == launcher.pid
        family = [server, *server.children(recursive=True)]
        assert len(family) == 3
        launcher.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(process.pid) for process in family), seconds=300)


def _import_what_does_not_fit() -> None:
    raise ImportError("libtorch_cpu.so: failed to map segment from shared object")


def test_workers_that_cannot_be_started_are_one_sentence() -> None:
    with (
        make_dispatcher(DispatchSettings("processes", workers=1, device="cpu")) as dispatcher,
        pytest.raises(DispatchError) as raised,
    ):
        dispatcher.ask(_import_what_does_not_fit)
    assert "failed to map segment from shared object. Is there enough memory (ulimit -v)" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT, errno.EACCES])
def test_shared_memory_that_is_missing_or_full_is_one_sentence(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    dispatcher = make_dispatcher(DispatchSettings("processes", workers=1, device="cpu"))
    words = f"{os.strerror(number)}.*is /dev/shm there and not full"
    with pytest.raises(DispatchError, match=words) as raised, dispatcher:
        dispatcher.ask(os.getpid)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a fork server")
def test_a_server_that_is_killed_in_the_middle_takes_down_the_tasks_under_way_and_no_later_one(work: Work) -> None:
    with make_dispatcher(DispatchSettings(workers=1, device="cpu")) as dispatcher:
        task = work.submit(dispatcher, HANGS)
        wait_until(lambda: bool(runs_of(task)))
        server = psutil.Process(runs_of(task)[0]).parent()
        assert server is not None
        server.kill()
        (completion,) = collect(dispatcher, 1)
        assert completion.crash is not None
        assert "\n" not in completion.crash
        assert "Traceback" not in completion.crash
        later = work.submit(dispatcher, FINE)
        (completion,) = collect(dispatcher, 1)
        assert completion.crash is None
        assert metrics_of(later)


def test_a_question_ends_when_the_workers_are_stopped_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the store cannot be opened while a worker checks the plan: the thread that asks must not wait on."""
    said: list[str] = []

    def ask() -> None:
        try:
            dispatcher.ask(time.sleep, 3600)
        except DispatchError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    with suppress(OSError), make_dispatcher(DispatchSettings(workers=1, device="cpu")) as dispatcher:
        # It never answers, like a pool that is stopped while it starts.
        monkeypatch.setattr(processes.ProcessPool, "schedule", lambda *args, **named: Future())
        thread.start()
        raise OSError("the store cannot be opened")
    thread.join(600)
    assert said == ["the workers were stopped before they answered"]
