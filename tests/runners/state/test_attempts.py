"""Leases: of several that want a node one has it; the dead and the silent are followed by one; who lost it notices."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from ablations.errors import LeaseError
from runners.processes import Process
from runners.state import attempts as leases
from runners.state.attempts import Attempt, Lease, Watch, attempts, latest
from runners.state.files import write_json

_CONTEXT = multiprocessing.get_context("fork")
_LONGEST = 30.0


def _take(folder: Path, launch: str = "one", **more: Any) -> Lease:
    lease = Lease.take(folder, launch, **more)
    assert lease is not None
    return lease


def _last(folder: Path) -> Attempt:
    found = latest(folder)
    assert found is not None
    return found


def _rewrite(folder: Path, attempt: Attempt) -> None:
    write_json(folder / "attempts" / f"{attempt.number:06d}.json", leases.asdict(attempt))


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _hold(folder: Path, lease_seconds: float) -> None:
    with _take(folder, "other", lease_seconds=lease_seconds):
        time.sleep(600)


@contextmanager
def _other_process(folder: Path, lease_seconds: float = 60.0) -> Iterator[Any]:
    """A process that holds the lease and does nothing else."""
    process = _CONTEXT.Process(target=_hold, args=(folder, lease_seconds))
    process.start()
    _wait_until(lambda: latest(folder) is not None)
    yield process
    process.kill()
    process.join()


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_attempt_at_a_time_each_with_its_end(tmp_path: Path) -> None:
    first = _take(tmp_path)
    assert Lease.take(tmp_path, "two") is None
    with first:
        assert Lease.take(tmp_path, "two") is None
        first.note(micro_batch=16)
        first.end("failed", {"kind": "OSError", "message": "no", "cause": "input_output"})
    second = _take(tmp_path, "two")
    with second:
        second.end("finished")
    found = attempts(tmp_path)
    assert [(a.number, a.launch, a.outcome, a.micro_batch) for a in found] == [
        (1, "one", "failed", 16),
        (2, "two", "finished", None),
    ]
    assert found[0].failure == {"kind": "OSError", "message": "no", "cause": "input_output"}
    assert found[0].process == Process.current()
    assert found[0].began <= (found[0].ended or 0.0)


def test_a_block_that_is_left_by_an_exception_ends_the_attempt_as_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _take(tmp_path):
        raise KeyboardInterrupt
    assert _last(tmp_path).outcome == "interrupted"


def test_the_time_of_an_attempt_ends_with_it_or_with_its_last_sign_of_life() -> None:
    ended = Attempt(1, began=1000.0, ended=1012.5, outcome="failed")
    assert ended.seconds == 12.5
    # Twelve beats are the length of a lease.
    killed = Attempt(2, began=1000.0, beat=6, lease_seconds=60.0)
    assert killed.seconds == 30.0
    assert replace(killed, beat=-1).seconds == 0.0
    # The clock was set back, which must not make the sum smaller.
    assert replace(ended, ended=990.0).seconds == 0.0


def test_an_attempt_whose_result_is_lost_later_keeps_its_end(tmp_path: Path) -> None:
    with _take(tmp_path) as lease:
        lease.note(machine={"device": "cpu", "processor": "x"})
        lease.end("finished")
    first = _last(tmp_path)
    leases.declare_dead(tmp_path, first, "failed", {"kind": "DamagedResult", "message": "", "cause": "input_output"})
    assert (_last(tmp_path).outcome, _last(tmp_path).ended) == ("failed", first.ended)
    assert _last(tmp_path).machine == {"device": "cpu", "processor": "x"}


def test_a_launch_that_begins_a_node_again_does_not_wait_for_its_own_worker_that_is_gone(tmp_path: Path) -> None:
    first = _take(tmp_path, "one")
    assert Lease.take(tmp_path, "two") is None
    assert _take(tmp_path, "one").number == 2
    with pytest.raises(LeaseError):
        first.check()
    assert Lease.take(tmp_path / "nameless", "") is not None
    assert Lease.take(tmp_path / "nameless", "") is None


def test_what_is_not_needed_any_more_is_not_begun(tmp_path: Path) -> None:
    assert Lease.take(tmp_path, "one", unless=lambda: True) is None
    assert attempts(tmp_path) == []


def _race(folder: Path, start: Any, won: Any, number: int) -> None:
    start.wait()
    lease = Lease.take(folder, str(number))
    if lease is not None:
        won.put(lease.number)
        # Lives on until all have tried: an orphan would rightly be taken over.
        start.wait()
        return
    start.wait()


@pytest.mark.parametrize("orphan", [False, True])
def test_of_eight_that_race_for_a_node_one_gets_it(tmp_path: Path, orphan: bool) -> None:
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        if orphan:
            _CONTEXT.Process(target=_take, args=(folder,)).start()
            _wait_until(lambda folder=folder: latest(folder) is not None and _last(folder).is_orphan)
        start, won = _CONTEXT.Barrier(8), _CONTEXT.Queue()
        racers = [_CONTEXT.Process(target=_race, args=(folder, start, won, number)) for number in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(_LONGEST)
        assert [racer.exitcode for racer in racers] == [0] * 8
        assert won.get(timeout=1) == 1 + orphan
        assert won.empty()
        assert len(attempts(folder)) == 1 + orphan


def test_a_killed_process_is_an_orphan_at_once_and_its_counter_stands_still(tmp_path: Path) -> None:
    with _other_process(tmp_path, lease_seconds=0.6) as other:
        _wait_until(lambda: _last(tmp_path).beat >= 2)
        assert Lease.take(tmp_path, "one") is None
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        dead = _last(tmp_path)
        assert dead.is_orphan
        assert (dead.outcome, dead.ended) == ("running", None)
        assert _take(tmp_path).number == 2
        assert attempts(tmp_path)[0] == dead


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    with _other_process(tmp_path) as other:
        os.kill(other.pid, signal.SIGKILL)
        _wait_until(lambda: psutil.Process(other.pid).status() == psutil.STATUS_ZOMBIE)
        assert _last(tmp_path).is_orphan


def test_another_process_with_the_same_number_is_not_the_owner(tmp_path: Path) -> None:
    with _take(tmp_path):
        own = _last(tmp_path)
        assert not own.is_orphan
        assert replace(own, process=replace(own.process, started="1")).is_orphan
        assert not replace(own, process=replace(own.process, machine="elsewhere", started="1")).is_orphan


def test_a_process_of_another_user_that_cannot_be_seen_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Process.current()
    monkeypatch.setattr(psutil, "PROCFS_PATH", "/nowhere")
    assert not replace(own, started="1").is_dead
    assert replace(own, pid=2**22 + 1).is_dead


def test_a_silent_lease_of_another_machine_is_over_when_its_counter_has_stood_still(tmp_path: Path) -> None:
    _take(tmp_path, lease_seconds=60.0)
    elsewhere = replace(_last(tmp_path), process=Process("far", "far/1", 7, "7"))
    _rewrite(tmp_path, elsewhere)
    clock = Clock()
    watch = Watch(clock)
    assert not watch.is_over(tmp_path, _last(tmp_path))
    clock.now += 59
    assert not watch.is_over(tmp_path, _last(tmp_path))
    _rewrite(tmp_path, replace(elsewhere, beat=1))
    clock.now += 59
    assert not watch.is_over(tmp_path, _last(tmp_path)), "it has beaten since"
    clock.now += 61
    silent = _last(tmp_path)
    assert watch.is_over(tmp_path, silent)
    assert not Watch(clock).is_over(tmp_path, silent), "another watcher has to wait for itself"
    assert Lease.take(tmp_path, "two") is None
    _rewrite(tmp_path, replace(elsewhere, beat=2))
    assert Lease.take(tmp_path, "two", watched=silent.token) is None, "it woke up between the look and the taking"
    _rewrite(tmp_path, replace(elsewhere, beat=1))
    assert _take(tmp_path, "two", watched=silent.token).number == 2


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_no_clock_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    _take(tmp_path)
    _rewrite(tmp_path, replace(_last(tmp_path), process=Process("far", "far/1", 7, "7")))
    watch = Watch()
    assert not watch.is_over(tmp_path, _last(tmp_path))
    honest = time.time
    monkeypatch.setattr(time, "time", lambda: honest() + jump)
    assert not watch.is_over(tmp_path, _last(tmp_path))
    assert Lease.take(tmp_path, "two") is None


def test_whoever_was_taken_over_notices_and_writes_nothing_more(tmp_path: Path) -> None:
    slow = _take(tmp_path, lease_seconds=1e6)
    slow.check()
    with slow:
        quick = _take(tmp_path, "two", watched=_last(tmp_path).token)
        with pytest.raises(LeaseError, match="another process has taken over"):
            slow.check()
        before = (tmp_path / "attempts" / "000001.json").read_text()
        slow.end("failed", {"kind": "X"})
    assert (tmp_path / "attempts" / "000001.json").read_text() == before
    quick.check()
    assert _last(tmp_path).is_running


def test_a_thread_that_renews_stops_when_another_has_taken_over(tmp_path: Path) -> None:
    with _take(tmp_path, lease_seconds=0.12) as slow:
        _wait_until(lambda: _last(tmp_path).beat >= 1)
        quick = None
        while quick is None:
            quick = Lease.take(tmp_path, "two", watched=_last(tmp_path).token)
        _wait_until(lambda: not slow._thread.is_alive())
        assert _last(tmp_path).number == 2


def test_a_launcher_may_declare_its_worker_dead_and_the_worker_heeds_it(tmp_path: Path) -> None:
    with _take(tmp_path, lease_seconds=1e6) as lease:
        leases.declare_dead(tmp_path, _last(tmp_path), "killed", {"cause": "killed"})
        with pytest.raises(LeaseError):
            lease.check()
    assert _last(tmp_path).outcome == "killed"
    assert _take(tmp_path).number == 2


def test_a_torn_record_is_somebody_who_is_only_starting(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "000001.json").write_text('{"laun')
    clock = Clock()
    watch = Watch(clock)
    assert Lease.take(tmp_path, "one") is None
    assert not watch.is_over(tmp_path, _last(tmp_path))
    clock.now += leases.LEASE_SECONDS + 1
    assert watch.is_over(tmp_path, _last(tmp_path))
    assert _take(tmp_path, watched=_last(tmp_path).token).number == 2


def test_a_finished_attempt_whose_result_is_not_to_be_seen_yet_is_waited_for(tmp_path: Path) -> None:
    with _take(tmp_path) as lease:
        lease.end("finished")
    clock = Clock()
    watch = Watch(clock)
    assert Lease.take(tmp_path, "two") is None
    assert not watch.is_over(tmp_path, _last(tmp_path))
    clock.now += leases.LEASE_SECONDS + 1
    assert watch.is_over(tmp_path, _last(tmp_path)), "somebody has removed the result"


def test_a_listing_that_lags_behind_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        with _take(tmp_path) as lease:
            lease.end("failed")
    monkeypatch.setattr(leases, "_last_number", lambda folder: 1)
    assert _last(tmp_path).number == 3
    assert _take(tmp_path).number == 4
