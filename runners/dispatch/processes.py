"""This dispatcher runs tasks in worker processes of this machine; a worker that dies takes down its own task alone.

Workers live for many tasks and ignore Ctrl-C: the launcher decides. torch is imported from the moment the block is
entered, so that workers are ready when the first task comes: on Linux once, in a server from which they are forked,
elsewhere in each worker. Each GPU has workers of its own, since a process never quite leaves a GPU that it has used.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Self

from pebble import ProcessExpired, ProcessPool

from ablations.errors import DispatchError, OptionError
from runners.dispatch.base import Answer, Completion
from runners.dispatch.settings import DispatchSettings
from runners.dispatch.slots import Slots, make_slots, usable_gpus
from runners.dispatch.sockets import use_short_sockets
from runners.hardware import cores
from runners.interrupts import signals_withheld
from runners.own_code import imported_by_children
from runners.processes import die_with_parent
from runners.workers.task import Task
from runners.workers.trial import TaskOutcome, count_gpus, run_node, warm_up

_PRELOADED = "runners.dispatch.preloaded"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_HAS_SERVER = sys.platform == "linux"
_STOPPED = "the workers were stopped before they answered"
_LOOK = 0.2
"""Seconds after which a thread that waits for an answer looks whether the workers have been stopped."""


class ProcessDispatcher:
    """A dispatcher with workers on this machine: one per core, or as many per GPU as may share one.

    Args:
        settings: The numbers of workers and threads, and the devices.
    """

    def __init__(self, settings: DispatchSettings) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("forkserver" if _HAS_SERVER else "spawn")
        self._waiting: deque[Task] = deque()
        self._placed: dict[Future[TaskOutcome], tuple[Task, tuple[int, ...]]] = {}
        self._pools: dict[int | None, ProcessPool] = {}
        self._question_pool: ProcessPool | None = None
        self._made_slots: Slots | None = None
        self._is_closed = False

    @property
    def capacity(self) -> int:
        """The number of slots."""
        return len(self._slots.devices)

    def check(self, state_root: Path, devices: int) -> None:
        """Raise if there are no slots for a training on so many devices."""
        device_limit = self._slots.most_devices
        if devices > device_limit:
            kind, remedy = "workers", "--workers"
            if self._slots.has_gpus:
                kind, remedy = "GPUs", "--device"
            raise OptionError(
                f"train.devices = {devices}, and there are {device_limit} {kind}. Lower it, or give more with {remedy}."
            )

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function in a worker and return its answer.

        Raises:
            DispatchError: If the worker dies of it, or the workers are stopped by another thread meanwhile.
        """
        pool = self._pools.get(None) or self._question_pool
        assert pool is not None, "a dispatcher is used inside a with block"
        if self._is_closed:
            raise DispatchError(_STOPPED)
        with _explained():
            answer: Future[Answer] = pool.schedule(question, args=arguments)
        try:
            return self._await(answer)
        except ProcessExpired as error:
            raise DispatchError(f"{_end_of(error)} before anything was trained. Is there enough memory?") from None
        except (BrokenProcessPool, MemoryError, ImportError, OSError) as error:
            raise DispatchError(_no_workers(error)) from None

    def _await(self, answer: Future[Answer]) -> Answer:
        # A pool that is stopped while it starts never ends what it was given: who only waited for the answer would
        # wait for ever, and the interpreter for that thread.
        while not answer.done() and not self._is_closed:
            concurrent.futures.wait([answer], timeout=_LOOK)
        if answer.done() and not answer.cancelled():
            return answer.result()
        raise DispatchError(_STOPPED)

    def submit(self, task: Task) -> None:
        """Hand a task to a worker, or queue it until there is a slot."""
        self._waiting.append(task)
        self._place()

    def wait(self, seconds: float) -> list[Completion]:
        """Return the tasks that have ended."""
        if not self._placed:
            return []
        completed, _ = concurrent.futures.wait(
            self._placed, timeout=seconds, return_when=concurrent.futures.FIRST_COMPLETED
        )
        ended: list[Completion] = []
        for future in completed:
            task, _ = self._placed.pop(future)
            ended.append(Completion(task, _crash(future)))
        self._place()
        return ended

    def cancel(self) -> None:
        """Kill the workers; their checkpoints stay."""
        self._waiting.clear()
        self._is_closed = True
        # All pools are told first, so that they end side by side.
        for pool in self._all_pools():
            pool.stop()  # type: ignore[no-untyped-call]
        for pool in self._all_pools():
            pool.join()
        self._placed.clear()

    def __enter__(self) -> Self:
        start_server(self._settings.threads)
        with _explained():
            self._open_first()
        return self

    def _open_first(self) -> None:
        # Slots are known at once where there can be no CUDA; else one worker is started to count the GPUs.
        if self._settings.device == "cpu" or sys.platform == "darwin":
            self._open(usable_gpus(self._settings.device, 0))
        else:
            self._question_pool = self._start(1)

    def __exit__(self, *raised: object) -> None:
        # After an error, or with tasks under way, nobody waits for results any more.
        if self._placed or self._waiting or raised[0] is not None:
            self.cancel()
            return
        for pool in self._all_pools():
            pool.close()  # type: ignore[no-untyped-call]
        for pool in self._all_pools():
            pool.join()

    @property
    def _slots(self) -> Slots:
        # Computed late, because only a worker that has imported torch can count the GPUs.
        return self._made_slots or self._open(usable_gpus(self._settings.device, self.ask(count_gpus)))

    def _open(self, gpus: tuple[int, ...]) -> Slots:
        s = self._settings
        self._made_slots = make_slots(
            gpus, workers=s.workers, trials_per_gpu=s.trials_per_gpu, cores=cores(), threads=s.threads
        )
        self._pools = {device: self._start(count) for device, count in Counter(self._made_slots.devices).items()}
        if None in self._pools and self._question_pool is not None:
            # The CPU pool answers questions from now on; threads of an idle pool poll several times a second.
            self._question_pool.stop()  # type: ignore[no-untyped-call]
        return self._made_slots

    def _start(self, workers: int) -> ProcessPool:
        pool = ProcessPool(max_workers=workers, initializer=_belong_to_launcher, context=self._context)
        if not _HAS_SERVER:
            # Without a fork server each worker imports torch itself, and begins now, not with its first task.
            for _ in range(workers):
                pool.schedule(warm_up)
        return pool

    def _place(self) -> None:
        """Start waiting tasks in their order, as far as there are slots."""
        while self._waiting:
            busy: set[int] = set()
            for _, slots in self._placed.values():
                busy.update(slots)
            chosen = self._slots.choose(busy, self._waiting[0].devices)
            if chosen is None:
                # No later task goes ahead: one on several devices would never find them all free.
                return
            task = self._waiting.popleft()
            gpu = self._slots.devices[chosen[0]]
            device = "cpu" if gpu is None else f"cuda:{gpu}"
            placed = replace(task, device=device, gpus=self._slots.gpus(chosen))
            self._placed[self._schedule(gpu, placed)] = (task, chosen)

    def _schedule(self, device: int | None, task: Task) -> Future[TaskOutcome]:
        """Hand a task to a pool, or to a new one if the pool is broken, as after its fork server was killed.

        Raises:
            DispatchError: If the new one is broken as well.
        """
        pool = self._pools[device]
        try:
            return pool.schedule(run_node, args=[task])
        except (BrokenProcessPool, RuntimeError, OSError):
            pool.stop()  # type: ignore[no-untyped-call]
        with _explained():
            # A pool has one worker for each slot of its device.
            self._pools[device] = pool = self._start(self._slots.devices.count(device))
            return pool.schedule(run_node, args=[task])

    def _all_pools(self) -> list[ProcessPool]:
        pools = list(self._pools.values())
        if self._question_pool is not None:
            pools.append(self._question_pool)
        return pools


def start_server(threads: int) -> None:
    """Start the server from which workers are forked, unless it runs already; it imports torch meanwhile.

    Raises:
        DispatchError: If it cannot be started.
    """
    # Set before workers start: OpenMP reads it once, when torch is imported.
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    use_short_sockets()
    if _HAS_SERVER:
        forkserver.set_forkserver_preload([_PRELOADED])
        # multiprocessing's resource tracker removes what an interrupted launch leaves; it need not warn of that.
        sys.warnoptions.append("ignore:resource_tracker")
        try:
            with _explained(), signals_withheld(), imported_by_children():
                forkserver.ensure_running()
        finally:
            sys.warnoptions.remove("ignore:resource_tracker")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors during the start of workers into a `DispatchError`."""
    try:
        yield
    except (BrokenProcessPool, RuntimeError, OSError, EOFError, MemoryError, ImportError) as error:
        raise DispatchError(_no_workers(error)) from None


def _no_workers(error: BaseException) -> str:
    cause = error.__cause__ or error
    # An error from a worker comes with its traceback, whose last line holds the message.
    reason = type(cause).__name__
    for line in str(cause).splitlines():
        if line.strip(' "'):
            reason = line.strip()
    if isinstance(cause, OSError) and cause.strerror:
        reason = cause.strerror
    return (
        f"workers cannot be started: {reason}. Is there enough memory (ulimit -v), and is /dev/shm there and not full? "
        "With fewer --workers less is needed; with --dispatch inline, none of it."
    )


def _belong_to_launcher() -> None:
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    die_with_parent()


def _crash(future: Future[TaskOutcome]) -> str | None:
    try:
        future.result()
    except ProcessExpired as error:
        return _end_of(error)
    except Exception as error:
        # `run_node` writes failures down and raises none, so this comes from around it: from pickling, for example.
        return f"{type(error).__name__}: {error}"
    return None


def _end_of(error: ProcessExpired) -> str:
    code = error.exitcode
    ending = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"the worker process {error.pid} died ({ending})"
