"""Compiled convolutions by kernels of several taps against the definition in double precision."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dyconv.functional import dynamic_conv2d
from dyconv.kernels import native, operators
from dyconv.kernels.geometry import Geometry
from dyconv.kernels.panels import Panels
from dyconv.kernels.products import PatchGrid
from dyconv.kernels.tiling import Tiles
from tests.dyconv.definition import CLOSE, by_image, compiled, with_gradients


def arguments(
    batch: int, channels: tuple[int, int], size: tuple[int, int], num_kernels: int, kernel: tuple[int, int]
) -> tuple[Tensor, ...]:
    """Channels-last images, kernels and attention that does not sum to one, all of which want gradients."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(batch, channels[0], *size, generator=draw).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(num_kernels, channels[1], channels[0], *kernel, generator=draw)
    attention = torch.randn(batch, num_kernels, generator=draw)
    return tuple(tensor.requires_grad_() for tensor in (images, weight, attention))


def assert_is_the_definition(tensors: tuple[Tensor, ...], how: dict[str, Any]) -> None:
    found = with_gradients(dynamic_conv2d(*tensors, algorithm="tiled", **how), tensors)
    for one, other in zip(found, with_gradients(by_image(*tensors, **how), tensors), strict=True):
        # Sums of thousands of products: an error is measured against the largest of them.
        largest = float(other.detach().abs().max())
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-4, atol=2e-5 * max(1.0, largest))


@compiled
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_convolution_by_panels_is_the_definition(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda size: size != (1, 1)))
    stride, dilation = (data.draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (3, 2))
    padding = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = tuple(data.draw(st.integers(least_of_axis, max(10, least_of_axis))) for least_of_axis in least)
    channels = data.draw(st.tuples(st.integers(8, 80), st.integers(8, 80)))
    tensors = arguments(data.draw(st.integers(1, 9)), channels, size, data.draw(st.integers(1, 8)), kernel)
    assert_is_the_definition(tensors, {"stride": stride, "padding": padding, "dilation": dilation})


@compiled
@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "num_kernels"),
    [
        ((64, 64), (32, 32), 3, 1, 4),  # images done in chunks, and lines longer than a block
        ((130, 70), (4, 4), 3, 1, 4),  # several tiles each way, the last of them with few rows and columns
        ((33, 49), (9, 13), 3, 2, 16),
        ((24, 40), (6, 5), 7, 1, 2),  # more taps than a vector has lanes, some of which meet padding only
    ],
)
def test_convolutions_of_every_kind_of_block_are_the_definition(
    channels: tuple[int, int], size: tuple[int, int], kernel: int, stride: int, num_kernels: int
) -> None:
    tensors = arguments(5, channels, size, num_kernels, (kernel, kernel))
    assert_is_the_definition(tensors, {"stride": stride, "padding": kernel // 2})


@compiled
def test_a_tap_beyond_the_map_has_a_gradient_of_zero() -> None:
    tensors = arguments(3, (9, 20), (1, 2), 3, (3, 3))
    found = with_gradients(dynamic_conv2d(*tensors, padding=1, algorithm="tiled"), tensors)[2]
    assert found[:, :, :, 1].abs().min() > 0
    assert not found[:, :, :, 0].any()
    assert not found[:, :, :, 2].any()


@compiled
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_of_an_input_begins_where_it_is_told(stride: int, two_threads: None) -> None:
    images, weight, attention = (t.detach() for t in arguments(3, (24, 9), (7, 6), 4, (3, 3)))
    rows, columns = ((n - 1) // stride + 1 for n in (7, 6))
    panels = Panels(PatchGrid((3, 3), (stride, stride), (1, 1), (1, 1), (rows, columns)))
    grad = torch.randn(3, 9, rows, columns).contiguous(memory_format=torch.channels_last)
    start = torch.randn(3, 24)
    given_tensors = images, weight, panels.shared(weight), attention, grad
    alone, together = panels.input_gradient(*given_tensors, None), panels.input_gradient(*given_tensors, start)
    torch.testing.assert_close(together, alone + start[:, :, None, None], **CLOSE)


@compiled
def test_the_number_of_threads_and_the_rest_of_the_batch_change_no_bit(two_threads: None) -> None:
    tensors = arguments(13, (70, 90), (6, 6), 4, (3, 3))
    found = with_gradients(dynamic_conv2d(*tensors, padding=1, algorithm="tiled"), tensors)
    torch.set_num_threads(1)
    alone = with_gradients(dynamic_conv2d(*tensors, padding=1, algorithm="tiled"), tensors)
    for one, other in zip(alone, found, strict=True):
        assert torch.equal(one, other)
    images, weight, attention = (t.detach() for t in tensors)
    part = dynamic_conv2d(images[3:8], weight, attention[3:8], padding=1, algorithm="tiled")
    assert torch.equal(found[0][3:8], part)


@compiled
def test_kernels_of_several_taps_go_by_panels_and_others_by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("panel_product", "panel_gradient", "product", "product_gradient"):
        function = getattr(native, name)
        monkeypatch.setattr(native, name, lambda *a, n=name, f=function: (calls.append(n), f(*a))[1])
    by_panels = ["panel_gradient", "panel_product", "panel_product"]
    by_tiles = ["product", "product", "product_gradient"]
    for kernel, expected in ((3, by_panels), (1, by_tiles)):
        tensors = arguments(3, (16, 16), (4, 4), 4, (kernel, kernel))
        with_gradients(dynamic_conv2d(*tensors, padding=kernel // 2), tensors)
        assert sorted(calls) == expected
        calls.clear()
    shape: dict[str, Any] = {"batch": 4, "num_kernels": 4, "in_channels": 16, "out_channels": 16, "input_size": (4, 4)}
    rest: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    assert isinstance(operators.computation_of(Geometry(**shape, kernel_size=(1, 3), **rest)), Panels)
    assert isinstance(operators.computation_of(Geometry(**shape, kernel_size=(1, 1), **rest)), Tiles)
