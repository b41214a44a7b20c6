"""`DCDConv2d` against its formula, pixel by pixel, and as a layer of networks with groups, which it leaves static."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv import (
    ArgumentError,
    ConversionError,
    DCDConv2d,
    ShapeError,
    build_model,
    conversion_report,
    cost,
    describe_layers,
    dynamic_layers,
    intervene,
    make_dynamic,
    record_attention,
)
from dyconv.layers.kinds import layer_kind

GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2, "bias": False},
    {"kernel_size": 1, "padding": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 5, "padding": 1, "stride": 3},
    {"kernel_size": (3, 1), "padding": (2, 0), "stride": (1, 2)},
    {"kernel_size": 2, "padding": 1},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 3, "padding": "tf_same", "stride": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "stride": 2},
]

Change = Callable[[Tensor], Tensor]


def hard(z: Tensor) -> Tensor:
    """h(z) = relu6(z + 3) / 3, written out."""
    return torch.minimum(torch.maximum(z + 3, torch.zeros_like(z)), torch.full_like(z, 6.0)) / 3


def pooled(image: Tensor, is_pointwise: bool) -> Tensor:
    """The average of each channel, or those of its quarters, channel by channel."""
    if is_pointwise:
        return image.mean((1, 2))
    return F.adaptive_avg_pool2d(image, 2).flatten()


def normalised(values: list[list[Tensor]], norm: nn.BatchNorm2d) -> list[list[Tensor]]:
    """The batch norm of vectors, by image and pixel: over all of them in training, else by the running statistics."""
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        every = torch.stack([vector for image in values for vector in image])
        mean = every.mean(0)
        variance = (every - mean).square().mean(0)
    assert mean is not None
    assert variance is not None
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return [[scale * (vector - mean) + norm.bias for vector in image] for image in values]


def sides(size: int, kernel: int, stride: int, dilation: int, padding: int | str) -> tuple[int, int]:
    """The pixels before and after a row, by the rule that the padding names."""
    if isinstance(padding, int):
        return padding, padding
    span = dilation * (kernel - 1)
    total = max(0, (math.ceil(size / stride) - 1) * stride + span + 1 - size)
    return total // 2, total - total // 2


def by_formula(
    layer: DCDConv2d, x: Tensor, change_core: Change = Tensor.clone, change_scale: Change = Tensor.clone
) -> Tensor:
    """The definition: per image the squeezed vector, core and scales; per pixel the sum of both products."""
    (height, width), (vertical, horizontal) = layer.kernel_size, layer.stride
    padding = layer.padding if isinstance(layer.padding, tuple) else (layer.padding, layer.padding)
    top, bottom = sides(x.shape[2], height, vertical, layer.dilation[0], padding[0])
    left, right = sides(x.shape[3], width, horizontal, layer.dilation[1], padding[1])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    framed = F.pad(x, (left, right, top, bottom), mode=mode)
    down, across = layer.dilation[0] * (height - 1), layer.dilation[1] * (width - 1)
    rows = range(0, framed.shape[2] - down, vertical)
    columns = range(0, framed.shape[3] - across, horizontal)
    centres = [[framed[b, :, i + down // 2, j + across // 2] for i in rows for j in columns] for b in range(len(x))]
    branch, size = layer.branch, layer.core_size
    cores, scales = [], []
    for image in x:
        g = branch.squeeze.weight @ pooled(image, layer.kernel_size == (1, 1))
        s = g * hard(branch.gate.weight @ g)
        cores.append(branch.core.weight @ s)
        scales.append(hard(branch.scale.weight @ s))
    core, scale = change_core(torch.stack(cores)), change_scale(torch.stack(scales))
    reduced = normalised([[layer.reduce[:, :, 0, 0] @ c for c in image] for image in centres], layer.reduced_norm)
    mixed = normalised(
        [[core[b].reshape(size, size) @ u for u in image] for b, image in enumerate(reduced)], layer.mixed_norm
    )
    images = []
    for b in range(len(x)):
        pixels = []
        for i in rows:
            for j in columns:
                patch = framed[b, :, i : i + down + 1 : layer.dilation[0], j : j + across + 1 : layer.dilation[1]]
                static = (layer.weight[0] * patch).sum((1, 2, 3))
                n = len(pixels)
                dynamic = layer.expand[:, :, 0, 0] @ (reduced[b][n] + mixed[b][n])
                pixels.append(scale[b] * static + dynamic)
        image = torch.stack(pixels, 1).reshape(-1, len(rows), len(columns))
        images.append(image if layer.bias is None else image + layer.bias[0][:, None, None])
    return torch.stack(images)


def lively(layer: DCDConv2d) -> DCDConv2d:
    """A layer in double precision whose gates reach both of their ends and whose norms have seen something."""
    with torch.no_grad():
        for linear in (layer.branch.squeeze, layer.branch.gate, layer.branch.core, layer.branch.scale):
            linear.weight.normal_(std=1.5)
        for norm in (layer.reduced_norm, layer.mixed_norm):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return layer.double()


def images(batch: int = 4, channels: int = 9) -> Tensor:
    return torch.randn(batch, channels, 7, 6, dtype=torch.float64) + torch.randn(batch, channels, 1, 1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_forward_and_gradients_are_the_formulas(geometry: dict[str, Any], channels_last: bool, training: bool) -> None:
    layer, x = lively(DCDConv2d(9, 5, **geometry)).train(training), images()
    if channels_last:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    inputs = [x.requires_grad_(), *layer.parameters()]
    expected = by_formula(layer, x)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    seed = torch.randn_like(expected)
    gradients = torch.autograd.grad((y * seed).sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * seed).sum(), inputs))
    if channels_last:
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_large_map_is_the_formulas_too(bias: bool, channels_last: bool, training: bool) -> None:
    layer, x = lively(DCDConv2d(9, 5, 1, bias=bias)).train(training), images()
    # At least four pixels for each channel: the kernel of an image is scaled, not its output.
    x = torch.cat([x, 2 * x.flip(0)], 2)[:2]
    assert x.shape[2] * x.shape[3] >= 4 * 9
    if channels_last:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    inputs = [x.requires_grad_(), *layer.parameters()]
    y, expected = layer(x), by_formula(layer, x)
    torch.testing.assert_close(y, expected)
    seed = torch.randn_like(expected)
    gradients = torch.autograd.grad((y * seed).sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * seed).sum(), inputs))
    if channels_last:
        assert y.is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer.float()(x.float())
    assert half.dtype == torch.bfloat16
    assert (half.double() - y).norm() < 0.05 * y.norm()


@pytest.mark.parametrize(
    ("channels", "kernel", "core", "squeezed"),
    [(1, 1, 1, 4), (64, 1, 8, 4), (99, 1, 9, 6), (320, 1, 17, 20), (3, 3, 3, 4), (24, 3, 9, 5), (64, 5, 16, 16)],
)
def test_sizes_follow_the_channels(channels: int, kernel: int, core: int, squeezed: int) -> None:
    layer = DCDConv2d(channels, 6, kernel)
    shapes = {name: tuple(value.shape) for name, value in layer.named_parameters()}
    assert shapes == {
        "weight": (1, 6, channels, kernel, kernel),
        "bias": (1, 6),
        "reduce": (core, channels, 1, 1),
        "expand": (6, core, 1, 1),
        "branch.squeeze.weight": (squeezed, channels if kernel == 1 else 4 * channels),
        "branch.gate.weight": (squeezed, squeezed),
        "branch.core.weight": (core * core, squeezed),
        "branch.scale.weight": (6, squeezed),
        "reduced_norm.weight": (core,),
        "reduced_norm.bias": (core,),
        "mixed_norm.weight": (core,),
        "mixed_norm.bias": (core,),
    }


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_quarters_of_small_maps(size: tuple[int, int]) -> None:
    layer, x = lively(DCDConv2d(4, 4, 3, padding=1)).eval(), torch.randn(2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_formula(layer, x))


def test_its_attentions_are_changed_one_by_one() -> None:
    model = nn.Sequential(lively(DCDConv2d(9, 5, 3, padding=1))).eval()
    layer, x = model[0], images()
    assert isinstance(layer, DCDConv2d)

    def averaged(weights: Tensor) -> Tensor:
        return weights.mean(1, keepdim=True).expand_as(weights)

    with intervene(model, "average", attention="core"):
        torch.testing.assert_close(model(x), by_formula(layer, x, change_core=averaged))
    with intervene(model, "average", attention="scale"), record_attention(model, "scale") as recorder:
        torch.testing.assert_close(model(x), by_formula(layer, x, change_scale=averaged))
    with intervene(model, "average"):
        torch.testing.assert_close(model(x), by_formula(layer, x, averaged, averaged))
    scales = recorder.branch["0"]
    assert torch.equal(scales, layer.scale(x))
    assert scales.shape == (4, 5)
    assert scales.min() == 0
    assert scales.max() == 2
    assert layer.attention(x).shape == (4, layer.core_size**2)
    assert torch.equal(layer.attention(x[1]), layer.attention(x[1:2])[0])
    assert torch.equal(layer.scale(x[1]), layer.scale(x[1:2])[0])
    torch.testing.assert_close(layer(x[1]), layer(x)[1])


def test_branch_is_computed_in_float32_and_the_rest_under_autocast() -> None:
    layer, x = DCDConv2d(16, 8, 3, padding=1).eval(), torch.randn(2, 16, 5, 6)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.attention(x).dtype == layer.scale(x).dtype == torch.float32
        y = layer(x)
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    for result in (y, half):
        assert result.dtype == torch.bfloat16
        assert (result.float() - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_it_begins_as_the_static_network_and_learns_from_there(noise: float) -> None:
    model = build_model("resnet10", 10, seed=0).eval()
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        make_dynamic(model, layer="dcd", start="static", noise=noise, seed=0)
        assert len(list(dynamic_layers(model))) == 11
        assert torch.allclose(model(x), expected, rtol=1e-3, atol=1e-4) == (noise == 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model)
    # P and S learn first; what stands before them moves once they are no longer zero.
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x), torch.arange(4)).backward()
        optimizer.step()
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        assert not torch.equal(old, new), name


def test_layers_with_groups_stay_static_and_the_report_says_why() -> None:
    blocks = {"not": {"role": ["stem", "head", "squeeze_excitation"]}}
    model = build_model("mobilenet_v2", 10, layer="dcd", where=blocks, seed=0)
    report = conversion_report(model)
    assert report is not None
    roles = {info.name: info.role for info in describe_layers(model)}
    assert {roles[name] for name in report.dynamic} == {"expansion", "projection"}
    grouped = [name for name, reason in report.left_static.items() if "has groups" in reason]
    assert {roles[name] for name in grouped} == {"depthwise"}
    assert len(report.dynamic) == 33
    assert len(grouped) == 17
    assert all(isinstance(model.get_submodule(name), DCDConv2d) for name in report.dynamic)


def test_a_placement_of_layers_with_groups_alone_is_an_error() -> None:
    with pytest.raises(ConversionError, match=r"has groups.*layer='dcd' can replace none of the 17.*where="):
        build_model("mobilenet_v2", 10, layer="dcd", where={"role": ["depthwise"]})
    with pytest.raises(ArgumentError, match="groups=4"):
        DCDConv2d(4, 4, 1, groups=4)


@pytest.mark.parametrize(
    "option", [{"num_kernels": 8}, {"reduction": 8}, {"temperature": 1.0}, {"normalization": "sigmoid"}], ids=str
)
def test_it_reads_none_of_the_settings_of_k_kernels(option: dict[str, Any]) -> None:
    assert layer_kind("dcd").reads == {"aggregation"}
    with pytest.raises(ArgumentError, match=f"'dcd' has no {next(iter(option))}"):
        make_dynamic(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)), layer="dcd", **option)


def test_cost_by_hand() -> None:
    model = nn.Sequential(DCDConv2d(8, 6, 3, padding=1, stride=2, bias=False))
    (layer, _) = cost(model, (8, 5, 6)).layers
    # L = 5, squeezed 32 -> 4; 3 x 3 output pixels.
    assert layer.convolution == 6 * 8 * 9 * 9
    assert layer.pooling == 8 * 30
    assert layer.attention == 32 * 4 + 4 * 4 + 4 * 25 + 4 * 6
    assert layer.aggregation == 9 * (5 * 8 + 5 * 5 + 6 * 5 + 6)
    assert layer.parameters == 6 * 8 * 9 + layer.attention + 5 * 8 + 6 * 5 + 4 * 5


def test_frozen_layers_stay_frozen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    model[1].requires_grad_(False)
    make_dynamic(model, layer="dcd")
    assert not any(parameter.requires_grad for parameter in model[1].parameters())
    assert all(parameter.requires_grad for parameter in model[2].parameters())


def test_images_of_another_shape_are_errors() -> None:
    with pytest.raises(ShapeError, match="C = 8"):
        DCDConv2d(8, 4, 1)(torch.randn(2, 9, 4, 4))
