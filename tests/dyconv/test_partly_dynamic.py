"""`PartlyDynamicConv2d` against its definition: static channels first, then a mixture for the others."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv import (
    ArgumentError,
    ConversionError,
    DynamicConv2d,
    PartlyDynamicConv2d,
    available_normalizations,
    build_model,
    cost,
    intervene,
    make_dynamic,
    set_temperature,
)
from dyconv.layers.kinds import layer_kind

GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
    {"kernel_size": 3, "padding": "same", "dilation": 2},
    {"kernel_size": 3, "padding": "tf_same", "stride": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 1, "groups": 2},
    {"kernel_size": 5, "padding": 2, "stride": 2, "groups": 4, "bias": False},
    {"kernel_size": 3, "padding": "tf_same", "stride": 2, "groups": 4},
    {"kernel_size": 3, "padding": 1, "groups": 4, "padding_mode": "circular"},
]


def attention_by_formula(layer: PartlyDynamicConv2d, image: Tensor) -> Tensor:
    """The weights of one image: average, two layers, and the normalisation written out."""
    branch = layer.attention_branch
    hidden = torch.clamp(branch.squeeze.weight @ image.mean((1, 2)) + branch.squeeze.bias, min=0)
    z = branch.excite.weight @ hidden + branch.excite.bias
    if branch.normalization == "softmax":
        powers = torch.exp(z / layer.temperature)
        return powers / powers.sum()
    if branch.normalization == "sigmoid":
        return 1 / (1 + torch.exp(-z))
    return z / z.abs().sum()


def by_formula(layer: PartlyDynamicConv2d, x: Tensor) -> Tensor:
    """The definition, image by image: each output channel has its own kernel, the static one or a mixture."""
    static_channels = layer.out_channels - layer.dynamic_channels
    images = []
    for image in x:
        attention = attention_by_formula(layer, image)
        kernels, biases = [], []
        for channel in range(layer.out_channels):
            if channel < static_channels:
                assert layer.static_weight is not None
                kernels.append(layer.static_weight[channel])
                biases.append(torch.zeros(()) if layer.static_bias is None else layer.static_bias[channel])
            else:
                d = channel - static_channels
                kernels.append(sum(attention[k] * layer.weight[k, d] for k in range(layer.num_kernels)))
                bias = torch.zeros(())
                if layer.bias is not None:
                    bias = sum(attention[k] * layer.bias[k, d] for k in range(layer.num_kernels))
                biases.append(bias)
        framed = image[None]
        padding = layer.padding
        if padding == "tf_same":
            # Of 7 x 6 pixels by strides of 2, a kernel of 3: one pixel on both sides of a column, one after a row.
            framed, padding = F.pad(framed, (0, 1, 1, 1)), 0
        elif layer.padding_mode != "zeros":
            framed, padding = F.pad(framed, (1, 1, 1, 1), mode=layer.padding_mode), 0
        geometry = (layer.stride, padding, layer.dilation, layer.groups)
        images.append(F.conv2d(framed, torch.stack(kernels), torch.stack(biases).double(), *geometry))
    return torch.cat(images)


def images(batch: int = 4, channels: int = 8) -> Tensor:
    return torch.randn(batch, channels, 7, 6, dtype=torch.float64) + 2 * torch.randn(batch, channels, 1, 1)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_forward_and_gradients_are_the_formulas(geometry: dict[str, Any], share: float, channels_last: bool) -> None:
    layer = PartlyDynamicConv2d(8, 12, **geometry, num_kernels=3, temperature=0.3, share=share).double()
    x = images()
    if channels_last:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    inputs = [x.requires_grad_(), *layer.parameters()]
    y, expected = layer(x), by_formula(layer, x)
    torch.testing.assert_close(y, expected)
    seed = torch.randn_like(expected)
    gradients = torch.autograd.grad((y * seed).sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * seed).sum(), inputs))
    torch.testing.assert_close(layer(x[1]), y[1])
    if channels_last:
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("pixels", [(7, 6), (1, 1)], ids=str)
@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 3, "padding": 1, "groups": 16},
        {"kernel_size": 3, "padding": 1, "groups": 4},
    ],
    ids=str,
)
def test_compiled_kernels_compute_the_formula(geometry: dict[str, Any], pixels: tuple[int, int], share: float) -> None:
    layer = PartlyDynamicConv2d(16, 32, **geometry, bias=False, temperature=0.3, share=share)
    x = (torch.randn(5, 16, *pixels) + torch.randn(5, 16, 1, 1)).contiguous(memory_format=torch.channels_last)
    exact, images = copy.deepcopy(layer).double(), x.double().requires_grad_()
    expected = by_formula(exact, images)
    y = layer(x.requires_grad_())
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
    seed = torch.randn(y.shape)
    gradients = torch.autograd.grad((y * seed).sum(), [x, *layer.parameters()])
    exact_gradients = torch.autograd.grad((expected * seed).sum(), [images, *exact.parameters()])
    for gradient, reference in zip(gradients, exact_gradients, strict=True):
        scale = max(1.0, float(reference.abs().max()))
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-3, atol=1e-4 * scale)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y)


@pytest.mark.parametrize("normalization", ["sigmoid", "signed"])
@pytest.mark.parametrize("groups", [1, 4])
def test_weights_need_not_sum_to_one(normalization: str, groups: int) -> None:
    layer = PartlyDynamicConv2d(8, 12, 3, padding=1, groups=groups, normalization=normalization).double()
    x = images()
    torch.testing.assert_close(layer(x), by_formula(layer, x))
    assert set_temperature(layer, 2.0) == 0


@pytest.mark.parametrize(
    ("out_channels", "groups", "share", "dynamic"),
    [
        (12, 1, 0.5, 6),
        (12, 1, 0.3, 4),
        (5, 1, 0.5, 3),
        (12, 1, 0.001, 1),
        (12, 1, 1.0, 12),
        (12, 4, 0.5, 6),
        (12, 4, 0.1, 3),
        (12, 2, 0.7, 6),
        (12, 4, 0.65, 9),
        (4, 4, 0.4, 2),
    ],
)
def test_whole_groups_are_dynamic(out_channels: int, groups: int, share: float, dynamic: int) -> None:
    layer = PartlyDynamicConv2d(4, out_channels, 1, groups=groups, share=share, num_kernels=2)
    assert layer.dynamic_channels == dynamic
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters() if "branch" not in name}
    static = {"static_weight": (out_channels - dynamic, 4 // groups, 1, 1), "static_bias": (out_channels - dynamic,)}
    assert shapes == {
        "weight": (2, dynamic, 4 // groups, 1, 1),
        "bias": (2, dynamic),
        **(static if dynamic < out_channels else {}),
    }


def test_a_share_of_one_is_a_dynamic_layer() -> None:
    layer = PartlyDynamicConv2d(8, 12, 3, padding=1, share=1.0)
    other = DynamicConv2d(8, 12, 3, padding=1)
    other.load_state_dict(layer.state_dict())
    x = images().float()
    assert torch.equal(layer(x), other(x))


def test_kernels_are_drawn_as_wide_as_those_of_the_whole_layer() -> None:
    model = build_model("resnet10", 10, layer="partly_dynamic", num_kernels=2, options={"share": 0.25}, seed=0)
    layer = model.get_submodule("layer4.0.conv2")
    assert isinstance(layer, PartlyDynamicConv2d)
    assert layer.static_weight is not None
    # Normal with variance 2 / fan out, of 512 output channels.
    expected = (2 / (512 * 9)) ** 0.5
    for kernel in (*layer.weight, layer.static_weight):
        assert float(kernel.detach().std()) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("normalization", available_normalizations())
def test_it_begins_as_the_static_network(normalization: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=12)
    )
    x = torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        expected = model(x)
        kind: dict[str, Any] = {"layer": "partly_dynamic", "normalization": normalization, "start": "static"}
        noisy = make_dynamic(copy.deepcopy(model), **kind, noise=0.1)
        make_dynamic(model, **kind, noise=0.0)
        torch.testing.assert_close(model(x), expected)
        assert not torch.allclose(noisy(x), expected, rtol=1e-3)
        with intervene(model, "average"):
            torch.testing.assert_close(model(x), expected)


def test_a_single_sigmoid_does_not_begin_as_a_static_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1))
    with pytest.raises(ConversionError, match="num_kernels=1"):
        make_dynamic(model, layer="partly_dynamic", num_kernels=1, normalization="sigmoid", start="static")
    assert not isinstance(model[1], PartlyDynamicConv2d)


def test_it_reads_what_a_dynamic_layer_reads() -> None:
    kind = layer_kind("partly_dynamic")
    assert kind.reads == layer_kind("dynamic").reads
    assert [option.name for option in kind.options] == ["share"]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, float("nan")])
def test_a_share_out_of_range_is_an_error(share: float) -> None:
    with pytest.raises(ArgumentError, match="share"):
        PartlyDynamicConv2d(4, 4, 1, share=share)
    with pytest.raises(ArgumentError, match="share"):
        build_model("resnet10", 10, num_kernels=2, layer="partly_dynamic", options={"share": share})


def test_cost_by_hand() -> None:
    layers = cost(nn.Sequential(PartlyDynamicConv2d(8, 12, 3, num_kernels=5, share=0.25)), (8, 5, 6)).layers
    layer = layers[0]
    assert layer.convolution == 12 * 8 * 9 * 3 * 4
    assert layer.pooling == 8 * 30
    assert layer.attention == 8 * 2 + 2 * 5
    assert layer.aggregation == 5 * (3 * 8 * 9 + 3)
    assert layer.parameters == 9 * 8 * 9 + 9 + layer.aggregation + layer.attention + 2 + 5
