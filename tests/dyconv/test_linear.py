"""`DynamicLinear` and `dynamic_linear` against products one by one."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dyconv import (
    DyconvError,
    DynamicConv2d,
    DynamicLinear,
    ShapeError,
    describe_layers,
    dynamic_linear,
    intervene,
    record_attention,
    set_temperature,
)


def one_by_one(x: Tensor, weight: Tensor, attention: Tensor, bias: Tensor | None) -> Tensor:
    """The definition: the matrix of each input is the attention-weighted sum of the K matrices."""
    rows = []
    for b in range(x.shape[0]):
        matrix = sum(attention[b, k] * weight[k] for k in range(weight.shape[0]))
        mixed = 0 if bias is None else sum(attention[b, k] * bias[k] for k in range(weight.shape[0]))
        rows.append(x[b] @ matrix.T + mixed)  # type: ignore[union-attr]
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6), (5, 2, 4, 6), (1, 6), (5, 1, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_each_input_has_its_own_matrix(shape: tuple[int, ...], bias: bool) -> None:
    g = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=g).double(), torch.randn(3, 7, 6, generator=g).double()
    attention = torch.rand(shape[0], 3, generator=g).double()
    offsets = torch.randn(3, 7, generator=g).double() if bias else None
    y = dynamic_linear(x, weight, attention, offsets)
    assert y.shape == (*shape[:-1], 7)
    torch.testing.assert_close(y, one_by_one(x, weight, attention, offsets))


def test_gradients_of_the_layer_are_those_of_the_definition() -> None:
    layer = DynamicLinear(6, 4, num_kernels=3, temperature=1.0).double()
    other, x = copy.deepcopy(layer), torch.randn(5, 2, 6, dtype=torch.float64)
    layer(x).square().sum().backward()
    one_by_one(x, other.weight, other.attention(x), other.bias).square().sum().backward()
    for ours, expected in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad)


def test_attention_is_to_the_mean_over_positions() -> None:
    layer, x = DynamicLinear(6, 4, temperature=0.5, reduction=1), torch.randn(5, 2, 3, 6)
    torch.testing.assert_close(layer.attention(x), layer.attention(x.mean((1, 2))))
    torch.testing.assert_close(layer.attention(x).sum(1), torch.ones(5))
    assert not torch.allclose(layer.attention(x), layer.attention(x[:, 0, 0]))


def test_it_is_the_pointwise_convolution_of_one_pixel() -> None:
    linear, conv = DynamicLinear(8, 5, temperature=1.0), DynamicConv2d(8, 5, 1, temperature=1.0)
    conv.load_state_dict({n: v.reshape(conv.state_dict()[n].shape) for n, v in linear.state_dict().items()})
    x = torch.randn(6, 8)
    torch.testing.assert_close(linear(x), conv(x[:, :, None, None])[:, :, 0, 0])


def test_one_matrix_is_a_linear_layer_and_initialised_like_one() -> None:
    torch.manual_seed(0)
    layer, static = DynamicLinear(200, 300, num_kernels=1), nn.Linear(200, 300)
    assert layer.bias is not None
    assert layer.weight.std().item() == pytest.approx(static.weight.std().item(), rel=0.02)
    assert layer.bias.abs().max().item() == pytest.approx(200**-0.5, rel=0.05)
    static.weight.data, static.bias.data = layer.weight[0].detach(), layer.bias[0].detach()
    x = torch.randn(4, 200)
    torch.testing.assert_close(layer(x), static(x))


def test_parameters_have_the_shapes_they_are_documented_with() -> None:
    shapes = {n: tuple(v.shape) for n, v in DynamicLinear(8, 6, num_kernels=5, reduction=2).state_dict().items()}
    assert shapes["weight"] == (5, 6, 8)
    assert shapes["bias"] == (5, 6)
    assert shapes["temperature"] == ()
    assert shapes["attention_branch.squeeze.weight"] == (4, 8)
    assert DynamicLinear(8, 6, bias=False).bias is None


def test_the_tools_for_dynamic_layers_work_on_it() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(2), DynamicLinear(36, 4), nn.Flatten(1)).eval()
    assert set_temperature(model, 0.05) == 1
    x = 5 * torch.randn(6, 1, 8, 8)
    with torch.no_grad():
        before = model(x)
        with intervene(model, "average", input_size=(1, 8, 8)) as layers, record_attention(model) as recorder:
            assert not torch.allclose(model(x), before)
    assert [(info.name, info.role, info.resolution) for info in layers] == [("2", "other", 1)]
    assert torch.equal(recorder.used["2"], torch.full((6, 4), 0.25))
    assert [info.depth for info in describe_layers(model)] == [0, 1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"in_features": 0}, "in_features"),
        ({"out_features": 0}, "out_features"),
        ({"num_kernels": -1}, "num_kernels"),
        ({"reduction": 0}, "reduction"),
        ({"normalization": "softmx"}, "'softmax'"),
        ({"normalization": "sigmoid", "temperature": 1.0}, "reads no temperature"),
        ({"aggregation": "avrage"}, "'average'"),
    ],
    ids=str,
)
def test_bad_arguments_are_errors_that_say_so(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(DyconvError, match=message):
        DynamicLinear(**({"in_features": 4, "out_features": 4} | bad))


def test_bad_inputs_are_errors() -> None:
    with pytest.raises(ShapeError, match=r"\(B, ..., I\)"):
        dynamic_linear(torch.randn(4), torch.randn(3, 4, 4), torch.rand(1, 3))
    with pytest.raises(ShapeError, match=r"\(K, O, I\)"):
        dynamic_linear(torch.randn(2, 4), torch.randn(4, 4), torch.rand(2, 4))


def test_repr_names_what_matters() -> None:
    assert "8, 6, num_kernels=5, bias=False" in repr(DynamicLinear(8, 6, bias=False, num_kernels=5))
