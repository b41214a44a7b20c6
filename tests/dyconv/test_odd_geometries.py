"""Geometries, sizes and devices that `nn.Conv2d` and `nn.Linear` take, against the definition in double precision."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dyconv import CondConv2d, DynamicConv2d, DynamicLinear, ShapeError, make_dynamic
from tests.dyconv.layer_kinds import CASES, NAMES, LayerCase, assert_alike, with_all_gradients


def by_definition(layer: Any, images: Tensor) -> Tensor:
    """Each image with its own kernel, by torch's convolution."""
    mixture, results = layer.mixture(images), []
    for index in range(len(images)):
        kernel = torch.einsum("k,koihw->oihw", mixture[index], layer.weight)
        bias = None if layer.bias is None else mixture[index] @ layer.bias
        image, padding = images[index : index + 1], layer.padding
        if layer.padding_mode != "zeros":
            image, padding = F.pad(image, layer._sides(), mode=layer.padding_mode), 0
        results.append(F.conv2d(image, kernel, bias, layer.stride, padding, layer.dilation, layer.groups))
    return torch.cat(results)


def agree(layer: nn.Module, images: Tensor) -> None:
    double = copy.deepcopy(layer).double()
    expected = with_all_gradients(double, images.double(), lambda x: by_definition(double, x))
    assert_alike(with_all_gradients(layer, images), expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [DynamicConv2d, CondConv2d])
@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 8, "stride": 50, "groups": 8},  # the one output meets padding only
        {"kernel_size": 3, "padding": 8, "stride": 50},
        {"kernel_size": 3, "padding": 8, "stride": 50, "groups": 2},
        {"kernel_size": 1, "padding": 3, "stride": 20, "groups": 8},
        {"kernel_size": 1, "padding": 3, "stride": 20},
        {"kernel_size": 2, "padding": 9, "stride": 5, "dilation": 4, "groups": 8},
        {"kernel_size": 3, "padding": (0, 5), "stride": (1, 30), "groups": 8},
        {"kernel_size": 3, "stride": 7},
    ],
    ids=str,
)
def test_outputs_that_meet_padding_only(
    geometry: dict[str, Any], kind: Any, memory_format: torch.memory_format
) -> None:
    for bias in (False, True):
        layer = kind(8, 8, **geometry, bias=bias, num_kernels=3)
        agree(layer, torch.randn(3, 8, 4, 4).contiguous(memory_format=memory_format))


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    pair = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
    groups, per_group = data.draw(st.sampled_from([(1, 3), (1, 9), (1, 16), (2, 4), (8, 1), (17, 1)]))
    mode = data.draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    geometry = {
        "kernel_size": data.draw(pair(1, 4)),
        "stride": data.draw(st.sampled_from([(1, 1), (2, 2), (1, 3), (9, 2), (40, 40)])),
        "padding": data.draw(pair(0, 6)),
        "dilation": data.draw(pair(1, 3)),
        "groups": groups,
        "bias": data.draw(st.booleans()),
        "padding_mode": mode,
    }
    channels = groups * per_group
    images = torch.randn(data.draw(st.integers(1, 4)), channels, *data.draw(pair(1, 7)))
    try:
        nn.Conv2d(channels, channels, **geometry)(images)
    except RuntimeError:
        assume(False)
    kind = data.draw(st.sampled_from([DynamicConv2d, CondConv2d]))
    memory_format = data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    layer = kind(channels, channels, **geometry, num_kernels=data.draw(st.integers(1, 4)))
    agree(layer, images.contiguous(memory_format=memory_format))


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_one_image_without_a_batch(case: LayerCase) -> None:
    if case.name == "linear":
        pytest.skip("two dimensions are a batch there; one is tested below")
    layer, images = case.build(), case.images(batch=1)
    expected = with_all_gradients(layer, images)
    alone = with_all_gradients(layer, images[0])
    assert_alike([alone[0][None], alone[1][None], *alone[2:]], expected)
    attention: Any = layer.attention
    torch.testing.assert_close(attention(images[0]), attention(images)[0])
    with torch.no_grad():
        torch.testing.assert_close(layer(images[0]), expected[0][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_no_image_at_all(case: LayerCase) -> None:
    layer, images = case.build(), case.images(batch=0)
    results = with_all_gradients(layer, images)
    assert results[0].shape == (0, *case.build()(case.images()).shape[1:])
    assert all(float(gradient.abs().sum()) == 0 for gradient in results[1:])
    with torch.no_grad():
        assert layer(images).shape == results[0].shape


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_meta_device(case: LayerCase) -> None:
    layer, images = case.build(), case.images()
    expected = layer(images)
    layer.to("meta")
    meta = images.to("meta").requires_grad_()
    output = layer(meta)
    output.sum().backward()
    assert (output.device.type, output.shape) == ("meta", expected.shape)
    assert meta.grad is not None
    with torch.no_grad():
        assert layer(meta[:1]).shape == expected[:1].shape
    with torch.device("meta"):
        assert case.build()(case.images()).shape == expected.shape
    assert layer.to_empty(device="cpu")(images).shape == expected.shape


@pytest.mark.parametrize("init", ["auto", "default", "kaiming_fan_out", "like_static"])
def test_a_network_on_the_meta_device_becomes_dynamic(init: str) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    make_dynamic(model, init=init)
    assert model(torch.empty(2, 3, 9, 9, device="meta")).shape == (2, 4, 5, 5)
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(16,), (0, 16), (0, 3, 16), (2, 0, 16), (2, 3, 0, 16), (2, 3, 4, 5, 16), (1, 1, 16)])
def test_shapes_that_a_linear_layer_takes(shape: tuple[int, ...]) -> None:
    layer, static, inputs = DynamicLinear(16, 24, temperature=1.0), nn.Linear(16, 24), torch.randn(shape)
    results = with_all_gradients(layer, inputs)
    assert results[0].shape == static(inputs).shape
    if results[0].numel():
        assert_alike(results, with_all_gradients(copy.deepcopy(layer).double(), inputs.double()))
    else:
        assert all(float(gradient.abs().sum()) == 0 for gradient in results[1:])


@pytest.mark.parametrize("kind", [DynamicConv2d, CondConv2d])
@pytest.mark.parametrize("shape", [(8, 8), (2, 7, 4, 4), (7, 4, 4), (1, 2, 8, 4, 4), (8,)])
def test_images_that_do_not_fit_are_named(kind: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(B, C, H, W\).*C = 8.*got"):
        kind(8, 8, 3)(torch.randn(shape))
