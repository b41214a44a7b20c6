"""What a plug-in computes belongs to what it names: fingerprints, records, workers, and who is told that it changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import AblationError, DatasetError, PluginError
from ablations.planning import optimisation_plans
from ablations.planning.nodes import CostNode, EvaluationNode, Node, TrialNode, plugins_of
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.planning.search import Search
from ablations.presets import PRESETS
from ablations.registry import available_studies, get_study
from ablations.spec import identities
from ablations.spec.factors import Factor
from ablations.spec.fingerprint import (
    cost_fingerprint,
    digest,
    evaluation_fingerprint,
    spec_version_of,
    trial_fingerprint,
    what_counts,
)
from ablations.spec.identities import changes
from ablations.spec.parts import SPEC_VERSION, Intervention
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study, Variant
from ablations.vocabulary import TAG_PLUGINS
from runners import plugins
from runners.state.nodes import StateStore, about
from runners.tracking.node_tags import plugin_tags
from runners.upkeep.explain import differences
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.loading import Load, changed, loaded_afresh

_MODULE = "identified_plugin_of_a_test"

STRATEGY = """\
import dyconv
K = 2

@dyconv.register_aggregation("mine")
def mine(attention, context):
    return attention.softmax(1) * K / K
"""
NETWORK = """\
import dyconv
from torch import nn
CHANNELS = 8

@dyconv.register_model("my_net")
def my_net(spec):
    convolutions = nn.Conv2d(spec.in_channels, CHANNELS, 3), nn.ReLU(), nn.Conv2d(CHANNELS, 8, 3), nn.ReLU()
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, spec.num_classes))
"""
DATA = """\
import torch
from ablations.datasets import DatasetFacts, register_dataset
from runners.data import Split, make_dataset, register_loader

CLASSES = 2
register_dataset(DatasetFacts(
    name="my_data", title="Mine", num_classes=CLASSES, channels=1, image_size=16,
    train_images=64, validation_images=32, test_images=32))
LOADED = []

@register_loader("my_data")
def my_data(facts, *, root, download):
    LOADED.append(root)
    labels = torch.arange(128) % 2
    images = torch.zeros(128, 1, 16, 16, dtype=torch.uint8) + 7
    parts = [Split(i.clone(), l.clone()) for i, l in zip(images.split([64, 32, 32]), labels.split([64, 32, 32]))]
    return make_dataset(facts, train=parts[0], validation=parts[1], test=parts[2])
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads the plug-ins with this code as a new process would."""
    yield from loaded_afresh(tmp_path, monkeypatch, _MODULE)


def _trial(**settings: Any) -> TrialSpec:
    return resolve([], {key.replace("__", "."): value for key, value in settings.items()}, 0)


SMALL: dict[str, Any] = {"data__train_images": 64, "data__validation_images": 32, "data__test_images": 32}


@pytest.mark.parametrize(
    ("code", "old", "new", "settings"),
    [
        (STRATEGY, "K = 2", "K = 3", {"model__aggregation": "mine"}),
        (NETWORK, "CHANNELS = 8", "CHANNELS = 16", {"model__name": "my_net"}),
        (DATA, "+ 7", "+ 8", {"data__name": "my_data", **SMALL}),
        (DATA, "CLASSES = 2", "CLASSES = 3", {"data__name": "my_data", **SMALL}),
        (DATA, "arange(128) % 2", "arange(128) % 4 // 2", {"data__name": "my_data", **SMALL}),
    ],
)
def test_changed_code_is_another_training(load: Load, code: str, old: str, new: str, settings: dict[str, Any]) -> None:
    load(code)
    spec = _trial(**settings)
    before = trial_fingerprint(spec)
    load(f"# the same\n{code}")
    assert trial_fingerprint(spec) == before
    load(changed(code, old, new))
    assert trial_fingerprint(spec) != before


def test_a_loader_that_makes_the_same_images_another_way_is_the_same_data(load: Load) -> None:
    load(DATA)
    spec = _trial(data__name="my_data", **SMALL)
    before = trial_fingerprint(spec)
    load(changed(DATA, "torch.zeros(128, 1, 16, 16, dtype=torch.uint8) + 7", "torch.full((128, 1, 16, 16), 7).byte()"))
    assert trial_fingerprint(spec) == before


def test_a_data_set_is_loaded_once_however_often_it_is_asked_for(load: Load) -> None:
    load(DATA)
    for seed in range(3):
        trial_fingerprint(_trial(data__name="my_data", **SMALL).model_copy(update={"seed": seed}))
    assert len(sys.modules[f"{_MODULE}_0"].LOADED) == 1


def test_a_strategy_of_an_evaluation_leaves_its_training_as_it_is(load: Load) -> None:
    load(STRATEGY)
    spec, change = _trial(), Intervention(aggregation="mine")
    trial, evaluation = trial_fingerprint(spec), evaluation_fingerprint("t", change)
    load(changed(STRATEGY, "K = 2", "K = 3"))
    assert trial_fingerprint(spec) == trial
    assert evaluation_fingerprint("t", change) != evaluation


def test_the_cost_of_a_network_is_of_its_code(load: Load) -> None:
    load(NETWORK)
    spec = _trial(model__name="my_net")
    before = cost_fingerprint(spec)
    load(changed(NETWORK, "CHANNELS = 8", "CHANNELS = 9"))
    assert cost_fingerprint(spec) != before


def test_a_group_of_proposed_trainings_is_of_the_code_of_its_choices(load: Load) -> None:
    def group() -> str:
        factors = {
            "model.aggregation": Factor(choices=("attention", "mine")),
            "model.reduction": Factor(choices=(4, 8)),
        }
        search = Search(name="s", title="S", question="q", factors=factors)
        plan = optimisation_plans.make_search_plan(search, Request(PRESETS["smoke"]), 2, 0)
        assert "strategy mine" in plugins_of(plan.nodes[0])
        return plan.nodes[0].fingerprint

    load(STRATEGY)
    before = group()
    load(changed(STRATEGY, "K = 2", "K = 3"))
    assert group() != before


def test_what_names_no_plugin_has_the_fingerprint_that_it_always_had(load: Load) -> None:
    load(STRATEGY, NETWORK, DATA)
    for preset in PRESETS.values():
        request = Request(preset)
        studies = [get_study(name, request.base()) for name in available_studies()]
        for node in make_plan(studies, request).nodes:
            assert _as_before(node) == node.fingerprint, node.title
            assert "plugins" not in about(node)


def _as_before(node: Node) -> str:
    """Returns the fingerprint by the rule from before plug-ins had identities."""
    whole: dict[str, Any] = {"kind": node.kind, "spec_version": SPEC_VERSION}
    told, facts = about(node), node.spec.data.facts
    if isinstance(node, TrialNode):
        whole |= {"data_digest": facts.digest, "spec": what_counts(told["spec"])}
    elif isinstance(node, EvaluationNode):
        whole |= {"trial": node.network.fingerprint, "intervention": told["intervention"]}
    elif isinstance(node, CostNode):
        size = [facts.channels, facts.image_size, facts.image_size]
        whole |= {"classes": facts.num_classes, "input": size, "model": told["spec"]["model"]}
    return digest(whole)


@pytest.mark.parametrize("version", ["1", "'a'"])
def test_a_version_stands_for_the_code(load: Load, version: str) -> None:
    def fingerprints(given: str, k: str) -> list[str]:
        strategy = changed(STRATEGY, '"mine"', f'"mine", version={given}')
        network = changed(NETWORK, '"my_net"', f'"my_net", version={given}')
        data = changed(DATA, 'loader("my_data"', f'loader("my_data", version={given}')
        load(strategy.replace("K = 2", f"K = {k}"), network.replace("= 8", f"= {k}"), data.replace("+ 7", f"+ {k}"))
        specs = [{"model__aggregation": "mine"}, {"model__name": "my_net"}, {"data__name": "my_data", **SMALL}]
        return [trial_fingerprint(_trial(**settings)) for settings in specs]

    before = fingerprints(version, "2")
    assert sys.modules[f"{_MODULE}_2"].LOADED == []
    assert fingerprints(version, "3") == before
    assert not set(fingerprints("99", "2")) & set(before)


def test_code_that_cannot_be_read_needs_a_version(load: Load) -> None:
    code = "import dyconv\ndyconv.register_aggregation('hidden'{})(eval('lambda a, c: a'))\n"
    with pytest.raises(PluginError, match=r"strategy hidden of plug-in .*register_aggregation\('hidden', version=1\)"):
        load(code.format(""))
    load(code.format(", version=3"))
    assert identities._IDENTITIES["strategy", "hidden"].code == "version 3"


@pytest.mark.parametrize("code", [STRATEGY, NETWORK, DATA])
def test_two_plugins_cannot_register_one_name(load: Load, code: str) -> None:
    with pytest.raises(AblationError, match=r"registered (already|twice)"):
        load(code, code)


@pytest.mark.parametrize(
    "code",
    [
        changed(STRATEGY, '"mine"', '"average"'),
        changed(NETWORK, '"my_net"', '"resnet18"'),
        changed(DATA, "my_data", "digits"),
    ],
)
def test_a_plugin_cannot_take_a_name_of_the_projects(load: Load, code: str) -> None:
    with pytest.raises(AblationError, match=r"registered (already|twice)"):
        load(code)


def test_code_that_is_put_in_place_of_the_projects_is_in_the_fingerprint(load: Load) -> None:
    spec = _trial(model__aggregation="average")
    before = trial_fingerprint(spec)
    load("from dyconv import aggregation\naggregation._STRATEGIES['average'] = lambda a, c: a\n")
    assert trial_fingerprint(spec) != before


def test_a_function_that_a_plugin_names_is_called_once(load: Load, tmp_path: Path) -> None:
    load("")
    name = f"{_MODULE}_called"
    body = "    dyconv.register_aggregation('late')(lambda a, c: a)\n"
    (tmp_path / f"{name}.py").write_text(f"import dyconv\ndef register():\n{body}")
    for _ in range(2):
        plugins.load_plugins([f"{name}:register"])
    assert identities._IDENTITIES["strategy", "late"].plugin == name


def test_a_spec_version_is_found_of_what_plugins_compute(load: Load) -> None:
    load(STRATEGY)
    trial = _trial(model__aggregation="mine")
    node = TrialNode(trial_fingerprint(trial), trial)
    changes = [Intervention(temperature=3.0), Intervention(aggregation="max")]
    for each in changes:
        evaluation = EvaluationNode(evaluation_fingerprint(node.fingerprint, each), node, each)
        assert spec_version_of(evaluation.fingerprint, about(evaluation)) == SPEC_VERSION
    assert spec_version_of(node.fingerprint, about(node)) == SPEC_VERSION


def _described(load: Load, tmp_path: Path, code: str, settings: dict[str, Any]) -> tuple[StateStore, Node]:
    load(code)
    spec = _trial(train__epochs=1, **settings)
    node = TrialNode(trial_fingerprint(spec), spec)
    states = StateStore(tmp_path / "state")
    states[node.fingerprint].describe(node)
    return states, node


@pytest.mark.parametrize(
    ("code", "change", "settings", "reason"),
    [
        (STRATEGY, ("K = 2", "K = 3"), {"model__aggregation": "mine"}, "strategy mine (plug-in"),
        (NETWORK, ("CHANNELS = 8", "CHANNELS = 4"), {"model__name": "my_net"}, "network my_net (plug-in"),
        (DATA, ("+ 7", "+ 8"), {"data__name": "my_data", **SMALL}, "data set 'my_data' has changed"),
    ],
)
def test_a_worker_with_another_plugin_says_so_and_measures_nothing(
    load: Load, tmp_path: Path, code: str, change: tuple[str, str], settings: dict[str, Any], reason: str
) -> None:
    states, node = _described(load, tmp_path, code, settings)
    load(changed(code, *change))
    assert run_node(Task(states.root, node.fingerprint, device="cpu", plugins=(f"{_MODULE}_0",))) == "failed"
    failure = states[node.fingerprint].failure()
    assert failure is not None
    assert reason in failure["message"]
    assert "Run the study again" in failure["message"]


def test_what_has_changed_is_told_by_name(load: Load, tmp_path: Path) -> None:
    states, node = _described(load, tmp_path, STRATEGY, {"model__aggregation": "mine"})
    assert plugin_tags(states[node.fingerprint])[TAG_PLUGINS].startswith('{"strategy mine":{"code":"')
    load(changed(STRATEGY, "K = 2", "K = 3"))
    (difference,) = differences(states[node.fingerprint], node)
    assert difference.sentence.startswith(f"strategy mine (plug-in {_MODULE}_0) has changed since: code ")


def test_a_record_from_before_says_that_it_has_no_code() -> None:
    (change,) = changes(None, {"strategy mine": {"code": "a" * 64, "plugin": "m"}})
    assert str(change) == "strategy mine (plug-in m) was measured before the code of plug-ins was recorded"
    assert changes(None, None) == changes({}, None) == []


def test_two_plans_of_changed_code_share_nothing_that_names_it(load: Load) -> None:
    load(STRATEGY)
    two = Variant(name="two", intervention=Intervention(aggregation="mine"))
    variants = (Variant(name="all"), two)
    study = Study(name="mine", title="Mine", question="q", reference="all", variants=variants)
    first = make_plan([study], Request(PRESETS["smoke"]))
    load(changed(STRATEGY, "K = 2", "K = 3"))
    second = make_plan([study], Request(PRESETS["smoke"]))
    assert first.trials.keys() == second.trials.keys()
    assert not first.evaluations.keys() & second.evaluations.keys()


def test_a_data_set_that_cannot_be_loaded_says_what_to_do(load: Load) -> None:
    load(changed(DATA, "    LOADED.append(root)", "    raise OSError('no disk')"))
    with pytest.raises(DatasetError, match=r"'my_data' .*OSError: no disk .*digest.*version="):
        trial_fingerprint(_trial(data__name="my_data", **SMALL))
