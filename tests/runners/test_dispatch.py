"""One conformance suite for every dispatcher: what a launcher may rely on, wherever the work is carried out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from ablations.errors import DispatchError, UnknownNameError
from runners.dispatch import DISPATCHERS, Completion, Dispatcher, make_dispatcher, processes
from runners.dispatch.inline import InlineDispatcher
from runners.state import StateStore
from runners.task import Task

PLUGIN = """
import os, signal, time
import runners.nodes as nodes

def behave(node, state, task):
    how = node.spec.seed
    if how == 1:
        raise ValueError("this one fails")
    if how == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == 3:
        time.sleep(600)
    return {"test/top1": 42.0, "pid": float(os.getpid())}

nodes.run_trial = behave
"""
FINE, FAILS, DIES, HANGS = 0, 1, 2, 3

Submit = Callable[..., Task]


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Describes a node that behaves as told and submits it."""
    import runners.nodes
    from tests.runners.bench import Bench

    (tmp_path / "made_up_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.getcwd()}")
    monkeypatch.setattr(runners.nodes, "run_trial", runners.nodes.run_trial)
    bench = Bench(tmp_path / "state")

    def submit(dispatcher: Dispatcher, behaviour: int, width: float = 0.35) -> Task:
        node = bench.trial(seed=behaviour, model__width=width)
        task = Task(bench.root, node.fingerprint, "cpu", plugins=("made_up_plugin",))
        dispatcher.submit(task)
        return task

    yield submit
    import sys

    sys.modules.pop("made_up_plugin", None)


def _collect(dispatcher: Dispatcher, count: int, seconds: float = 60.0) -> list[Completion]:
    found: list[Completion] = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} ended"
        found += dispatcher.wait(0.2)
    return found


@pytest.fixture(params=DISPATCHERS)
def dispatcher(request: pytest.FixtureRequest) -> Dispatcher:
    """Each of the dispatchers, with two workers where there are workers."""
    return make_dispatcher(request.param, workers=2)


def test_results_arrive_whatever_the_order(dispatcher: Dispatcher, submit: Submit) -> None:
    with dispatcher:
        tasks = [submit(dispatcher, FINE, width) for width in (0.35, 0.5, 0.75)]
        ended = _collect(dispatcher, 3)
    assert {completion.task.fingerprint for completion in ended} == {task.fingerprint for task in tasks}
    for task in tasks:
        result = StateStore(task.state_root)[task.fingerprint].result()
        assert result is not None
        assert result["metrics"]["test/top1"] == 42.0


def test_a_question_is_answered_where_the_work_is_done(dispatcher: Dispatcher) -> None:
    with dispatcher:
        assert dispatcher.ask(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            dispatcher.ask(divmod, 7, 0)
        pid = dispatcher.ask(os.getpid)
    assert (pid == os.getpid()) == isinstance(dispatcher, InlineDispatcher)


def test_a_worker_that_dies_of_a_question_is_a_sentence() -> None:
    with make_dispatcher("processes", workers=1) as dispatcher:
        with pytest.raises(DispatchError, match=r"died \(exit code 3\) before anything was trained"):
            dispatcher.ask(os._exit, 3)
        assert dispatcher.ask(divmod, 7, 2) == (3, 1), "another worker has taken its place"


def test_an_error_of_the_launcher_does_not_wait_for_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "warm_up", partial(time.sleep, 60))

    def launch() -> None:
        with make_dispatcher("processes", workers=1):
            time.sleep(2)
            raise ValueError("no store")

    started = time.monotonic()
    with pytest.raises(ValueError, match="no store"):
        launch()
    assert time.monotonic() - started < 30


def test_a_raised_error_is_a_failure_with_its_traceback(dispatcher: Dispatcher, submit: Submit) -> None:
    with dispatcher:
        task = submit(dispatcher, FAILS)
        assert _collect(dispatcher, 1) == [Completion(task)]
        submit(dispatcher, FINE)
        _collect(dispatcher, 1)
    state = StateStore(task.state_root)[task.fingerprint]
    failure = state.failure()
    assert failure is not None
    assert "this one fails" in failure["message"]
    assert "Traceback" in state.log_file.read_text()


def test_a_finished_node_is_not_run_twice(dispatcher: Dispatcher, submit: Submit) -> None:
    with dispatcher:
        task = submit(dispatcher, FINE)
        _collect(dispatcher, 1)
        written = (task.state_root / task.fingerprint / "result.json").stat().st_mtime_ns
        submit(dispatcher, FINE)
        _collect(dispatcher, 1)
    assert (task.state_root / task.fingerprint / "result.json").stat().st_mtime_ns == written


def test_a_killed_worker_costs_only_its_own_task(submit: Submit) -> None:
    with make_dispatcher("processes", workers=1) as dispatcher:
        killed = submit(dispatcher, DIES)
        spared = submit(dispatcher, FINE)
        ended = {completion.task.fingerprint: completion.crash for completion in _collect(dispatcher, 2)}
    assert "SIGKILL" in (ended[killed.fingerprint] or "")
    assert ended[spared.fingerprint] is None
    assert StateStore(spared.state_root)[spared.fingerprint].is_done


def test_cancelling_takes_seconds_not_minutes(submit: Submit) -> None:
    with make_dispatcher("processes", workers=1) as dispatcher:
        submit(dispatcher, FINE)
        _collect(dispatcher, 1)
        submit(dispatcher, HANGS)
        assert dispatcher.wait(1.0) == []
        started = time.monotonic()
        dispatcher.cancel()
    assert time.monotonic() - started < 15


def test_workers_are_real_processes_and_live_for_several_tasks(submit: Submit) -> None:
    with make_dispatcher("processes", workers=1) as dispatcher:
        tasks = [submit(dispatcher, FINE, width) for width in (0.35, 0.5)]
        _collect(dispatcher, 2)
    results = [StateStore(task.state_root)[task.fingerprint].result() or {} for task in tasks]
    pids = {result["metrics"]["pid"] for result in results}
    assert len(pids) == 1
    assert pids != {float(os.getpid())}


def test_a_worker_knows_torch_before_its_first_task_and_nothing_that_only_the_launcher_needs() -> None:
    with make_dispatcher("processes", workers=1) as dispatcher:
        modules = dispatcher.ask(eval, "set(__import__('sys').modules)")
    known = {module.partition(".")[0] for module in modules}
    assert {"torch", "torchvision", "dyconv", "runners"} <= known
    assert not known & {"alembic", "matplotlib", "mlflow", "optuna", "pandas", "reports", "rich", "scipy", "sqlalchemy"}


LAUNCHER = """
import os, sys
from runners.dispatch import make_dispatcher

if __name__ == "__main__":
    with make_dispatcher("processes", workers=2) as dispatcher:
        print(dispatcher.ask(os.getppid), flush=True)
        sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a fork server")
def test_the_server_of_the_workers_dies_with_the_launcher(tmp_path: Path) -> None:
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(tmp_path / "launcher.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as launcher:
        assert launcher.stdout is not None
        server = psutil.Process(int(launcher.stdout.readline()))
        assert server.ppid() == launcher.pid
        launcher.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.01)


def test_an_unknown_dispatcher_is_named() -> None:
    with pytest.raises(UnknownNameError, match="processes"):
        make_dispatcher("proceses", workers=1)
