"""`DynamicConv2d` as a module: parameters, padding modes, saving, copying."""

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from dyconv import AggregationError, ArgumentError, DyconvError, DynamicConv2d, set_forward_step, set_temperature


def test_parameters_have_the_shapes_they_are_documented_with() -> None:
    layer = DynamicConv2d(8, 6, (3, 1), groups=2, num_kernels=5, reduction=4)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {
        "weight": (5, 6, 4, 3, 1),
        "bias": (5, 6),
        "temperature": (),
        "attention_branch.squeeze.weight": (2, 8),
        "attention_branch.squeeze.bias": (2,),
        "attention_branch.excite.weight": (5, 2),
        "attention_branch.excite.bias": (5,),
    }
    assert DynamicConv2d(8, 6, 3, bias=False).bias is None


def test_each_kernel_is_initialised_as_conv2d_would() -> None:
    torch.manual_seed(0)
    layer, static = DynamicConv2d(64, 96, 3, num_kernels=3), nn.Conv2d(64, 96, 3)
    bound = 1 / math.sqrt(64 * 9)
    for kernel in layer.weight:
        assert kernel.abs().max() <= bound
        assert kernel.std().item() == pytest.approx(static.weight.std().item(), rel=0.02)
    assert layer.bias is not None
    assert layer.bias.abs().max() <= bound
    assert not torch.equal(layer.weight[0], layer.weight[1])


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 1), "same", "valid"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_padding_modes_equal_conv2d_with_the_aggregated_kernel(
    oracle: Any, mode: str, padding: Any, channels_last: bool
) -> None:
    settings: dict[str, Any] = {"padding": padding, "padding_mode": mode}
    layer, static = DynamicConv2d(3, 4, 3, **settings, temperature=1.0), nn.Conv2d(3, 4, 3, **settings)
    format_ = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(3, 3, 6, 7).contiguous(memory_format=format_)
    y, attention = layer(x), layer.attention(x)
    assert y.is_contiguous(memory_format=format_)
    for b in range(3):
        assert layer.bias is not None
        assert static.bias is not None
        static.weight.data = torch.einsum("k,koihw->oihw", attention[b], layer.weight)
        static.bias.data = attention[b] @ layer.bias
        torch.testing.assert_close(y[b], static(x[b : b + 1])[0], rtol=1e-4, atol=1e-5)


def test_temperature_survives_saving_and_loading() -> None:
    model = nn.Sequential(DynamicConv2d(3, 4, 3), DynamicConv2d(4, 4, 3))
    assert set_temperature(model, 7.5) == 2
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = nn.Sequential(DynamicConv2d(3, 4, 3), DynamicConv2d(4, 4, 3))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert [float(layer.temperature) for layer in other] == [7.5, 7.5]  # type: ignore[arg-type]
    x = torch.randn(2, 3, 7, 7)
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_computes_the_same_and_stands_alone(clone: Any) -> None:
    layer = DynamicConv2d(3, 4, 3, aggregation="shuffle_per_image", temperature=1.0)
    x = torch.randn(4, 3, 7, 7)
    other = clone(layer)
    assert torch.equal(other(x), layer(x))
    set_temperature(other, 2.0)
    set_forward_step(other, 9)
    assert float(layer.temperature) == 1.0
    assert layer.aggregator.context.forward_pass.step == 0


def test_memory_format_and_dtype_of_a_whole_module() -> None:
    x = torch.randn(2, 8, 6, 6)
    layer = DynamicConv2d(8, 8, 3, padding=1)
    expected = layer(x)
    layer = layer.to(memory_format=torch.channels_last)
    assert layer.weight.is_contiguous()
    y = layer(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    low = layer.to(dtype=torch.bfloat16)(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.1)


def test_set_temperature_on_a_static_network_sets_nothing() -> None:
    assert set_temperature(nn.Conv2d(1, 1, 1), 3.0) == 0
    assert set_forward_step(nn.Conv2d(1, 1, 1), 3) == 0


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "30", True])
def test_a_temperature_must_be_positive(value: Any) -> None:
    layer = DynamicConv2d(3, 4, 3)
    with pytest.raises(ArgumentError, match="temperature"):
        set_temperature(layer, value)
    assert float(layer.temperature) == 30.0
    with pytest.raises(ArgumentError, match="temperature"):
        DynamicConv2d(3, 4, 3, temperature=value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_kernels": 0}, "num_kernels"),
        ({"reduction": 0}, "reduction"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"stride": 0}, "stride"),
        ({"padding": -1}, "padding"),
        ({"padding": "half"}, "'same'"),
        ({"padding": "same", "stride": 2}, "stride 1"),
        ({"dilation": 0}, "dilation"),
        ({"groups": 3}, "groups=3"),
        ({"groups": 0}, "groups=0"),
        ({"out_channels": 0}, "0 output"),
        ({"in_channels": 0}, "in_channels"),
        ({"padding_mode": "zero"}, "padding_mode"),
        ({"aggregation": "atention"}, "attention"),
    ],
    ids=str,
)
def test_bad_arguments_are_errors_that_say_so(bad: dict[str, Any], message: str) -> None:
    arguments = {"in_channels": 4, "out_channels": 4, "kernel_size": 3} | bad
    with pytest.raises(DyconvError, match=message):
        DynamicConv2d(**arguments)


def test_a_negative_step_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="counted from 0"):
        set_forward_step(DynamicConv2d(1, 1, 1), -1)


def test_an_unregistered_strategy_is_found_out_when_it_is_asked_for() -> None:
    with pytest.raises(AggregationError, match="Known"):
        DynamicConv2d(4, 4, 1, aggregation="nothing like it")


def test_repr_names_what_matters() -> None:
    text = repr(DynamicConv2d(4, 8, 3, padding=1, groups=2, bias=False, num_kernels=6))
    assert "4, 8, kernel_size=(3, 3)" in text
    assert "num_kernels=6" in text
    assert "'attention'" in text
