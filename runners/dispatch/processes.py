"""Runs tasks in worker processes of this machine; a worker that dies takes down its own task and no other.

Workers live for many tasks and ignore Ctrl-C: the launcher decides. torch is imported from the moment the block is
entered, so that workers are ready when the first task comes: on Linux once, in a server from which they are forked,
elsewhere in each worker.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import forkserver
from typing import Self

from pebble import ProcessExpired, ProcessPool

from ablations.errors import DispatchError
from runners.dispatch.base import Answer, Completion
from runners.task import Task
from runners.trial import Status, run_node, warm_up

_PRELOADED = "runners.dispatch.preloaded"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ProcessDispatcher:
    """`workers` processes on this machine.

    Args:
        workers: How many tasks run at once.
        threads: Threads that each worker may use; two workers with one thread beat one worker with two.
    """

    def __init__(self, workers: int, threads: int = 1) -> None:
        self.capacity = workers
        self._threads = threads
        self._futures: dict[Future[Status], Task] = {}
        self._pool: ProcessPool | None = None

    def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Calls a function in a worker and returns its answer.

        Raises:
            DispatchError: If the worker dies of it.
        """
        assert self._pool is not None, "a dispatcher is used inside a with block"
        answer: Future[Answer] = self._pool.schedule(question, args=arguments)
        try:
            return answer.result()
        except ProcessExpired as error:
            raise DispatchError(f"{_end_of(error)} before anything was trained. Is there enough memory?") from None

    def submit(self, task: Task) -> None:
        """Hands a task to the pool."""
        assert self._pool is not None, "a dispatcher is used inside a with block"
        self._futures[self._pool.schedule(run_node, args=[task])] = task

    def wait(self, seconds: float) -> list[Completion]:
        """Returns the tasks that have ended."""
        if not self._futures:
            return []
        done, _ = concurrent.futures.wait(
            self._futures, timeout=seconds, return_when=concurrent.futures.FIRST_COMPLETED
        )
        return [Completion(self._futures.pop(future), _crash(future)) for future in done]

    def cancel(self) -> None:
        """Kills the workers; what they had saved stays."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
        self._futures.clear()

    def __enter__(self) -> Self:
        # Set before the workers start: OpenMP reads it once, when torch is imported.
        for variable in _THREAD_VARIABLES:
            os.environ[variable] = str(self._threads)
        has_server = sys.platform == "linux"
        context = multiprocessing.get_context("forkserver" if has_server else "spawn")
        self._pool = ProcessPool(max_workers=self.capacity, initializer=_ignore_interrupt, context=context)
        if has_server:
            context.set_forkserver_preload([_PRELOADED])
            forkserver.ensure_running()
        else:
            for _ in range(self.capacity):
                self._pool.schedule(warm_up)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._futures or raised[0] is not None:
            self.cancel()
        elif self._pool is not None:
            self._pool.close()  # type: ignore[no-untyped-call]
            self._pool.join()


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _crash(future: Future[Status]) -> str | None:
    try:
        future.result()
    except ProcessExpired as error:
        return _end_of(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _end_of(error: ProcessExpired) -> str:
    code = error.exitcode
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"the worker process {error.pid} died ({how})"
