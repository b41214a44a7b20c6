"""What lies in state folders reaches a store later, or a second store, once; what is not there is known from disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from ablations.errors import TrackingError
from ablations.planning.nodes import Node
from ablations.spec.parts import Intervention
from runners.provenance import Commit
from runners.state.nodes import NodeState
from runners.sync.backfill import known_studies, sync_states
from runners.tracking.store import shown
from runners.tracking.sync_notes import (
    NodeLock,
    Source,
    SyncNote,
    add_origin,
    read_note,
    store_key,
    unsynced,
    write_note,
)
from tests.runners.bench import Bench

QUICK = Source("syncing/quick", "quick", Commit("c0ffee", True))
SMOKE = Source("syncing/smoke", "smoke", Commit("beef", False))


def _store(empty_store: Path, folder: Path, name: str = "mlflow.db") -> str:
    shutil.copy(empty_store, folder / name)
    return f"sqlite:///{folder / name}"


def _measured(bench: Bench, node: Node, source: Source = QUICK, **serves: list[str]) -> NodeState:
    state = bench.states[node.fingerprint]
    add_origin(state, source, serves or {"temperature": ["tau_30"]})
    if node.kind == "trial":
        state.append_event(1, {"train/loss": 1.0})
        state.append_event(2, {"train/loss": 0.5})
        state.weights_file.write_bytes(b"weights")
    state.finish({"test/top1": 50.0}, 1.0)
    return state


def _runs(uri: str, source: Source = QUICK) -> dict[str, Any]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(source.experiment)
    runs = client.search_runs([experiment.experiment_id]) if experiment is not None else []
    found = {run.data.tags[names.TAG_FINGERPRINT]: run for run in runs}
    assert len(found) == len(runs), "one run per node"
    return found


def _sync(bench: Bench, uri: str, *studies: str) -> tuple[int, int, int]:
    done = sync_states(bench.states, uri, bench.root.parent / "artifacts", studies or None)
    assert (done.problems, done.trouble) == ([], "")
    return done.runs, done.lines, done.complete


def test_what_was_never_tracked_is_brought_over_once(bench: Bench, empty_store: Path, tmp_path: Path) -> None:
    uri = _store(empty_store, tmp_path)
    trial = bench.trial()
    evaluation = bench.evaluation(trial, Intervention(aggregation="max"))
    for node in (evaluation, trial):
        _measured(bench, node)
    assert unsynced(bench.states, uri) == {trial.fingerprint: 3, evaluation.fingerprint: 1}
    assert _sync(bench, uri) == (2, 4, 0)
    assert unsynced(bench.states, uri) == {}
    runs = _runs(uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    tags = runs[evaluation.fingerprint].data.tags
    assert tags[names.TAG_PARENT] == runs[trial.fingerprint].info.run_id
    assert (tags[names.TAG_GIT_COMMIT], tags[names.TAG_GIT_DIRTY], tags[names.TAG_PRESET]) == (
        "c0ffee",
        "true",
        "quick",
    )
    assert tags["abl.study.temperature"] == "tau_30"
    assert _sync(bench, uri) == (0, 0, 2)
    assert _runs(uri).keys() == runs.keys()


def test_a_second_store_gets_everything_too(bench: Bench, empty_store: Path, tmp_path: Path) -> None:
    first, second = _store(empty_store, tmp_path), _store(empty_store, tmp_path, "second.db")
    node = bench.trial()
    _measured(bench, node)
    _sync(bench, first)
    assert unsynced(bench.states, second) == {node.fingerprint: 3}
    assert _sync(bench, second) == (1, 3, 0)
    assert unsynced(bench.states, first) == unsynced(bench.states, second) == {}


def test_only_the_nodes_of_named_studies_are_meant(bench: Bench, empty_store: Path, tmp_path: Path) -> None:
    uri = _store(empty_store, tmp_path)
    one, two = bench.trial(seed=1), bench.trial(seed=2)
    _measured(bench, one, temperature=["a"], kernels=["b"])
    _measured(bench, two, kernels=["b"])
    assert known_studies(bench.states) == {"temperature", "kernels"}
    assert _sync(bench, uri, "temperature") == (1, 3, 0)
    assert _runs(uri).keys() == {one.fingerprint}


def test_a_node_of_two_presets_is_in_the_experiments_of_both(bench: Bench, empty_store: Path, tmp_path: Path) -> None:
    uri = _store(empty_store, tmp_path)
    node = bench.trial()
    state = _measured(bench, node)
    assert _sync(bench, uri) == (1, 3, 0)
    add_origin(state, SMOKE, {"mine": ["v"]})
    assert unsynced(bench.states, uri) == {node.fingerprint: 3}
    assert _sync(bench, uri) == (1, 3, 1)
    tags = _runs(uri, SMOKE)[node.fingerprint].data.tags
    assert (tags[names.TAG_PRESET], tags[names.TAG_GIT_COMMIT]) == ("smoke", "c0ffee"), "the commit that measured it"
    assert "abl.study.temperature" not in tags


@pytest.mark.parametrize("failed", [True, False])
def test_what_did_not_finish_is_not_left_running(bench: Bench, empty_store: Path, tmp_path: Path, failed: bool) -> None:
    uri = _store(empty_store, tmp_path)
    node = bench.trial()
    state = bench.states[node.fingerprint]
    add_origin(state, QUICK, {})
    state.append_event(1, {"train/loss": 1.0})
    if failed:
        state.fail("TrainingError", "the loss is nan", "Traceback")
    assert unsynced(bench.states, uri) == {node.fingerprint: 1}
    assert _sync(bench, uri) == (1, 1, 0)
    run = _runs(uri)[node.fingerprint]
    assert run.info.status == ("FAILED" if failed else "KILLED")
    assert ("the loss is nan" in run.data.tags[names.TAG_NOTE]) is failed
    assert unsynced(bench.states, uri) == {}


def test_what_was_only_planned_is_no_run(bench: Bench, empty_store: Path, tmp_path: Path) -> None:
    uri = _store(empty_store, tmp_path)
    add_origin(bench.states[bench.trial().fingerprint], QUICK, {})
    assert _sync(bench, uri) == (0, 0, 0)
    assert _runs(uri) == {}
    assert unsynced(bench.states, uri) == {}


def test_what_a_launch_follows_is_left_to_it(bench: Bench, empty_store: Path, tmp_path: Path) -> None:
    uri = _store(empty_store, tmp_path)
    lock = NodeLock(_measured(bench, bench.trial()))
    assert lock.acquire()
    done = sync_states(bench.states, uri, tmp_path)
    assert (done.runs, done.followed) == (0, 1)
    lock.release()
    assert _sync(bench, uri) == (1, 3, 0)


def test_an_emptied_store_gets_everything_although_the_notes_say_it_has(
    bench: Bench, empty_store: Path, tmp_path: Path
) -> None:
    _measured(bench, bench.trial())
    _sync(bench, _store(empty_store, tmp_path))
    # Another path, as MLflow keeps a store open: but one whose notes are those of the first.
    other = _store(empty_store, tmp_path, "again.db")
    (state,) = (bench.states[key] for key in bench.states.fingerprints())
    note = read_note(state, store_key(f"sqlite:///{tmp_path / 'mlflow.db'}", QUICK.experiment, tmp_path))
    assert note is not None
    write_note(state, store_key(other, QUICK.experiment, tmp_path), note)
    assert _sync(bench, other)[0] == 1
    assert len(_runs(other)) == 1


def test_a_node_whose_description_cannot_be_read_keeps_no_other_out(
    bench: Bench, empty_store: Path, tmp_path: Path
) -> None:
    uri = _store(empty_store, tmp_path)
    broken, whole = bench.trial(seed=1), bench.trial(seed=2)
    for node in (broken, whole):
        _measured(bench, node)
    about = bench.states[broken.fingerprint].folder / "node.json"
    about.write_text(about.read_text().replace('"data_digest": "', '"data_digest": "0'))
    done = sync_states(bench.states, uri, tmp_path)
    assert done.runs == 1
    assert len(done.problems) == 1
    assert broken.fingerprint in done.problems[0]
    assert _runs(uri).keys() == {whole.fingerprint}


def test_a_store_that_is_away_is_a_sentence(bench: Bench) -> None:
    _measured(bench, bench.trial())
    with pytest.raises(TrackingError, match="cannot be used"):
        sync_states(bench.states, "http://127.0.0.1:9", bench.root)


@pytest.mark.parametrize(("number", "is_acquired"), [(errno.EWOULDBLOCK, False), (errno.ENOLCK, True)])
def test_a_file_system_without_locks_does_not_keep_everybody_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int, is_acquired: bool
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert NodeLock(bench.states[bench.trial().fingerprint]).acquire() is is_acquired


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": 3}', '{"KEY": {"unknown": 1}}', '{"KEY": 7}'])
def test_a_note_that_is_torn_or_of_an_earlier_version_is_none(bench: Bench, text: str) -> None:
    state = bench.states[bench.trial().fingerprint]
    key = store_key("sqlite:///a.db", "e")
    (state.folder / "tracking.json").write_text(text.replace("KEY", key))
    assert read_note(state, key) is None
    write_note(state, key, SyncNote("r", 3))
    assert read_note(state, key) == SyncNote("r", 3)


def test_notes_are_kept_per_store_and_experiment_whoever_asks() -> None:
    keys = [
        store_key(uri, experiment)
        for uri in ("http://h:1", "http://h:2", "sqlite:///a.db", "sqlite:////a.db")
        for experiment in ("e", "f")
    ]
    assert len(set(keys)) == len(keys)
    assert store_key("http://me:secret@h:1/", "e") == store_key("http://you:word@h:1", "e") == keys[0]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://me:secret@host:5000/path", "http://me@host:5000/path"),
        ("postgresql://me:s@cret@host/db", "postgresql://me@host/db"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
    ],
)
def test_a_password_is_not_printed(uri: str, told: str) -> None:
    assert shown(uri) == told
