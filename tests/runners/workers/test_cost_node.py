"""A network that is counted and timed: the same door as a training, no training and no data."""

from __future__ import annotations

from typing import Any

import pytest

from ablations import vocabulary as names
from ablations.datasets.facts import DatasetFacts
from ablations.errors import SpecError
from ablations.planning.nodes import CostNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.fingerprint import cost_fingerprint
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study, Variant
from runners.cli.plan import describe_networks
from runners.launching.launch import _COST_WORK, _outcome, _work
from runners.state.nodes import NodeState
from runners.training.network import as_static, build_network
from runners.workers import preflight
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench

SMALL = {"model.name": "mobilenet_v2", "model.width": 0.35, "model.depth": 0.5}


def _node(**changes: Any) -> CostNode:
    spec = resolve([SMALL, {key.replace("__", "."): value for key, value in changes.items()}], {}, 0)
    return CostNode(cost_fingerprint(spec), spec)


def _run(bench: Bench, node: CostNode) -> NodeState:
    bench.states[node.fingerprint].describe(node)
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "finished", _failure(bench, node)
    return bench.states[node.fingerprint]


def _failure(bench: Bench, node: CostNode) -> object:
    return bench.states[node.fingerprint].failure()


def _metrics(state: NodeState) -> dict[str, float]:
    result = state.result()
    assert result is not None
    found: dict[str, float] = result["metrics"]
    return found


def _parameters(node: CostNode) -> int:
    model = build_network(node.spec.model, node.spec.data.facts, node.spec.seed)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "changes",
    [{}, {"model__layer": "static"}, {"model__layer": "condconv"}, {"model__normalization": "sigmoid"}],
    ids=["dynamic", "static", "condconv", "sigmoid"],
)
def test_a_network_is_counted_and_timed(bench: Bench, changes: dict[str, Any]) -> None:
    node = _node(**changes)
    found = _metrics(_run(bench, node))
    assert found.keys() == {
        names.COST_PARAMETERS,
        names.COST_MULTIPLY_ADDS,
        names.COST_LATENCY,
        names.COST_LATENCY_RATIO,
    }
    assert found[names.COST_PARAMETERS] == _parameters(node)
    assert found[names.COST_MULTIPLY_ADDS] > 0
    assert found[names.COST_LATENCY] > 0
    # No bound on the ratio: other work on the machine can double either time.
    assert found[names.COST_LATENCY_RATIO] > 0


def test_dynamic_layers_cost_more_than_static_ones(bench: Bench) -> None:
    dynamic, static = (_metrics(_run(bench, _node(model__layer=layer))) for layer in ("dynamic", "static"))
    assert dynamic[names.COST_PARAMETERS] > 2 * static[names.COST_PARAMETERS]
    assert dynamic[names.COST_MULTIPLY_ADDS] > static[names.COST_MULTIPLY_ADDS]


def test_it_leaves_a_result_and_neither_weights_nor_metrics_per_epoch(bench: Bench) -> None:
    state = _run(bench, _node())
    assert state.node() == _node()
    assert (state.events(), state.weights_file.exists()) == ([], False)
    assert _outcome(state.result() or {}) == f"{_parameters(_node()) / 1e6:.2f} M parameters"


def test_the_network_it_is_timed_against_differs_in_its_layers_only() -> None:
    for changes in ({}, {"model__layer": "condconv"}, {"model__squeeze_excitation": True}):
        model = _node(**changes).spec.model
        assert as_static(model) == _node(**{**changes, "model__layer": "static"}).spec.model


ADOPTED = {"model__name": "timm/tf_efficientnet_cc_b0_4e", "model__layer": "adopted"}


def test_a_network_with_layers_of_its_own_is_counted_and_timed_alone(bench: Bench) -> None:
    node = _node(**ADOPTED)
    metrics = _metrics(_run(bench, node))
    assert metrics.keys() == {names.COST_PARAMETERS, names.COST_MULTIPLY_ADDS, names.COST_LATENCY}
    assert metrics[names.COST_PARAMETERS] == _parameters(node)


def test_a_plan_describes_it(capsys: pytest.CaptureFixture[str]) -> None:
    variants = [Variant(name="a", changes={key.replace("__", "."): value for key, value in ADOPTED.items()})]
    study = Study(name="one", title="One", question="?", reference="a", variants=variants)
    describe_networks(make_plan([study], Request(get_preset("quick"))), every=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "timm/tf_efficientnet_cc_b0_4e: 24 of 81 convolutions are dynamic. Left static (57): conv_stem" in printed


def test_a_network_that_cannot_be_built_is_a_failure_in_words(bench: Bench) -> None:
    node = _node(model__where={"role": ["conv1"]})
    bench.states[node.fingerprint].describe(node)
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "failed"
    failure = bench.states[node.fingerprint].failure()
    assert failure is not None
    assert failure["kind"] == "PlacementError"


def test_its_work_is_known_without_its_data() -> None:
    assert _work(_node(data__name="imagenet", data__augmentation="none")) == _COST_WORK


def _plan(*variants: Variant, **overrides: Any) -> Plan:
    own = Study(
        name="mine",
        title="m",
        question="?",
        reference=variants[0].name,
        metric=names.COST_PARAMETERS,
        baseline={"data.name": "imagenet", "data.augmentation": "none", **SMALL},
        variants=variants,
    )
    return make_plan([own], Request(get_preset("quick"), overrides))


def test_preflight_needs_no_files_for_a_network_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_open", lambda spec: pytest.fail(f"{spec.data.name} was opened"))
    preflight.check(_plan(Variant(name="a")))


def test_preflight_opens_the_data_of_a_training_of_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def note(spec: TrialSpec) -> DatasetFacts:
        opened.append(spec.data.name)
        return spec.data.facts

    monkeypatch.setattr(preflight, "_open", note)
    request = Request(get_preset("quick"), seeds=1)
    trained = Study(name="t", title="t", question="?", reference="a", variants=(Variant(name="a"),))
    counted = trained.model_copy(update={"name": "c", "metric": names.COST_PARAMETERS})
    preflight.check(make_plan([counted, trained], request))
    assert opened == ["fashion_mnist_mini"]


def test_preflight_names_a_network_that_cannot_be_built() -> None:
    wrong = Variant(name="a", changes={"model.where": {"role": ["conv1"]}})
    with pytest.raises(SpecError, match=r"DY-MobileNetV2 .* · cost: .*conv1"):
        preflight.check(_plan(wrong))


def test_what_is_described_comes_back(bench: Bench) -> None:
    request = Request(get_preset("quick"))
    plan = make_plan([get_study("cost", request.base())], request)
    for node in plan.nodes:
        bench.states[node.fingerprint].describe(node)
    assert [bench.states[node.fingerprint].node() for node in plan.nodes] == list(plan.nodes)
    assert bench.states.done(plan.costs) == frozenset()
