"""Files that are torn, damaged or another node's: named by every verb, a crash of none, never taken for a result."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.errors import OutputError
from runners.estimates.measurements import Measurements
from runners.state.last_run import remember_run
from runners.state.nodes import NodeState, StateStore
from runners.state.schemas import Damage, set_aside
from runners.upkeep.damages import damages_of, set_common_aside, set_node_aside
from tests.upkeep.made_up import Folder, Invoke

DEEP = b"[" * 100_000 + b"]" * 100_000
GARBAGE = {
    "empty": b"",
    "half": b'{"metrics": {"test/t',
    "text": b'"x"',
    "number": b"7",
    "list": b"[]",
    "empty object": b"{}",
    "null": b"null",
    "deep": DEEP,
    "no UTF-8": b'{"kind": "\xff\xfe"}',
    "surrogate": b'{"kind": "\\ud800"}',
    "zeros": bytes(500),
    "huge": b'{"seconds": ' + b"9" * 6000 + b"}",
}
JSON_FILES = (
    "node.json",
    "result.json",
    "failure.json",
    "proposal.json",
    "origin.json",
    "tracking.json",
    "progress.json",
)
COMMON = ("last_run.json", "state/place.json")
VERBS = (
    ("status", "--nodes"),
    ("status", "tiny.yaml", "--preset", "smoke", "--json"),
    ("explain", "tiny.yaml", "--preset", "smoke"),
    ("gc",),
    ("gc", "tiny.yaml", "--results"),
)


@pytest.fixture
def used(folder: Folder) -> Folder:
    """A folder in which one node is done, one has failed and one runs, and all of its files are there."""
    plan = folder.plan()
    folder.launch(plan, alive=True)
    folder.finish(plan, "wide")
    folder.fail(folder.state(plan, "calm"), "input_output")
    running = folder.state(plan, "averaged")
    folder.lease(running)
    running.report_progress(epoch=1, epochs=4, step=10, steps=40, images_per_second=12.0, loss=1.0)
    running.append_event(1, {"train/loss": 1.0})
    for variant in ("wide", "calm"):
        state = folder.owe(plan, variant)
        state.append_event(1, {"train/loss": 1.0})
        state.append_event(2, {"train/loss": 0.5})
        (state.folder / "tracking.json").write_text('{"k": {"run_id": "r", "step": 1, "complete": false}}')
        state.note_proposal(values={"train.learning_rate": 0.1})
    asked = {"preset": "smoke", "overrides": [], "seeds": None, "canary": False, "plugins": []}
    remember_run(folder.root, ["tiny.yaml"], {**asked, "all_studies": False, "tuned": False, "tuned_from": None})
    return folder


def _done(folder: Folder) -> NodeState:
    return folder.state(folder.plan(), "wide")


@contextmanager
def _instead(path: Path, content: bytes | None) -> Iterator[None]:
    """Puts something in place of a file for a while: bytes, or a folder."""
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    yield
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)


def _files(folder: Folder) -> list[Path]:
    """Returns every kind of file that is read, of each node and of the folder."""
    plan = folder.plan()
    states = [folder.states[folder.cell(plan, variant).fingerprint].folder for variant in ("wide", "calm", "averaged")]
    names = (*JSON_FILES, "events.jsonl", "attempts/000001.json", "correctness.json", "attention.json")
    of_nodes = [state / name for state in states for name in names]
    others = [*folder.root.glob("launches/*.json"), *folder.root.glob("plans/*.json")]
    return [*of_nodes, *others, *(folder.root / name for name in COMMON), Measurements(folder.root).file]


@pytest.mark.parametrize("garbage", [*GARBAGE, "folder"])
@pytest.mark.parametrize("name", ["result.json", "node.json"])
def test_what_cannot_be_read_is_no_result_is_named_and_is_set_aside(used: Folder, name: str, garbage: str) -> None:
    state = _done(used)
    # As an earlier version left it: the result does not say whose it is.
    path = state.folder / "result.json"
    result = json.loads(path.read_text())
    del result["fingerprint"]
    path.write_text(json.dumps(result))
    assert state.is_done
    path = state.folder / name
    path.unlink()
    if garbage == "folder":
        path.mkdir()
    else:
        path.write_bytes(GARBAGE[garbage])
    assert not state.is_done
    assert used.states.done([state.fingerprint]) == frozenset()
    assert any(str(path) in line for line in damages_of(used.root))
    moved = set_node_aside(state)
    assert path in [damage.path for damage in moved]
    assert not path.exists()
    assert list(state.folder.glob(f".{name}.*.damaged"))
    last = state.lease()
    assert last is not None
    assert last.is_over(), "nobody waits for the result of an attempt that says that it has finished"
    assert set_node_aside(state) == []


RESULT = {"metrics": {"test/top1": 50.0}, "seconds": 2.0, "time": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": None},
        {"metrics": {}},
        {"metrics": {"test/top1": "50"}},
        {"metrics": {"test/top1": True}},
        {"metrics": [50.0]},
        {"seconds": None},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"time": float("inf")},
        {"time": "now"},
        {"time": 1e300},
        {"versions": [1]},
        {"micro_batch": "8"},
        {"fingerprint": 7},
        {"fingerprint": "f" * 64},
    ],
)
def test_a_result_with_a_wrong_field_is_no_result(used: Folder, change: dict[str, Any]) -> None:
    state = _done(used)
    (state.folder / "result.json").write_text(json.dumps({**RESULT, **change}))
    assert state.result() is None
    assert [damage.path.name for damage in state.damages()] == ["result.json"]


def test_what_a_later_version_says_beside_it_does_no_harm(used: Folder) -> None:
    state = _done(used)
    more = {
        **RESULT,
        "fingerprint": state.fingerprint,
        "processor": {"lanes": 8},
        "metrics": {"a": float("nan"), "b": 1},
    }
    (state.folder / "result.json").write_text(json.dumps(more))
    assert (state.result() or {})["processor"] == {"lanes": 8}
    for path in (state.folder / "node.json", next(used.root.glob("launches/*.json"))):
        path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    attempt = state.folder / "attempts/000001.json"
    content = json.loads(attempt.read_text())
    attempt.write_text(json.dumps({**content, "colour": 1, "process": {**content["process"], "colour": 1}}))
    assert damages_of(used.root) == ()
    assert state.is_done
    assert state.attempts()[0].launch == "first"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("garbage", ["empty", "text", "empty object", "deep", "no UTF-8", "folder"])
def test_no_verb_that_only_reads_fails(used: Folder, invoke: Invoke, verb: tuple[str, ...], garbage: str) -> None:
    files = _files(used)
    with ExitStack() as stack:
        for path in files:
            stack.enter_context(_instead(path, GARBAGE.get(garbage)))
        code, said = invoke(*verb)
        assert code in (0, 1, 2), said
        assert "Traceback" not in said
        if verb[:2] == ("status", "tiny.yaml"):
            assert sum(path.name in said for path in files) > 10, "what cannot be read is named"
        assert all(path.exists() for path in files), "who only reads moves nothing"


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just("a/../\0b")
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
Change = Callable[[bytes], bytes]


@st.composite
def _changes(draw: st.DrawFn) -> Change:
    """Draws what makes one file into another: bytes, any JSON, a part that is another one, gone, or added."""
    how = draw(st.sampled_from(["bytes", "value", "part", "gone", "added", "cut"]))
    raw, value = draw(st.binary(max_size=60)), draw(VALUES)
    place, key = draw(st.integers(0, 50)), draw(st.text(max_size=5))

    def changed(content: bytes) -> bytes:
        if how == "bytes":
            return raw
        if how == "value":
            return json.dumps(value).encode()
        if how == "cut":
            return content[: place * len(content) // 50]
        line, *rest = content.split(b"\n") if content.startswith(b'{"metrics"') else [content]
        try:
            parsed = json.loads(line)
        except ValueError:
            return raw
        holders = [parsed, *(part for part in parsed.values() if isinstance(part, dict))]
        holder = holders[place % len(holders)]
        keys = sorted(holder)
        if how == "added" or not keys:
            holder[key] = value
        elif how == "gone":
            del holder[keys[place % len(keys)]]
        else:
            holder[keys[place % len(keys)]] = value
        return b"\n".join([json.dumps(parsed).encode(), *rest])

    return changed


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 100), change=_changes())
def test_no_content_makes_a_verb_fail(used: Folder, invoke: Invoke, number: int, change: Change) -> None:
    files = _files(used)
    path = files[number % len(files)]
    with _instead(path, change(path.read_bytes() if path.is_file() else b"{}")):
        for verb in VERBS:
            code, said = invoke(*verb)
            assert code in (0, 1, 2), said
            assert "Traceback" not in said


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 100), change=_changes())
def test_no_content_makes_a_reader_fail(used: Folder, number: int, change: Change) -> None:
    files = _files(used)
    path = files[number % len(files)]
    with _instead(path, change(path.read_bytes() if path.is_file() else b"{}")):
        damages_of(used.root)
        for fingerprint in used.states.fingerprints():
            state = used.states[fingerprint]
            for read in (state.result, state.failure, state.proposal, state.progress, state.events, state.attempts):
                read()
            try:
                state.node()
            except OutputError:
                continue


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 100), change=_changes())
def test_no_content_makes_a_sync_fail(used: Folder, invoke: Invoke, number: int, change: Change) -> None:
    files = _files(used)
    path = files[number % len(files)]
    with _instead(path, change(path.read_bytes() if path.is_file() else b"{}")):
        code, said = invoke("sync")
        assert code in (0, 3), said
        assert "Traceback" not in said


def _copy(state: NodeState, target: NodeState) -> None:
    shutil.rmtree(target.folder, ignore_errors=True)
    shutil.copytree(state.folder, target.folder)


@pytest.mark.parametrize("lies", ["nothing", "node.json", "node.json and result.json"])
def test_a_folder_under_another_name_is_not_that_ones_result(used: Folder, invoke: Invoke, lies: str) -> None:
    plan = used.plan()
    wide, calm = used.state(plan, "wide"), used.states[used.cell(plan, "calm").fingerprint]
    _copy(wide, calm)
    for name in ("node.json", "result.json"):
        if name in lies:
            path = calm.folder / name
            path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": calm.fingerprint}))
    assert wide.is_done
    assert not calm.is_done, "what it describes hashes to another fingerprint"
    said = invoke("status", "--nodes")[1]
    assert f"{calm.folder} cannot be read: " in said
    assert "reused" not in invoke("explain", "tiny.yaml/calm", "--preset", "smoke")[1]
    said = invoke("gc", "--results")[1]
    assert str(calm.folder / "model.safetensors") not in said
    with pytest.raises(OutputError):
        calm.node()
    calm.describe(plan.node(calm.fingerprint))
    assert not (calm.folder / "result.json").exists()
    assert not calm.weights_file.exists(), "nor are its weights taken for this one's"
    assert calm.damages() == []


def test_a_result_alone_under_another_name_is_not_that_ones(used: Folder) -> None:
    plan = used.plan()
    wide, calm = used.state(plan, "wide"), used.state(plan, "calm")
    shutil.copy(wide.folder / "result.json", calm.folder)
    assert not calm.is_done
    assert [damage.path for damage in set_node_aside(calm)] == [calm.folder / "result.json"]
    assert [damage.path for damage in calm.damages()] == []


@pytest.mark.parametrize("name", ["correctness.json", "attention.json"])
def test_files_beside_a_result_say_whose_they_are(used: Folder, name: str) -> None:
    state = _done(used)
    content = {"sha256": "0", "fingerprint": state.fingerprint}
    (state.folder / name).write_text(json.dumps(content))
    assert state.damages() == []
    (state.folder / name).write_text(json.dumps({**content, "fingerprint": "f" * 64}))
    assert [damage.path.name for damage in state.damages()] == [name]


def test_every_node_of_a_plan_hashes_to_what_it_is_called(tmp_path: Path) -> None:
    """Otherwise no result would count: what makes a fingerprint must be in the description, or the check know of it."""
    from ablations.planning.plan import make_plan
    from ablations.planning.request import Request
    from ablations.presets import get_preset
    from ablations.registry import available_studies, get_study

    request = Request(get_preset("smoke"))
    plan = make_plan([get_study(name, request.base()) for name in available_studies()], request)
    for node in plan.nodes:
        state = StateStore(tmp_path)[node.fingerprint]
        state.describe(node)
        assert state.foreign() is None, node.title
        about = json.loads((state.folder / "node.json").read_text())
        other = {**about, "spec": {**about["spec"], "seed": about["spec"]["seed"] + 1}}
        if node.kind != "cost":
            (state.folder / "node.json").write_text(json.dumps(other))
            assert state.foreign() is not None, node.title


def test_a_lost_line_of_metrics_has_an_unfinished_training_begin_from_the_start(used: Folder) -> None:
    state = used.states[used.cell(used.plan(), "calm").fingerprint]
    (state.folder / "checkpoint-000000002.safetensors").write_bytes(b"c")
    with (state.folder / "events.jsonl").open("a") as file:
        file.write("garbage\n")
    assert [event["step"] for event in state.events()] == [1, 2]
    assert len(set_node_aside(state)) == 1
    assert state.events() == []
    assert not list(state.folder.glob("checkpoint-*"))


def test_what_is_run_is_left_alone(used: Folder) -> None:
    state = used.states[used.cell(used.plan(), "averaged").fingerprint]
    (state.folder / "progress.json").write_text("")
    assert set_node_aside(state) == []


def test_a_file_that_the_system_refuses_to_read_is_not_set_aside(used: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    state = _done(used)
    honest = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self.name == "result.json":
            raise OSError(errno.EIO, "Input/output error")
        return honest(self)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", refuse)
        assert not state.is_done
        with pytest.raises(OutputError) as found:
            set_node_aside(state)
        assert found.value.errno == errno.EIO
    assert state.is_done, "it is as whole as before"


def test_files_of_the_folder_are_set_aside_too(used: Folder) -> None:
    paths = [used.root / "last_run.json", next(used.root.glob("launches/*.json")), next(used.root.glob("plans/*"))]
    for path in paths:
        path.write_bytes(b"[1")
    assert {damage.path for damage in set_common_aside(used.root)} == set(paths)
    assert not any(path.exists() for path in paths)
    set_aside(Damage(paths[0], "another launch was faster"))


def test_a_pipe_in_place_of_a_file_stops_nobody(used: Folder, invoke: Invoke) -> None:
    path = _done(used).folder / "result.json"
    path.unlink()
    os.mkfifo(path)
    assert "result.json cannot be read" in invoke("status")[1]


def test_gc_removes_what_was_set_aside(used: Folder, invoke: Invoke) -> None:
    state = _done(used)
    (state.folder / "failure.json").write_bytes(b"")
    set_node_aside(state)
    assert "what could not be read and was set aside: 1" in invoke("gc")[1]
    invoke("gc", "--yes")
    assert not list(state.folder.glob(".*.damaged"))
