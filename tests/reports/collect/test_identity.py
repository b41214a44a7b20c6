"""A tracked run counts for a node only if what it says of itself is the node's."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ablations import vocabulary as names
from ablations.errors import ReportError
from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Plan
from ablations.spec.settings import flatten
from ablations.study import Study, Variant
from reports.collect.identity import check_owner, contradiction
from reports.collect.runs import collect
from tests.reports.made_up import AGGREGATION, Store, plan_of


def _run(node: Node, tags: dict[str, str] | None = None, params: dict[str, Any] | None = None) -> Any:
    """A run as it is tracked, but for what is changed; `None` leaves a param out."""
    own = flatten(node.spec.model_dump(exclude={"seed"}))
    settings = {"seed": node.spec.seed, **{key: value for key, value in own.items() if value is not None}}
    tracked = {key: value for key, value in {**settings, **(params or {})}.items() if value is not None}
    about = {names.TAG_KIND: node.kind, names.TAG_SEED: str(node.spec.seed), **(tags or {})}
    return SimpleNamespace(tags=about, params={key: str(value) for key, value in tracked.items()})


def _trial(plan: Plan) -> Node:
    return next(node for node in plan.nodes if node.kind == "trial")


def test_what_is_tracked_of_a_node_does_not_contradict_it(plan: Plan) -> None:
    for node in plan.nodes:
        assert contradiction(_run(node), node) is None


def test_a_network_counted_for_another_training_is_the_same_network() -> None:
    variants = (Variant(name="a", changes={"train.epochs": 3}), Variant(name="b", changes={"model.width": 0.5}))
    plan = plan_of(Study(name="mine", title="m", question="?", reference="a", variants=variants, with_cost=True))
    node = plan.node(plan.cost_cells[0].fingerprint)
    assert contradiction(_run(node, params={"train.epochs": 7, "data.train_images": 10}), node) is None
    problem = contradiction(_run(node, params={"model.width": 0.5}), node)
    assert problem == "its param model.width is 0.5, not 0.35"


@pytest.mark.parametrize(
    ("tags", "params", "said"),
    [
        ({names.TAG_KIND: "evaluation"}, {}, "its tag says that it is a evaluation, not a trial"),
        ({names.TAG_SEED: "17"}, {}, "its tag says seed 17"),
        ({names.TAG_SEED: "many"}, {}, "its tag says seed many"),
        ({}, {"seed": 17}, "its param seed is 17"),
        ({}, {"model.width": 0.123}, "its param model.width is 0.123"),
        ({}, {"data.name": "another"}, "its param data.name is another"),
        ({}, {"model.num_kernels": 9}, "its param model.num_kernels is 9"),
    ],
)
def test_a_run_of_another_node_is_told_from_its_tags_and_params(
    plan: Plan, tags: dict[str, str], params: dict[str, Any], said: str
) -> None:
    node = _trial(plan)
    problem = contradiction(_run(node, tags, params), node)
    assert problem is not None
    assert said in problem


@pytest.mark.parametrize(
    "params",
    [
        {"data.root": "/data/of/another/machine"},
        {"data.workers": 99},
        {"train.devices": 8},
        {"model.width": None},
        {"of.another.version": "x"},
    ],
)
def test_what_is_no_part_of_a_fingerprint_contradicts_nothing(plan: Plan, params: dict[str, Any]) -> None:
    node = _trial(plan)
    assert contradiction(_run(node, params=params), node) is None


def test_a_number_may_be_written_in_another_way(plan: Plan) -> None:
    node = _trial(plan)
    rate = node.spec.train.learning_rate
    assert contradiction(_run(node, params={"train.learning_rate": f"{rate:.12e}"}), node) is None


def test_an_evaluation_of_another_change_is_told_from_its_params(plan: Plan) -> None:
    average, most = (
        next(n for n in plan.nodes if isinstance(n, EvaluationNode) and n.intervention.aggregation == name)
        for name in ("average", "max")
    )
    assert contradiction(_run(average, params={"intervention.aggregation": "average"}), average) is None
    problem = contradiction(_run(average, params={"intervention.aggregation": "average"}), most)
    assert problem == "its param intervention.aggregation is average, not max"
    for name, own in (("temperature", "left alone"), ("seed", "0")):
        problem = contradiction(_run(most, params={f"intervention.{name}": 3}), most)
        assert problem == f"its param intervention.{name} is 3, not {own}"


def test_a_report_leaves_out_a_run_of_another_node_and_says_so(make_store: Callable[[], Store]) -> None:
    plan = plan_of(AGGREGATION, seeds=1)
    store = make_store()
    trial = _trial(plan)
    honest = store.add(plan, trial, {"test/top1": 80.0})
    other = store.add(plan, trial, {"test/top1": 12.0}, start=1_800_000_000_000)
    store.set_params(other, {"model.num_kernels": 17})
    results = collect(plan, store.uri)
    assert set(results.runs["run_id"]) == {honest}
    (warning,) = [text for text in results.warnings if other in text]
    assert "is not of fingerprint" in warning
    assert "its param model.num_kernels is 17" in warning


def test_runs_of_other_nodes_alone_are_no_results(make_store: Callable[[], Store]) -> None:
    plan = plan_of(AGGREGATION, seeds=1)
    store = make_store()
    store.add(plan, _trial(plan), {"test/top1": 80.0}, tags={names.TAG_SEED: "5"})
    with pytest.raises(ReportError, match="no finished run"):
        collect(plan, store.uri)


@pytest.mark.parametrize("content", ["[]", "null", '"x"', '{"fingerprint": "ffff"}', '{"fingerprint": null}'])
def test_a_file_of_another_node_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="another node"):
        check_owner(content, "c0ffee")


@pytest.mark.parametrize("content", [{"fingerprint": "c0ffee"}, {"events": []}])
def test_an_own_file_and_one_of_an_earlier_version_are_taken(content: dict[str, Any]) -> None:
    check_owner(json.dumps(content), "c0ffee")
