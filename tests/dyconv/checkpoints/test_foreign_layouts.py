"""Files in the layouts of other projects: the loaded network computes what the foreign layers do, image by image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import dyconv
from dyconv import ArgumentError, CheckpointError, adopt, build_model, cost, dynamic_layers, load_checkpoint
from dyconv.checkpoints.layouts import KeyRule, Layout, register_layout
from tests.dyconv.checkpoints.foreign import (
    SETTINGS,
    AttentionConvolutions,
    AttentionScores,
    Make,
    ODConv,
    at_temperature,
    foreign_network,
    images,
    outputs,
    own_network,
    with_statistics,
)
from tests.registries import registries_kept

CLOSE = {"rtol": 1e-9, "atol": 1e-9}

CASES: dict[str, tuple[str, Make]] = {
    "fc": ("attention_convolutions", partial(AttentionConvolutions, num_kernels=4)),
    "fc_bias": ("attention_convolutions", partial(AttentionConvolutions, num_kernels=4, bias=True)),
    "fc_no_bias": ("attention_convolutions", partial(AttentionConvolutions, num_kernels=4, last_bias=False)),
    "scores": ("attention_scores", partial(AttentionScores, num_kernels=4)),
    "scores_bias": ("attention_scores", partial(AttentionScores, num_kernels=4, bias=True)),
    "scores_wider": ("attention_scores", partial(AttentionScores, num_kernels=4, reduction=3)),
}


def save(model: nn.Module, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("temperature", [1.0, 7.5])
@pytest.mark.parametrize("case", CASES)
def test_the_loaded_network_computes_what_the_foreign_one_does(case: str, temperature: float, tmp_path: Path) -> None:
    layout, make = CASES[case]
    foreign = at_temperature(foreign_network(make), temperature)
    own = own_network()
    assert (outputs(own) - outputs(foreign)).abs().max() > 0.1
    own = own_network()
    report = load_checkpoint(own, save(foreign.float(), tmp_path), temperature=temperature)
    torch.testing.assert_close(outputs(own), outputs(foreign), **CLOSE)
    assert (report.layout, report.temperature, report.temperature_given) == (layout, temperature, True)
    assert {tensor.source for tensor in report.tensors} == set(foreign.state_dict())
    assert {tensor.target for tensor in report.tensors} == {
        k for k in own.state_dict() if not k.endswith("temperature")
    }
    assert cost(own, (1, 32, 32)).parameters == sum(p.numel() for p in foreign.parameters())


def test_a_temperature_of_another_value_computes_something_else(tmp_path: Path) -> None:
    foreign, own = at_temperature(foreign_network(CASES["fc"][1]), 1.0), own_network()
    load_checkpoint(own, save(foreign, tmp_path), temperature=2.0)
    assert (outputs(own) - outputs(foreign)).abs().max() > 1e-3


def test_interventions_and_training_work_on_a_rebuilt_branch(tmp_path: Path) -> None:
    own = own_network()
    own.get_parameter("features.2.conv.0.0.weight").requires_grad_(False)
    report = load_checkpoint(own, save(foreign_network(CASES["fc_bias"][1]), tmp_path), temperature=1.0)
    layer: Any = own.get_submodule("features.3.conv.0.0")
    hidden = layer.in_channels // 4 + 1
    assert layer.attention_branch.squeeze.weight.shape == (hidden, layer.in_channels)
    assert layer.attention_branch.squeeze.bias is None
    assert isinstance(layer.bias, nn.Parameter)
    text = f"the attention branch of features.3.conv.0.0 has {hidden} hidden units, no bias in its squeeze"
    assert text in report.adapted
    assert text in str(report)
    assert "the kernels of features.3.conv.0.0 have biases" in report.adapted
    before = outputs(own)
    with dyconv.intervene(own, "average") as layers:
        assert len(layers) == sum(1 for _ in dynamic_layers(own))
        assert (outputs(own) - before).abs().max() > 1e-3
    own.float().train()(images()).square().sum().backward()
    assert layer.attention_branch.squeeze.weight.grad.abs().max() > 0
    assert layer.bias.grad.abs().max() > 0


def test_a_second_file_loads_into_the_rebuilt_network(tmp_path: Path) -> None:
    own, second = own_network(), foreign_network(CASES["fc"][1], seed=5)
    load_checkpoint(own, save(foreign_network(CASES["fc"][1]), tmp_path), temperature=1.0)
    report = load_checkpoint(own, save(second, tmp_path), temperature=1.0)
    assert report.adapted == ()
    torch.testing.assert_close(outputs(own), outputs(at_temperature(second, 1.0)), **CLOSE)
    # A branch without a bias gets one again where the file has it.
    third = foreign_network(CASES["scores"][1], seed=6)
    report = load_checkpoint(own.float(), save(third.float(), tmp_path), temperature=1.0)
    assert report.adapted
    torch.testing.assert_close(outputs(own), outputs(at_temperature(third, 1.0)), **CLOSE)


def test_rebuilding_draws_no_random_numbers(tmp_path: Path) -> None:
    own, path = own_network(), save(foreign_network(CASES["fc"][1]), tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_checkpoint(own, path, temperature=1.0)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("layer", ["features.2.conv.0.0", "features.4.conv.2"])
def test_a_bias_that_one_layer_lacks_is_a_damaged_file(layer: str, tmp_path: Path) -> None:
    foreign = foreign_network(CASES["fc"][1])
    state = foreign.state_dict()
    del state[f"{layer}.attention.fc2.bias"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=rf"not in the file \(1\): {layer}\.attention_branch\.excite\.bias"):
        load_checkpoint(own_network(), tmp_path / "weights.pth", temperature=1.0)


@pytest.mark.parametrize("case", CASES)
def test_a_missing_temperature_is_an_error_that_names_the_layouts(case: str, tmp_path: Path) -> None:
    own, path = own_network(), save(foreign_network(CASES[case][1]), tmp_path)
    before = {key: value.clone() for key, value in own.state_dict().items()}
    with pytest.raises(ArgumentError, match=r"give temperature=.*never save it: attention_convolutions, .*, odconv"):
        load_checkpoint(own, path)
    assert before.keys() == own.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())


needs_odconv = pytest.mark.skipif("odconv" not in dyconv.available_layers(), reason="there is no odconv layer yet")


@needs_odconv
@pytest.mark.parametrize("num_kernels", [1, 4])
def test_odconv(num_kernels: int, tmp_path: Path) -> None:
    foreign = at_temperature(foreign_network(partial(ODConv, num_kernels=num_kernels)), 2.0)
    own = own_network(layer="odconv", num_kernels=num_kernels)
    report = load_checkpoint(own, save(foreign, tmp_path), temperature=2.0)
    assert (report.layout, report.adapted) == ("odconv", ())
    torch.testing.assert_close(outputs(own), outputs(foreign), **CLOSE)


@needs_odconv
def test_odconv_with_a_static_head_says_which_layer_differs(tmp_path: Path) -> None:
    own = own_network(layer="odconv", where=~dyconv.Role("stem", "head"))
    path = save(foreign_network(partial(ODConv, num_kernels=4)), tmp_path)
    head = dyconv.describe_layers(own)[-1].name
    with pytest.raises(CheckpointError, match=rf"dynamic in the file and static in the network.*\(1\): {head}"):
        load_checkpoint(own, path, temperature=1.0)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_a_file_of_torchvisions_then_made_dynamic(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=10).eval()
    own = build_model(name, 10, seed=3)
    report = load_checkpoint(own, save(theirs, tmp_path))
    assert (report.layout, report.temperature) == ("torchvision", None)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.double()(x)
        assert expected.std() > 0
        torch.testing.assert_close(own.eval().double()(x), expected, **CLOSE)
        dyconv.make_dynamic(own, start="static", noise=0)
        torch.testing.assert_close(own(x), expected, **CLOSE)


def test_a_file_of_timms(tmp_path: Path) -> None:
    theirs = timm.create_model("mobilenetv2_050", num_classes=10).eval()
    own = build_model("timm/mobilenetv2_050", 10, seed=3)
    assert load_checkpoint(own, save(theirs, tmp_path)).layout == "timm"
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(x), theirs(x))


def test_a_file_of_timms_condconv_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_cc_b0_4e", num_classes=10)
    own = build_model("timm/tf_efficientnet_cc_b0_4e", 10, layer="adopted", seed=3)
    report = load_checkpoint(own, save(theirs, tmp_path))
    assert (report.layout, report.temperature, len(report.tensors)) == ("timm_condconv", None, len(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(own.double().eval()(x), theirs.double().eval()(x), **CLOSE)
        # Timm's own network takes the file too, before it is adopted.
        other = timm.create_model("tf_efficientnet_cc_b0_4e", num_classes=10)
        load_checkpoint(other, tmp_path / "weights.pth")
        torch.testing.assert_close(adopt(other.double().eval())(x), theirs(x), **CLOSE)
    with pytest.raises(ArgumentError, match="no layer of this network reads a temperature"):
        load_checkpoint(own, tmp_path / "weights.pth", temperature=1.0)


@pytest.mark.parametrize("settings", [{}, {"layer": "condconv"}, {"normalization": "sigmoid"}], ids=str)
def test_a_file_of_ours(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs, own = with_statistics(own_network(seed=1, **settings)), own_network(**settings)
    dyconv.set_temperature(theirs, 3.5)
    report = load_checkpoint(own, save(theirs, tmp_path))
    assert report.layout == "ours"
    assert report.temperature == (None if settings else 3.5)
    assert not report.temperature_given
    torch.testing.assert_close(outputs(own), outputs(theirs), **CLOSE)


def test_temperatures_that_differ_between_layers_are_all_told(tmp_path: Path) -> None:
    theirs, own = own_network(seed=1), own_network()
    next(layer for _, layer in dynamic_layers(theirs)).write_temperature(2.0)
    report = load_checkpoint(own, save(theirs, tmp_path))
    assert (report.temperature, report.temperatures) == (None, (2.0, 30.0))
    assert "Temperature 2, 30, from the file." in str(report)


def test_a_static_file_for_a_dynamic_network_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = save(build_model("mobilenet_v2", 10, **SETTINGS), tmp_path)
    with pytest.raises(CheckpointError, match=r"static network, and this one has \d+ dynamic layers: load it"):
        load_checkpoint(own_network(), path)


def test_a_layout_of_ones_own_in_ten_lines(tmp_path: Path) -> None:
    foreign = at_temperature(foreign_network(CASES["scores"][1]), 1.0)
    state = {}
    for key, value in foreign.state_dict().items():
        key = key.replace("features.", "body.").replace("classifier.1.", "head.fc.")
        key = key.replace("attention.to_scores.0", "router.in").replace("attention.to_scores.2", "router.out")
        value = value.flatten(0, 1) if key.endswith("kernels_weights") else value
        value = value[:, :, None, None] if "router" in key and value.dim() == 2 else value
        state[key.replace("kernels_weights", "experts")] = value
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"is not known\. Its keys begin with 'body\.0\.0\.weight'"):
        load_checkpoint(own_network(), tmp_path / "weights.pth", temperature=1.0)
    with registries_kept():
        register_layout(
            Layout(
                name="routers",
                title="a router of two convolutions and experts one behind the other",
                recognised_by=("{layer}.router.in.weight", "{layer}.experts"),
                paths=(("body.{rest}", "features.{rest}"), ("head.fc.{value}", "classifier.1.{value}")),
                keys=(
                    KeyRule("{layer}.router.in.{value}", "{layer}.attention_branch.squeeze.{value}", "matrix"),
                    KeyRule("{layer}.router.out.{value}", "{layer}.attention_branch.excite.{value}", "matrix"),
                    KeyRule("{layer}.experts", "{layer}.weight", "stack"),
                ),
            )
        )
        own = own_network()
        report = load_checkpoint(own, tmp_path / "weights.pth", temperature=1.0)
        assert report.layout == "routers"
        torch.testing.assert_close(outputs(own), outputs(foreign), **CLOSE)
        with pytest.raises(CheckpointError, match="registered already"):
            register_layout(Layout(name="routers", title="", recognised_by=()))
    assert "routers" not in dyconv.available_layouts()
