"""`CondConv2d` against timm's layer with the same weights, and as a dynamic layer among the others."""

import copy
from typing import Any

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv import (
    ArgumentError,
    CondConv2d,
    DyconvError,
    DynamicConv2d,
    build_model,
    intervene,
    make_dynamic,
    record_attention,
    set_temperature,
)

SETTINGS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "groups": 8},
    {"kernel_size": 5, "padding": 2, "stride": 2, "groups": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
]


def timm_reference(layer: CondConv2d, x: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
    """timm's layer and the routing that timm's CondConv blocks give it, with the weights of ours; gradients too."""
    reference: Any = timm.layers.CondConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        num_experts=layer.num_kernels,
    ).double()
    routing = copy.deepcopy(layer.routing)
    with torch.no_grad():
        reference.weight.copy_(layer.weight.flatten(1))
        if layer.bias is not None:
            reference.bias.copy_(layer.bias)
    pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
    y = reference(x, torch.sigmoid(routing(pooled)))
    y.square().sum().backward()
    gradients = {
        "weight": reference.weight.grad.reshape(layer.weight.shape),
        "bias": None if layer.bias is None else reference.bias.grad,
        "routing.weight": routing.weight.grad,
        "routing.bias": routing.bias.grad,
    }
    return y.detach(), gradients


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_forward_and_gradients_are_timms(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = CondConv2d(8, 8, **settings).double()
    x = torch.randn(5, 8, 7, 6, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    expected, gradients = timm_reference(layer, other)
    y = layer(x)
    y.square().sum().backward()
    torch.testing.assert_close(y.detach(), expected)
    torch.testing.assert_close(x.grad, other.grad)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name])


def test_parameters_have_the_shapes_they_are_documented_with() -> None:
    shapes = {name: tuple(value.shape) for name, value in CondConv2d(8, 6, (3, 1), groups=2).state_dict().items()}
    assert shapes == {
        "weight": (8, 6, 4, 3, 1),
        "bias": (8, 6),
        "routing.weight": (8, 8),
        "routing.bias": (8,),
    }


def test_weights_lie_between_zero_and_one_without_a_sum_of_one() -> None:
    attention = CondConv2d(4, 4, 1).attention(10 * torch.randn(20, 4, 3, 3))
    assert ((attention > 0) & (attention < 1)).all()
    assert (attention.sum(1) - 1).abs().max() > 1


def test_routing_is_computed_in_float32() -> None:
    layer, x = CondConv2d(8, 8, 1), torch.randn(2, 8, 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.attention(x).dtype == torch.float32
        assert layer(x).dtype == torch.bfloat16


def test_the_tools_for_dynamic_layers_work_on_it() -> None:
    model = build_model(
        "mobilenet_v2", 10, width=0.35, depth=0.5, in_channels=1, num_kernels=3, layer="condconv"
    ).eval()
    layers = [m for m in model.modules() if isinstance(m, CondConv2d)]
    assert len(layers) == 33
    for layer in layers:
        nn.init.normal_(layer.routing.bias, std=3)
    x = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        before = model(x)
        for name in ("average", "max", "shuffle_per_image"):
            with intervene(model, name, {"role": "projection"}), record_attention(model) as recorder:
                assert not torch.equal(model(x), before)
        assert len(recorder.used) == 33
        changed = [layer for layer in recorder.used if not torch.equal(recorder.used[layer], recorder.branch[layer])]
        assert len(changed) == 11
        assert torch.equal(model(x), before)


def test_there_is_no_temperature_to_set() -> None:
    model = nn.Sequential(CondConv2d(4, 4, 1), DynamicConv2d(4, 4, 1)).eval()
    x = torch.randn(3, 4, 5, 5)
    before = model[0](x)
    assert set_temperature(model, 2.0) == 1
    assert "temperature" not in model[0].state_dict()
    assert torch.equal(model[0](x), before)
    with intervene(model, temperature=5.0):
        assert float(model[1].temperature) == 5.0  # type: ignore[arg-type]
    assert float(model[1].temperature) == 2.0  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="none of the 1 layers"), intervene(model, None, {"name": "0"}, 5.0):
        pass


@pytest.mark.parametrize(
    "option", [{"reduction": 8}, {"temperature": 1.0}, {"normalization": "sigmoid"}, {"layer": "condcon"}], ids=str
)
def test_options_that_it_does_not_read_are_errors(option: dict[str, Any]) -> None:
    name = "'condconv'" if "layer" in option else f"no {next(iter(option))}"
    with pytest.raises(ArgumentError, match=name):
        make_dynamic(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)), **({"layer": "condconv"} | option))


def test_bad_arguments_are_errors() -> None:
    with pytest.raises(DyconvError, match="num_kernels"):
        CondConv2d(4, 4, 1, num_kernels=0)
    with pytest.raises(DyconvError, match="groups=3"):
        CondConv2d(4, 4, 1, groups=3)
