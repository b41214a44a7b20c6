"""State folders: what a launcher writes a worker reads, and what a worker writes survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.errors import OutputError
from ablations.planning.nodes import EvaluationNode
from ablations.planning.optimisation_plans import make_search_plan
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.planning.search import get_search
from ablations.presets import get_preset
from ablations.registry import get_study
from runners.state.nodes import NodeState, StateStore


def test_every_node_of_a_plan_comes_back_from_its_folder(tmp_path: Path) -> None:
    request = Request(get_preset("smoke"))
    plan = make_plan([get_study(name, request.base()) for name in ("resolution", "temperature")], request)
    store = StateStore(tmp_path)
    for node in plan.nodes:
        store[node.fingerprint].describe(node)
    assert [store[node.fingerprint].node() for node in plan.nodes] == list(plan.nodes)
    assert any(isinstance(node, EvaluationNode) for node in plan.nodes)


def test_the_title_of_a_proposed_training_follows_what_is_proposed(tmp_path: Path) -> None:
    node = make_search_plan(get_search("parts"), Request(get_preset("smoke")), trials=2, repeats=0).nodes[1]
    state = StateStore(tmp_path)[node.fingerprint]
    state.describe(node)
    assert state.title(node) == (state.about() or {})["title"] == "MobileNetV2 ×0.35 depth 0.5 · search 2"
    state.note_proposal(
        values={"model.num_kernels": 8, "placement": "nowhere", "model.reduction": 8, "temperature": "τ = 1"}
    )
    state.describe(node)
    assert state.title(node) == (state.about() or {})["title"] == "MobileNetV2 ×0.35 depth 0.5 · search 2"
    state.note_proposal(
        values={"model.num_kernels": 8, "placement": "expansion", "model.reduction": 8, "temperature": "τ = 1"}
    )
    assert state.title(node) == "DY-MobileNetV2 ×0.35 depth 0.5 K=8 C/8 at expansion τ=1 · search 2"


def test_only_nodes_with_a_result_are_done(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for name in ("a", "b"):
        store[name].folder.mkdir()
    store["a"].fail("OSError", "no", "trace")
    store["a"].finish({"test/top1": 50.0}, seconds=1.5)
    store["b"].fail("OSError", "no", "trace")
    assert store.done(["a", "b", "c"]) == {"a"}
    assert store["a"].failure() is None
    assert store["b"].failure() is not None
    assert "trace" in store["b"].log_file.read_text()


def test_events_after_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    state = NodeState(tmp_path)
    for step in (1, 2, 3):
        state.append_event(step, {"val/top1": step * 10.0})
    state.truncate_events(after_step=2)
    state.append_event(3, {"val/top1": 33.0})
    assert [(event["step"], event["metrics"]["val/top1"]) for event in state.events()] == [(1, 10), (2, 20), (3, 33)]


def test_a_half_written_event_is_not_read(tmp_path: Path) -> None:
    state = NodeState(tmp_path)
    state.append_event(1, {"a": 1.0})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"step": 2, "ti')
    assert [event["step"] for event in state.events()] == [1]


def test_a_folder_that_describes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="describes no node"):
        NodeState(tmp_path / "nothing").node()
