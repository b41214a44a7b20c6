"""Runs that a killed launch has left RUNNING: continued by the next one, or ended; those of the living stay."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ablations.planning.nodes import TrialNode
from runners.processes import Process
from runners.provenance import Commit
from runners.state.attempts import Lease, Watch
from runners.state.files import write_json
from runners.state.nodes import NodeState
from runners.sync.backfill import end_orphans
from runners.tracking import Tracker, prepare_store
from tests.runners.bench import Bench

DEAD = {"pid": 2**22 + 1}
FAR = {"machine": "far/1"}


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store, created once."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    prepare_store(uri)
    return uri


def _tracker(store: str, tmp_path: Path) -> Tracker:
    return Tracker(store, f"orphans/{tmp_path.name}", tmp_path, commit=Commit("c0ffee", False), preset="smoke")


def _begun(bench: Bench, tracker: Tracker, seed: int, **process: Any) -> tuple[TrialNode, NodeState]:
    """A node under way in the store, whose attempt is one of this process, or of one that differs from it."""
    node = bench.trial(seed=seed)
    state = bench.states[node.fingerprint]
    assert Lease.take(state.folder, "first") is not None
    last = state.lease()
    assert last is not None
    own = replace(last, process=replace(Process.current(), **process))
    write_json(state.folder / "attempts" / "000001.json", asdict(own))
    tracker.begin(node, state, {"study": ["variant"]})
    state.append_event(1, {"train/loss": 1.0})
    return node, state


def _status(tracker: Tracker, node: TrialNode) -> str:
    return str(tracker.client.get_run(tracker.run_id(node.fingerprint)).info.status)


def test_orphans_are_ended_and_the_living_are_not(store: str, tmp_path: Path, bench: Bench) -> None:
    first = _tracker(store, tmp_path)
    living, _ = _begun(bench, first, 0)
    dead, _ = _begun(bench, first, 1, **DEAD)
    far, _ = _begun(bench, first, 2, **FAR)
    done, state = _begun(bench, first, 3, **DEAD)
    state.finish({"test/top1": 12.5}, 1.0)
    stranger = bench.trial(seed=4)
    first.begin(stranger, bench.states[stranger.fingerprint], {})
    clock, second = Clock(), _tracker(store, tmp_path)
    watch = Watch(clock)
    assert set(end_orphans(second, bench.states, watch)) == {dead.fingerprint, done.fingerprint}
    expected = {living: "RUNNING", dead: "KILLED", far: "RUNNING", done: "FINISHED", stranger: "RUNNING"}
    assert {node: _status(second, node) for node in expected} == expected
    assert second.client.get_run(second.run_id(done.fingerprint)).data.metrics["test/top1"] == 12.5
    clock.now += 61
    beat = bench.states[living.fingerprint].lease()
    assert beat is not None
    write_json(bench.states[living.fingerprint].folder / "attempts" / "000001.json", asdict(replace(beat, beat=1)))
    assert end_orphans(second, bench.states, watch) == [far.fingerprint]
    assert _status(second, far) == "KILLED"


def test_a_run_that_has_ended_meanwhile_is_not_ended_once_more(store: str, tmp_path: Path, bench: Bench) -> None:
    first = _tracker(store, tmp_path)
    node, state = _begun(bench, first, 0, **DEAD)
    second = _tracker(store, tmp_path)
    state.finish({"test/top1": 12.5}, 1.0)
    first.finish(state)
    (state.folder / "result.json").unlink()
    assert end_orphans(second, bench.states, Watch()) == []
    assert _status(second, node) == "FINISHED"


def test_who_takes_over_goes_on_with_the_run_that_was_opened_after_it_had_looked(
    store: str, tmp_path: Path, bench: Bench
) -> None:
    late, first = _tracker(store, tmp_path), _tracker(store, tmp_path)
    node, state = _begun(bench, first, 0, **DEAD)
    run_id = first.run_id(node.fingerprint)
    assert late.begin(node, state, {"study": ["variant"], "other": ["v"]}) == run_id
    state.append_event(2, {"train/loss": 0.5})
    state.finish({"test/top1": 12.5}, 1.0, micro_batch=4)
    late.finish(state)
    run = late.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["abl.study.other"] == "v"
    assert run.data.tags["abl.micro_batch"] == "4"
    assert [m.step for m in late.client.get_metric_history(run_id, "train/loss")] == [1, 2]
    assert len(list(late.search(f"tags.`abl.fingerprint` = '{node.fingerprint}'"))) == 1


def test_a_run_says_when_its_first_attempt_began(store: str, tmp_path: Path, bench: Bench) -> None:
    tracker = _tracker(store, tmp_path)
    node, state = _begun(bench, tracker, 0)
    last = state.lease()
    assert last is not None
    assert tracker.client.get_run(tracker.run_id(node.fingerprint)).info.start_time == int(last.began * 1000)
