"""Layer kinds of a user's module, from `--plugin` to measurements: settings, fingerprints, training and cost.

`SMOOTH` makes its attention alone; `SCALED` has a W(x) of its own: a static kernel whose output channels are scaled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations import vocabulary as names
from ablations.errors import SpecError
from ablations.files.schema import study_schema
from ablations.planning.nodes import CostNode, TrialNode
from ablations.planning.plan import changes_nothing, make_plan
from ablations.planning.request import Request
from ablations.planning.rows import make_rows, resolve_row
from ablations.presets import PRESETS
from ablations.registry import get_study
from ablations.spec import layers
from ablations.spec.fingerprint import cost_fingerprint, trial_fingerprint
from ablations.spec.parts import Intervention
from ablations.spec.settings import DEFAULTS
from ablations.spec.titles import model_title
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study, Variant
from runners.state.nodes import NodeState, StateStore
from runners.training.network import as_static, build_network, intervened
from runners.upkeep.explain import differences
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.command_line import Invoke
from tests.runners.bench import Bench
from tests.runners.loading import Load, changed, loaded_afresh

MODULE = "layer_plugin_of_a_test"
SMOOTH = """\
import torch
import dyconv
from torch import nn
GAIN = 1.0

@dyconv.register_layer("smooth", options=[dyconv.LayerOption("sharpness", 1.0, low=0.1, high=10.0)])
class SmoothConv2d(dyconv.ConvolutionLayer):
    def __init__(self, *geometry, num_kernels=4, aggregation="attention", sharpness=1.0):
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation)
        self.routing, self.sharpness = nn.Linear(self.in_channels, num_kernels), sharpness
        self.reset_parameters()

    def attention(self, input):
        return torch.tanh(GAIN * self.sharpness * self.routing(dyconv.average_pool(input)))
"""
SCALED = """\
import torch
import torch.nn.functional as F
import dyconv
from torch import nn
OPTIONS = [dyconv.LayerOption("floor", 0.5, low=0.0, high=1.0),
           dyconv.LayerOption("gate", "sigmoid", choices=("sigmoid", "softplus"))]

@dyconv.register_layer("scaled", options=OPTIONS, title="S-")
class ScaledConv2d(dyconv.ConvolutionLayer):
    def __init__(self, *geometry, aggregation="attention", floor=0.5, gate="sigmoid"):
        super().__init__(*geometry, num_kernels=1, aggregation=aggregation, attentions=("channel",))
        self.routing, self.floor = nn.Linear(self.in_channels, self.out_channels), floor
        self.gate = getattr(F, gate)
        self.reset_parameters()

    def attention(self, input):
        return self.floor + (1 - self.floor) * self.gate(self.routing(dyconv.average_pool(input)))

    def forward(self, input):
        if input.dim() == 3:
            return self.forward(input[None])[0]
        scale = self.aggregators["channel"](self.attention(input)).to(input.dtype)
        bias = None if self.bias is None else self.bias[0]
        output = F.conv2d(input, self.weight[0], bias, self.stride, self.padding, self.dilation, self.groups)
        return output * scale[:, :, None, None]
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads the plug-ins with this code as a new process would."""
    yield from loaded_afresh(tmp_path, monkeypatch, MODULE)


def _trial(layer: str, **options: Any) -> TrialSpec:
    settings = {f"model.options.{name}": value for name, value in options.items()}
    return resolve([], {"model.layer": layer, **settings}, 0)


def _node(layer: str, **options: Any) -> TrialNode:
    spec = _trial(layer, **options)
    return TrialNode(trial_fingerprint(spec), spec)


def _measure(bench: Bench, fingerprint: str) -> NodeState:
    run_node(Task(bench.root, fingerprint, device="cpu", plugins=(f"{MODULE}_0", f"{MODULE}_1")))
    state = bench.states[fingerprint]
    assert state.result() is not None, state.failure()
    return state


def test_a_kind_that_is_forgotten_leaves_no_setting_behind(load: Load) -> None:
    before = dict(DEFAULTS), dict(layers.LAYERS)
    load(SMOOTH, SCALED)
    assert {"smooth", "scaled"} == layers.LAYERS.keys() - layers.BUILT_IN_LAYERS
    assert "model.options.sharpness" in DEFAULTS
    load()
    assert before == (DEFAULTS, layers.LAYERS)
    # And may be registered again, with other options.
    load(SMOOTH.replace("sharpness", "slope"))
    assert [option.name for option in layers.LAYERS["smooth"].options] == ["slope"]


def test_options_are_settings_in_their_type_with_their_default(load: Load) -> None:
    load(SMOOTH, SCALED)
    spec = _trial("smooth", sharpness=2).model
    assert spec.options is not None
    # A whole number is the same real one, and so the same fingerprint.
    assert spec.options.model_dump() == {"sharpness": 2.0}
    assert trial_fingerprint(_trial("smooth", sharpness=2)) == trial_fingerprint(_trial("smooth", sharpness=2.0))
    assert trial_fingerprint(_trial("smooth")) == trial_fingerprint(_trial("smooth", sharpness=1.0))
    assert (spec.num_kernels, spec.aggregation, spec.reduction, spec.normalization) == (4, "attention", None, None)
    scaled = _trial("scaled", gate="softplus").model
    assert scaled.num_kernels is None
    assert (model_title(spec), model_title(scaled)) == (
        "smooth-MobileNetV2 ×0.35 depth 0.5 K=4 sharpness=2",
        "S-MobileNetV2 ×0.35 depth 0.5 gate=softplus",
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("model.layer=smoth",), "model.layer: unknown layer 'smoth'. Did you mean 'smooth'"),
        (
            ("model.layer=smooth", "model.options.sharpnes=2"),
            "unknown setting 'model.options.sharpnes'. Did you mean 'model.options.sharpness'",
        ),
        (
            ("model.layer=smooth", "model.options.sharpness=20"),
            "model.options.sharpness: must be between 0.1 and 10, found 20.0",
        ),
        (
            ("model.layer=smooth", "model.options.sharpness=soft"),
            "model.options.sharpness: must be of type float, found 'soft'",
        ),
        (
            ("model.layer=scaled", "model.options.gate=sigmoyd"),
            "model.options.gate: unknown value 'sigmoyd'. Did you mean 'sigmoid'",
        ),
        (
            ("model.layer=scaled", "model.options.sharpness=2"),
            "it is read only if model.layer is 'smooth', and that is 'scaled'",
        ),
        (("model.options.sharpness=2",), "it is read only if model.layer is 'smooth', and that is 'dynamic'"),
        (
            ("model.layer=scaled", "model.num_kernels=8"),
            " or 'smooth', and that is 'scaled'",
        ),
    ],
)
def test_what_cannot_be_is_an_error_of_the_plan(
    load: Load, invoke: Invoke, settings: tuple[str, ...], reason: str
) -> None:
    load(SMOOTH, SCALED)
    words = [word for setting in settings for word in ("--set", setting)]
    loaded = ("--plugin", f"{MODULE}_0", "--plugin", f"{MODULE}_1")
    code, text = invoke.unwrapped("plan", "aggregation", "--preset", "smoke", *loaded, *words)
    assert (code, reason in text) == (2, True), text


def test_a_plan_builds_a_network_of_a_plugins_kind_and_says_what_is_dynamic(load: Load, invoke: Invoke) -> None:
    load(SMOOTH)
    plan = ("plan", "aggregation", "--preset", "smoke", "--plugin", f"{MODULE}_0", "--set", "model.layer=smooth")
    code, text = invoke.unwrapped(*plan)
    assert code == 0, text
    assert "smooth-MobileNetV2 ×0.35 depth 0.5 K=4: 32 of 34 convolutions are dynamic" in text, text
    refusing = "self.reset_parameters()\n        if self.groups > 1: raise dyconv.ArgumentError('no depthwise layers')"
    load(changed(SMOOTH, "self.reset_parameters()", refusing))
    code, text = invoke.unwrapped(*plan)
    assert code == 0, text
    assert "It cannot be built: no depthwise layers" in text


@pytest.mark.parametrize(("code", "layer"), [(SMOOTH, "smooth"), (SCALED, "scaled")])
def test_the_code_of_a_kind_is_in_the_fingerprint_and_explained(
    load: Load, tmp_path: Path, code: str, layer: str
) -> None:
    load(code)
    node = _node(layer)
    cost_before = cost_fingerprint(node.spec)
    states = StateStore(tmp_path / "state")
    states[node.fingerprint].describe(node)
    load(f"# the same\n{code}")
    assert _node(layer).fingerprint == node.fingerprint
    load(changed(code, "self.reset_parameters()", "self.reset_parameters()\n        self.more = 1"))
    now = _node(layer)
    assert now.fingerprint != node.fingerprint
    assert cost_fingerprint(now.spec) != cost_before
    (difference,) = differences(states[node.fingerprint], now)
    assert difference.sentence.startswith(f"layer {layer} (plug-in {MODULE}_0) has changed since: code ")
    # What the class reaches counts too, and what names another kind does not.
    assert trial_fingerprint(_trial("dynamic")) == trial_fingerprint(resolve([], {}, 0))


def test_a_version_stands_for_the_code_of_a_kind(load: Load) -> None:
    versioned = changed(SMOOTH, '"smooth", ', '"smooth", version=1, ')
    load(versioned)
    before = _node("smooth").fingerprint
    load(changed(versioned, "GAIN = 1.0", "GAIN = 2.0"))
    assert _node("smooth").fingerprint == before
    load(changed(versioned, "version=1", "version=2"))
    assert _node("smooth").fingerprint != before


def test_a_constant_that_a_kind_reads_is_of_its_code(load: Load) -> None:
    load(SMOOTH)
    before = _node("smooth").fingerprint
    load(changed(SMOOTH, "GAIN = 1.0", "GAIN = 2.0"))
    assert _node("smooth").fingerprint != before


@pytest.mark.parametrize("name", ["dynamic", "condconv", "static"])
def test_a_kind_cannot_take_a_name_of_the_projects(load: Load, name: str) -> None:
    with pytest.raises(Exception, match=f"layer '{name}' is registered already"):
        load(changed(SMOOTH, '"smooth"', f'"{name}"'))


@pytest.mark.parametrize("layer", ["smooth", "scaled"])
def test_a_kind_is_trained_measured_and_intervened_at(load: Load, bench: Bench, layer: str) -> None:
    load(SMOOTH, SCALED)
    trial = bench.trial(model__layer=layer)
    state = _measure(bench, trial.fingerprint)
    metrics = state.events()[0]["metrics"]
    entropies = [value for key, value in metrics.items() if key.startswith("attention/entropy.")]
    assert len(entropies) > 10
    assert all(0 <= value <= 1 + 1e-6 for value in entropies)
    assert names.TEMPERATURE not in metrics
    profile = json.loads((state.folder / names.ATTENTION_FILE).read_text())
    assert len(profile["layers"]) == len(entropies)
    for aggregation in ("average", "shuffle_across_images"):
        evaluation = bench.evaluation(trial, Intervention(aggregation=aggregation))
        result = _measure(bench, evaluation.fingerprint).result()
        trained = state.result()
        assert result is not None
        assert trained is not None
        assert result["metrics"]["test/loss"] != trained["metrics"]["test/loss"]


def test_an_attention_may_be_named_in_an_intervention(load: Load) -> None:
    load(SCALED)
    spec = _trial("scaled")
    model = build_network(spec.model, spec.data.facts, 0)
    change = Intervention(aggregation="average", attention="channel")
    with intervened(model, change, spec.data.facts, 0):
        assert {layer.aggregation for layer in model.modules() if hasattr(layer, "aggregators")} == {"average"}
    wrong = Intervention(aggregation="average", attention="chanel")
    failure = pytest.raises(ValueError, match=r"'chanel'. Did you mean 'channel'")
    with failure, intervened(model, wrong, spec.data.facts, 0):
        pass


@pytest.mark.parametrize("layer", ["smooth", "scaled"])
def test_the_cost_of_a_kind_is_counted_by_tracing(load: Load, bench: Bench, layer: str) -> None:
    load(SMOOTH, SCALED)
    spec = _trial(layer)
    counts = {}
    for model in (spec.model, as_static(spec.model)):
        node = CostNode(
            cost_fingerprint(spec.model_copy(update={"model": model})), spec.model_copy(update={"model": model})
        )
        bench.states[node.fingerprint].describe(node)
        result = _measure(bench, node.fingerprint).result()
        assert result is not None
        counts[model.layer] = result["metrics"]
    network = build_network(spec.model, spec.data.facts, 0)
    assert counts[layer][names.COST_PARAMETERS] == sum(p.numel() for p in network.parameters())
    # By hand: what the formulas of the two kinds add to a static layer.
    added = 0
    for module in network.modules():
        if type(module).__name__ == "SmoothConv2d":
            added += module.routing.weight.numel() + module.weight.numel()
        if type(module).__name__ == "ScaledConv2d":
            added += module.routing.weight.numel()
    pooled = counts[layer][names.COST_MULTIPLY_ADDS] - counts["static"][names.COST_MULTIPLY_ADDS] - added
    # Pooling is counted where the forward is not the kind's own, a number per pixel of each input.
    assert pooled > 0 if layer == "smooth" else pooled == 0


def test_a_temperature_is_no_intervention_on_a_kind_that_reads_none(load: Load) -> None:
    load(SMOOTH)
    baseline = {"model.layer": "smooth"}
    variants = (Variant(name="all"), Variant(name="hot", intervention=Intervention(temperature=30.0)))
    study = Study(name="mine", title="Mine", question="q", reference="all", baseline=baseline, variants=variants)
    with pytest.raises(SpecError, match=r"variant 'hot': .*layers of kind 'smooth' do not read"):
        make_plan([study], Request(PRESETS["smoke"]))


def test_attention_as_it_is_changes_nothing_of_a_kind_that_reads_no_aggregation() -> None:
    spec = resolve([], {"model.layer": "condconv"}, 0)
    assert changes_nothing(Intervention(aggregation="attention"), spec)
    assert not changes_nothing(Intervention(aggregation="average"), spec)


def test_networks_that_differ_in_temperature_are_one_of_a_kind_that_reads_none(load: Load) -> None:
    load(SMOOTH)
    request = Request(PRESETS["smoke"], overrides={"model.layer": "smooth"})
    rows = make_rows([get_study("aggregation", request.base())], request)
    assert {row.network.title for row in rows if row.network is not None} == {"as trained"}
    assert [row.variant.name for row in rows][:2] == ["attention", "average"]
    assert len({trial_fingerprint(resolve_row(row, request)) for row in rows}) == 1
    # Of the paper's layers there are as many as before.
    as_usual = make_rows([get_study("aggregation", request.base())], Request(PRESETS["smoke"]))
    assert len(as_usual) == 2 * len(rows)


def test_an_option_of_a_kind_is_in_the_schema_of_studies(load: Load) -> None:
    load(SMOOTH)
    variant = study_schema()["properties"]["variants"]["additionalProperties"]["properties"]
    assert variant["model.options.sharpness"]["anyOf"] == [
        {"type": "number", "default": 1.0, "minimum": 0.1, "maximum": 10.0}
    ]
    assert "model.options.sharpness" in variant["differs_in"]["items"]["enum"]
    assert "smooth" in variant["model.layer"]["enum"]
