"""A launch and a tracking store that comes and goes: nothing waits for it, and at last everything is there, once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations import vocabulary as names
from ablations.planning.nodes import TrialNode
from ablations.spec.parts import Intervention
from runners.provenance import Commit
from runners.state.nodes import NodeState
from runners.sync import run_writer as writer_module
from runners.sync import tracking_worker as worker_module
from runners.sync.reservations import Reservation
from runners.sync.tracking_worker import TrackingWorker
from runners.tracking import Tracker
from runners.tracking.experiment import KnownRun
from runners.tracking.sync_notes import NodeLock, Source, read_origin, unsynced
from tests.runners.bench import Bench

SERVES = {"temperature": ["tau_30"]}


class Outage:
    """A client whose store can be away, or refuse single calls.

    Attributes:
        is_away: Whether every call fails.
        refuses: Whether a call fails, given its name and arguments.
        calls: What was called, and when.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.is_away = False
        self.refuses: Callable[[str, tuple[Any, ...]], bool] = lambda name, arguments: False
        self.calls: list[tuple[str, float]] = []
        self.hangs = threading.Event()
        self.hangs.set()

    def __getattr__(self, name: str) -> Any:
        honest = getattr(self._client, name)

        def call(*arguments: Any, **more: Any) -> Any:
            self.calls.append((name, time.monotonic()))
            assert self.hangs.wait(600)
            if self.is_away or self.refuses(name, arguments):
                raise ConnectionError("nobody answers")
            return honest(*arguments, **more)

        return call


class Bed:
    """A store, its client, a folder of states."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri, self.folder = uri, folder
        self.bench = Bench(folder / "state")
        self.told: list[str] = []
        self.tracker = self.make_tracker()
        self.outage: Any = Outage(self.tracker.client)
        self.tracker.client = self.outage

    def make_tracker(self) -> Tracker:
        """Returns another launch's tracker of the same experiment."""
        name = f"tracking/{self.folder.name}"
        return Tracker(self.uri, name, self.folder, commit=Commit("c0ffee", False), preset="smoke")

    def tracking(self) -> TrackingWorker:
        """Returns a tracking of the store."""
        return TrackingWorker(self.tracker.source, self.tracker, self.told.append)

    def node(self, seed: int = 0) -> tuple[TrialNode, NodeState]:
        """Returns a node."""
        node = self.bench.trial(seed=seed)
        return node, self.bench.states[node.fingerprint]

    def runs(self) -> list[Any]:
        """Returns the runs in the store, asked past any outage."""
        return list(self.make_tracker().search(f"tags.`{names.TAG_FINGERPRINT}` LIKE '%'"))

    def steps(self, fingerprint: str) -> list[int]:
        """Returns the steps of a node's losses in the store."""
        tracker = self.make_tracker()
        return [m.step for m in tracker.client.get_metric_history(tracker.run_id(fingerprint), "train/loss")]


@pytest.fixture
def bed(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    """A store in which waiting is short."""
    monkeypatch.setattr(worker_module, "_LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(worker_module, "_FIRST_PAUSE", 0.05)
    for name in ("SYNC_SECONDS", "FOLLOW_SECONDS", "_CONTEST_SECONDS", "_ELSEWHERE_SECONDS"):
        monkeypatch.setattr(writer_module, name, 0.1)
    return Bed(store, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that waits at its end for a moment only."""
    monkeypatch.setattr(worker_module, "_AWAY_SECONDS", 0.5)
    monkeypatch.setattr(worker_module, "_CALL_SECONDS", 1.0)


def _until(condition: Callable[[], bool], seconds: float = 1000.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _train(state: NodeState, *steps: int) -> None:
    for step in steps:
        state.append_event(step, {"train/loss": 1.0 / step})


def test_what_is_measured_while_the_store_is_away_is_there_when_it_is_back(bed: Bed) -> None:
    (one, first), (two, second) = bed.node(0), bed.node(1)
    with bed.tracking() as tracking:
        tracking.begin(one, first, SERVES)
        _train(first, 1)
        _until(lambda: bool(bed.runs()))
        bed.outage.is_away = True
        _train(first, 2)
        first.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(first)
        tracking.begin(two, second, SERVES)
        second.fail("TrainingError", "the loss is nan", "")
        tracking.stop(second, "FAILED", "TrainingError: the loss is nan")
        _until(lambda: tracking.is_away)
        assert set(unsynced(bed.bench.states, bed.uri)) == {one.fingerprint}
        bed.outage.is_away = False
    assert tracking.trouble is None
    assert sorted(run.info.status for run in bed.runs()) == ["FAILED", "FINISHED"]
    assert bed.steps(one.fingerprint) == [1, 2]
    assert unsynced(bed.bench.states, bed.uri) == {}
    assert [words.rpartition(" is ")[2].partition(":")[0] for words in bed.told] == ["away", "back"]


def test_a_store_that_is_away_is_asked_ever_more_rarely(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_LONGEST_PAUSE", 60.0)
    monkeypatch.setattr(worker_module, "_AWAY_SECONDS", 0.1)
    bed.outage.is_away = True
    nodes = [bed.node(seed) for seed in range(10)]
    with bed.tracking() as tracking:
        for node, state in nodes:
            tracking.begin(node, state, SERVES)
        _until(lambda: len(bed.outage.calls) > 4)
        times = [when for _, when in bed.outage.calls]
    # The first call and the question whether the store is there; from then on that question, after longer and longer.
    pauses = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    assert all(pause >= 0.05 * 2**number for number, pause in enumerate(pauses))


@pytest.mark.usefixtures("impatient")
def test_a_store_that_stays_away_ends_the_launch_within_a_bounded_time_and_nothing_is_lost(bed: Bed) -> None:
    bed.outage.is_away = True
    node, state = bed.node()
    with bed.tracking() as tracking:
        tracking.begin(node, state, SERVES)
        _train(state, 1, 2)
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
        left = time.monotonic()
    assert time.monotonic() - left < 5.0
    assert tracking.trouble == "1 run is not all there (nobody answers)"
    assert unsynced(bed.bench.states, bed.uri) == {node.fingerprint: 3}
    with TrackingWorker(bed.tracker.source, bed.make_tracker()) as second:
        second.begin(node, state, SERVES)
        second.finish(state)
    assert second.trouble is None
    assert bed.steps(node.fingerprint) == [1, 2]


@pytest.mark.usefixtures("impatient")
def test_a_store_that_hangs_ends_the_launch_within_a_bounded_time(bed: Bed) -> None:
    bed.outage.hangs.clear()
    node, state = bed.node()
    with bed.tracking() as tracking:
        tracking.begin(node, state, SERVES)
        _train(state, 1)
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
        left = time.monotonic()
    assert time.monotonic() - left < 5.0
    assert tracking.trouble == "1 run is not all there (it did not answer in time)"
    bed.outage.hangs.set()


@pytest.mark.usefixtures("impatient")
def test_one_run_that_the_store_refuses_keeps_no_other_out(bed: Bed) -> None:
    (one, first), (two, second) = bed.node(0), bed.node(1)
    bed.outage.refuses = lambda name, arguments: name == "log_batch" and "99.0" in str(arguments)
    found = lambda: {run.data.tags[names.TAG_FINGERPRINT]: run.info.status for run in bed.runs()}  # noqa: E731
    with bed.tracking() as tracking:
        for node, state, top1 in ((one, first, 99.0), (two, second, 1.0)):
            tracking.begin(node, state, SERVES)
            state.finish({"test/top1": top1}, 1.0)
            tracking.finish(state)
        _until(lambda: found() == {one.fingerprint: "RUNNING", two.fingerprint: "FINISHED"})
    assert not bed.told, "it is not away"
    assert tracking.trouble == "1 run is not all there (nobody answers)"
    assert set(unsynced(bed.bench.states, bed.uri)) == {one.fingerprint}


@pytest.mark.parametrize("is_short", [True, False])
def test_the_run_of_an_evaluation_that_is_soon_over_is_written_at_once(
    bed: Bed, is_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SHORT_SECONDS", 60.0 if is_short else 0.2)
    trial, _ = bed.node()
    node = bed.bench.evaluation(trial, Intervention(aggregation="max"))
    state = bed.bench.states[node.fingerprint]
    for fingerprint in (trial.fingerprint, node.fingerprint):
        bed.bench.states[fingerprint].weights_file.write_bytes(b"weights")
    with bed.tracking() as tracking:
        tracking.begin(node, state, SERVES)
        if not is_short:
            _until(lambda: [run.info.status for run in bed.runs()] == ["RUNNING"])
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
    assert tracking.trouble is None
    (run,) = bed.runs()
    assert (run.info.status, run.data.metrics["test/top1"]) == ("FINISHED", 1.0)
    assert run.data.params["seed"] == "0"
    assert [name for name, _ in bed.outage.calls].count("log_batch") == (1 if is_short else 2)


def test_a_run_that_is_deleted_meanwhile_is_written_anew(bed: Bed) -> None:
    node, state = bed.node()
    with bed.tracking() as tracking:
        tracking.begin(node, state, SERVES)
        _train(state, 1)
        _until(lambda: bool(bed.runs()) and bed.steps(node.fingerprint) == [1])
        (run,) = bed.runs()
        bed.make_tracker().client.delete_run(run.info.run_id)
        _train(state, 2)
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
    assert tracking.trouble is None
    assert bed.steps(node.fingerprint) == [1, 2]


def test_of_two_launches_that_follow_one_node_one_writes(bed: Bed) -> None:
    node, state = bed.node()
    other = TrackingWorker(bed.tracker.source, bed.make_tracker())
    with bed.tracking() as tracking, other:
        tracking.begin(node, state, SERVES)
        other.begin(node, state, {"another": ["variant"]})
        for step in range(1, 6):
            _train(state, step)
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
        other.finish(state)
    assert (tracking.trouble, other.trouble) == (None, None)
    (run,) = bed.runs()
    assert run.info.status == "FINISHED"
    assert bed.steps(node.fingerprint) == [1, 2, 3, 4, 5]
    assert {"abl.study.temperature", "abl.study.another"} <= run.data.tags.keys()


@pytest.mark.usefixtures("impatient")
def test_what_another_process_follows_is_left_to_it(bed: Bed) -> None:
    node, state = bed.node()
    lock = NodeLock(state)
    assert lock.acquire()
    with bed.tracking() as tracking:
        tracking.begin(node, state, SERVES)
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
    assert bed.runs() == []
    lock.release()


def test_without_a_store_it_is_written_down_what_sync_needs(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state")
    node = bench.trial()
    state = bench.states[node.fingerprint]
    with TrackingWorker(Source("some/experiment", "smoke", Commit("c0ffee", True)), None) as tracking:
        tracking.reserve(node, state, SERVES)
        assert tracking.reservation(node.fingerprint) is Reservation.UNKNOWN
        tracking.begin(node, state, SERVES)
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
    origin = read_origin(state)
    assert origin is not None
    assert origin.commit == Commit("c0ffee", True)
    assert origin.studies("some/experiment") == SERVES
    assert tracking.trouble is None
    assert unsynced(bench.states, "sqlite:///nowhere.db") == {node.fingerprint: 1}


def test_nobody_waits_for_the_reservation_of_a_store_that_is_away(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "is_shared", lambda uri: True)
    monkeypatch.setattr(worker_module, "_AWAY_SECONDS", 0.2)
    (one, first), (two, second) = bed.node(0), bed.node(1)
    bed.outage.is_away = True
    with bed.tracking() as tracking:
        tracking.reserve(one, first, SERVES)
        _until(lambda: tracking.reservation(one.fingerprint) is not Reservation.PENDING)
        assert tracking.reservation(one.fingerprint) is Reservation.UNKNOWN
        tracking.reserve(two, second, SERVES)
        assert tracking.reservation(two.fingerprint) is Reservation.UNKNOWN


def test_a_reserved_node_is_followed_and_what_another_machine_finished_is_taken_over(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "is_shared", lambda uri: True)
    node, state = bed.node()
    other = Bench(tmp_path / "other")
    assert other.trial().fingerprint == node.fingerprint
    theirs = other.states[node.fingerprint]
    with bed.tracking() as tracking, TrackingWorker(bed.tracker.source, bed.make_tracker()) as second:
        tracking.reserve(node, state, SERVES)
        _until(lambda: tracking.reservation(node.fingerprint) is Reservation.OURS)
        second.reserve(node, theirs, {"another": ["variant"]})
        _until(lambda: second.reservation(node.fingerprint) is Reservation.ELSEWHERE)
        tracking.begin(node, state, SERVES)
        _train(state, 1, 2)
        state.weights_file.write_bytes(b"weights")
        state.finish({"test/top1": 1.0 / 3}, 1.0, device="cpu")
        tracking.finish(state)
        _until(lambda: second.reservation(node.fingerprint) is Reservation.DONE)
        assert theirs.result() == state.result()
        second.begin(node, theirs, {"another": ["variant"]})
        second.finish(theirs)
    assert theirs.events() == state.events()
    assert not theirs.weights_file.exists()
    (run,) = bed.runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["abl.study.another"] == "variant"


def test_a_reserved_node_shows_that_it_is_alive_also_while_a_large_file_is_on_its_way(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "is_shared", lambda uri: True)
    monkeypatch.setattr(worker_module, "HEARTBEAT_SECONDS", 0.05)
    node, state = bed.node()
    on_its_way, arrives = threading.Event(), threading.Event()
    put_file = bed.tracker.put_file

    def slowly(run: KnownRun, file: Path) -> None:
        on_its_way.set()
        assert arrives.wait(600)
        put_file(run, file)

    monkeypatch.setattr(bed.tracker, "put_file", slowly)
    beats = lambda: {run.data.tags[names.TAG_HEARTBEAT] for run in bed.runs()}  # noqa: E731
    with bed.tracking() as tracking:
        tracking.reserve(node, state, SERVES)
        _until(lambda: tracking.reservation(node.fingerprint) is Reservation.OURS)
        seen = beats()
        _until(lambda: beats() != seen)
        state.weights_file.write_bytes(b"weights")
        state.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(state)
        _until(on_its_way.is_set)
        seen = beats()
        _until(lambda: beats() != seen)
        arrives.set()
    assert tracking.trouble is None


def test_an_evaluation_gets_the_weights_of_a_trial_that_was_trained_elsewhere(bed: Bed, tmp_path: Path) -> None:
    trial, trained = bed.node()
    with bed.tracking() as tracking:
        tracking.begin(trial, trained, SERVES)
        trained.weights_file.write_bytes(b"weights")
        trained.finish({"test/top1": 1.0}, 1.0)
        tracking.finish(trained)
    other = Bench(tmp_path / "other")
    evaluation = other.evaluation(other.trial(), Intervention(aggregation="max"))
    state, theirs = other.states[evaluation.fingerprint], other.states[trial.fingerprint]
    with TrackingWorker(bed.tracker.source, bed.make_tracker()) as second:
        second.reserve(evaluation, state, SERVES)
        assert second.reservation(evaluation.fingerprint) is Reservation.PENDING
        _until(lambda: second.reservation(evaluation.fingerprint) is Reservation.OURS)
        assert theirs.weights_file.read_bytes() == b"weights"
