"""What a launcher may rely on, wherever the work is carried out: one suite, run on each dispatcher.

A class of tests inherits from `Conformance` and says in `make` where the work is done. What nodes do is made up by a
plug-in, which workers load as they load a user's.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psutil
import pytest

import runners.workers.measure
from ablations.errors import DispatchError
from runners.dispatch import Completion, Dispatcher
from runners.state.nodes import NodeState, StateStore
from runners.workers.task import Task
from tests.runners.bench import Bench

FINE, FAILS, DIES, HANGS, DIES_ONCE, TAKES_TIME, HANGS_ONCE, FORGETS_AND_DIES = range(8)
"""What a node does, told by its seed."""

_PLUGIN = """
import os, signal, time
import runners.workers.measure as nodes

def behave(node, state, task):
    how, started = node.spec.seed, time.time()
    runs = state.folder / "runs.txt"
    before = len(runs.read_text().splitlines()) if runs.exists() else 0
    with runs.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if how == 1:
        raise ValueError("this one fails")
    if how == 7:
        (state.folder / "failure.json").unlink(missing_ok=True)
    if how in (2, 7) or (how == 4 and before == 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if how == 3 or (how == 6 and before == 0):
        time.sleep(600)
    if how == 5:
        time.sleep(0.5)
    gpu = float(task.device.partition(":")[2] or -1)
    return {"test/top1": 42.0, "pid": os.getpid(), "started": started, "ended": time.time(), "gpu": gpu,
            "gpus": len(task.gpus)}

nodes.run_trial = behave
"""
_PLUGIN_NAME = "made_up_plugin"
WORKERS = 2


@dataclass
class Work:
    """Made-up nodes, each distinct, and the tasks for them."""

    bench: Bench
    numbers: Iterator[int]

    def task(self, behaviour: int, devices: int = 1) -> Task:
        """Describes a node that behaves as told; returns the task for it."""
        node = self.bench.trial(seed=behaviour, model__width=0.35 + next(self.numbers) / 1000)
        return Task(self.bench.root, node.fingerprint, "auto", plugins=(_PLUGIN_NAME,), devices=devices)

    def submit(self, dispatcher: Dispatcher, behaviour: int, devices: int = 1) -> Task:
        """Submits a node that behaves as told."""
        task = self.task(behaviour, devices)
        dispatcher.submit(task)
        return task


@pytest.fixture(scope="class")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    """Made-up nodes, and the plug-in where workers find it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / f"{_PLUGIN_NAME}.py").write_text(_PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        paths = [str(folder), os.getcwd(), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setattr(runners.workers.measure, "run_trial", runners.workers.measure.run_trial)
        (folder / "state").mkdir()
        yield Work(Bench(folder / "state"), itertools.count())
    sys.modules.pop(_PLUGIN_NAME, None)


@pytest.fixture(scope="class")
def dispatcher(request: pytest.FixtureRequest, work: Work) -> Iterator[Dispatcher]:
    """The dispatcher of a class of tests, entered."""
    with request.cls.make() as opened:
        yield opened


def collect(dispatcher: Dispatcher, count: int, seconds: float = 1000.0) -> list[Completion]:
    """Waits until so many tasks have ended."""
    found: list[Completion] = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} ended"
        found += dispatcher.wait(0.2)
    assert len(found) == count
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 1000.0) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Returns whether a process is there and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def state_of(task: Task) -> NodeState:
    """Returns the state folder of a task."""
    return StateStore(task.state_root)[task.fingerprint]


def metrics_of(task: Task) -> dict[str, float]:
    """Returns what a finished task measured."""
    metrics: dict[str, float] = (state_of(task).result() or {})["metrics"]
    return metrics


def runs_of(task: Task) -> list[int]:
    """Returns the process of each time that a task was run."""
    path = state_of(task).folder / "runs.txt"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def most_at_once(tasks: list[Task]) -> int:
    """Returns how many of the tasks ran at the same time, as they measured it themselves."""
    spans = [(metrics_of(task)["started"], metrics_of(task)["ended"]) for task in tasks]
    return max(sum(begin <= start < end for begin, end in spans) for start, _ in spans)


class Conformance:
    """The suite; the dispatcher is the same for all tests of a class."""

    has_workers = True

    @classmethod
    def make(cls) -> AbstractContextManager[Dispatcher]:
        """Returns the dispatcher, with at most `WORKERS` tasks at once, to be entered."""
        raise NotImplementedError

    def test_a_folder_that_all_workers_see_is_checked(self, dispatcher: Dispatcher, work: Work) -> None:
        dispatcher.check(work.bench.root, devices=1)

    def test_results_arrive_whatever_the_order(self, dispatcher: Dispatcher, work: Work) -> None:
        tasks = [work.submit(dispatcher, FINE) for _ in range(4)]
        ended = collect(dispatcher, 4)
        assert {completion.task for completion in ended} == set(tasks)
        assert {completion.crash for completion in ended} == {None}
        assert [metrics_of(task)["test/top1"] for task in tasks] == [42.0] * 4
        assert [len(runs_of(task)) for task in tasks] == [1] * 4
        assert dispatcher.wait(0.0) == []

    def test_a_question_is_answered_in_a_worker(self, dispatcher: Dispatcher) -> None:
        assert dispatcher.ask(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            dispatcher.ask(divmod, 7, 0)
        assert (dispatcher.ask(os.getpid) != os.getpid()) == self.has_workers

    def test_a_raised_error_is_a_failure_with_its_traceback(self, dispatcher: Dispatcher, work: Work) -> None:
        failing, fine = work.submit(dispatcher, FAILS), work.submit(dispatcher, FINE)
        ended = collect(dispatcher, 2)
        assert {(completion.task, completion.crash) for completion in ended} == {(failing, None), (fine, None)}
        failure = state_of(failing).failure()
        assert failure is not None
        assert "this one fails" in failure["message"]
        assert "Traceback" in state_of(failing).log_file.read_text()
        assert state_of(fine).is_done

    def test_a_finished_node_is_not_run_again(self, dispatcher: Dispatcher, work: Work) -> None:
        task = work.submit(dispatcher, FINE)
        collect(dispatcher, 1)
        dispatcher.submit(task)
        assert collect(dispatcher, 1) == [Completion(task)]
        assert len(runs_of(task)) == 1

    def test_no_more_run_at_once_than_there_is_room_for_and_each_once(self, dispatcher: Dispatcher, work: Work) -> None:
        tasks = [work.submit(dispatcher, TAKES_TIME) for _ in range(5)]
        collect(dispatcher, 5)
        assert most_at_once(tasks) <= dispatcher.capacity <= WORKERS
        assert [len(runs_of(task)) for task in tasks] == [1] * 5

    def test_a_killed_worker_costs_only_its_own_task(self, dispatcher: Dispatcher, work: Work) -> None:
        self._skip_without_workers()
        killed, spared = work.submit(dispatcher, DIES), [work.submit(dispatcher, FINE) for _ in range(2)]
        ended = {completion.task: completion.crash for completion in collect(dispatcher, 3)}
        assert "killed" in (ended[killed] or "")
        assert not state_of(killed).is_done
        assert [ended[task] for task in spared] == [None, None]
        assert all(state_of(task).is_done for task in spared)
        assert len(runs_of(killed)) == 1, "attempts are the launcher's to count"

    def test_what_crashed_can_be_submitted_again(self, dispatcher: Dispatcher, work: Work) -> None:
        self._skip_without_workers()
        task = work.submit(dispatcher, DIES_ONCE)
        assert collect(dispatcher, 1)[0].crash is not None
        dispatcher.submit(task)
        assert collect(dispatcher, 1) == [Completion(task)]
        assert state_of(task).is_done
        assert len(runs_of(task)) == 2

    def test_a_worker_that_dies_of_a_question_is_a_sentence(self, dispatcher: Dispatcher) -> None:
        self._skip_without_workers()
        with pytest.raises(DispatchError, match=r"died .* before anything was trained"):
            dispatcher.ask(os._exit, 3)
        assert dispatcher.ask(divmod, 7, 2) == (3, 1), "another worker has taken its place"

    # The last one: nothing more is asked of a dispatcher that was cancelled.
    def test_cancelling_ends_what_runs_and_what_waits_within_seconds(self, dispatcher: Dispatcher, work: Work) -> None:
        self._skip_without_workers()
        tasks = [work.submit(dispatcher, HANGS) for _ in range(4)]
        wait_until(lambda: dispatcher.wait(0.1) == [] and sum(bool(runs_of(task)) for task in tasks) == WORKERS)
        running = [pid for task in tasks for pid in runs_of(task)]
        started = time.monotonic()
        dispatcher.cancel()
        wait_until(lambda: not any(is_alive(pid) for pid in running))
        assert time.monotonic() - started < 15
        assert dispatcher.wait(0.5) == []
        assert sum(bool(runs_of(task)) for task in tasks) == WORKERS, "what waited has not started"

    def _skip_without_workers(self) -> None:
        if not self.has_workers:
            pytest.skip("there are no workers that could die or be cancelled")
