"""Compiled products of tiles against the definition in double precision: any shape, any number of threads."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dyconv.functional import dynamic_conv2d
from dyconv.kernels import native
from dyconv.kernels.algorithms import Geometry, available_algorithms
from dyconv.kernels.products import PatchGrid
from dyconv.kernels.tiling import Tiles
from tests.dyconv.definition import CLOSE, by_image, compiled, with_gradients


def pointwise(
    batch: int, channels: tuple[int, int], size: tuple[int, int], num_kernels: int = 4, kernel: tuple[int, int] = (1, 1)
) -> tuple[Tensor, ...]:
    """Channels-last images, kernels (of one tap, if no other size is given) and attention, that want gradients."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(batch, channels[0], *size, generator=draw).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(num_kernels, channels[1], channels[0], *kernel, generator=draw)
    attention = torch.softmax(torch.randn(batch, num_kernels, generator=draw), 1)
    return tuple(tensor.requires_grad_() for tensor in (images, weight, attention))


def tiled(tensors: tuple[Tensor, ...], **how: Any) -> list[Tensor]:
    return with_gradients(dynamic_conv2d(*tensors, algorithm="tiled", **how), tensors)


@compiled
@settings(deadline=None, max_examples=80)
@given(
    channels=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    batch=st.integers(2, 9),
    num_kernels=st.integers(2, 16),
)
def test_a_pointwise_convolution_is_the_definition(
    channels: tuple[int, int], size: tuple[int, int], batch: int, num_kernels: int
) -> None:
    tensors = pointwise(batch, channels, size, num_kernels)
    for found, expected in zip(tiled(tensors), with_gradients(by_image(*tensors), tensors), strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-3)


@compiled
@settings(deadline=None, max_examples=120)
@given(data=st.data())
def test_a_convolution_is_the_definition(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride, dilation = (data.draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (3, 2))
    padding = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = (least[0] + data.draw(st.integers(0, 9)), least[1] + data.draw(st.integers(0, 9)))
    channels = data.draw(st.tuples(st.integers(8, 35), st.integers(8, 35)))
    how = {"stride": stride, "padding": padding, "dilation": dilation}
    tensors = pointwise(data.draw(st.integers(2, 6)), channels, size, 3, kernel)
    for found, expected in zip(tiled(tensors, **how), with_gradients(by_image(*tensors, **how), tensors), strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=2e-3)


@compiled
@pytest.mark.parametrize("channels", [(8, 300), (300, 8), (150, 40), (40, 150)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_maps_that_do_not_fit_the_cache_are_done_in_chunks(channels: tuple[int, int], kernel: int) -> None:
    tensors, how = pointwise(9, channels, (23, 23), kernel=(kernel, kernel)), {"padding": kernel // 2}
    for found, expected in zip(tiled(tensors, **how), with_gradients(by_image(*tensors, **how), tensors), strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-2)


@compiled
@pytest.mark.parametrize("channels", [(10, 40), (40, 10), (33, 70)])
@pytest.mark.parametrize(("size", "kernel"), [((2, 2), 1), ((30, 30), 1), ((9, 9), 3)])
def test_the_number_of_threads_changes_no_bit_of_a_product(
    channels: tuple[int, int], size: tuple[int, int], kernel: int, two_threads: None
) -> None:
    tensors, how = pointwise(13, channels, size, kernel=(kernel, kernel)), {"padding": kernel // 2}
    found = tiled(tensors, **how)
    torch.set_num_threads(1)
    for one, other in zip(tiled(tensors, **how), found, strict=True):
        assert torch.equal(one, other)


@compiled
def test_a_pointwise_result_does_not_depend_on_the_rest_of_the_batch() -> None:
    images, weight, attention = pointwise(12, (40, 24), (20, 20))
    whole = dynamic_conv2d(images, weight, attention, algorithm="tiled")
    part = dynamic_conv2d(images[3:8], weight, attention[3:8], algorithm="tiled")
    assert torch.equal(whole[3:8], part)


@compiled
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_the_gradient_of_an_input_begins_where_it_is_told(kernel: int, stride: int, two_threads: None) -> None:
    _, weight, attention = (t.detach() for t in pointwise(3, (24, 9), (1, 1), kernel=(kernel, kernel)))
    images = torch.empty(3, 24, 7, 6)
    size = tuple((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in (7, 6))
    grid = PatchGrid((kernel, kernel), (stride, stride), (kernel // 2, kernel // 2), (1, 1), (size[0], size[1]))
    grad = torch.randn(3, 9, *size).contiguous(memory_format=torch.channels_last)
    start, tiles = torch.randn(3, 24), Tiles(grid)
    given = images, weight, tiles.shared(weight), attention, grad
    alone, together = tiles.input_gradient(*given, None), tiles.input_gradient(*given, start)
    torch.testing.assert_close(together, alone + start[:, :, None, None], **CLOSE)


@compiled
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_a_part_of_a_pointwise_one(wanted: tuple[int, ...]) -> None:
    tensors = pointwise(3, (12, 20), (3, 3))
    for index in {0, 1, 2} - set(wanted):
        tensors[index].requires_grad_(False)
    asked = tuple(tensors[index] for index in wanted)
    found = with_gradients(dynamic_conv2d(*tensors, algorithm="tiled"), asked)
    for one, other in zip(found, with_gradients(by_image(*tensors), asked), strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), **CLOSE)


@compiled
def test_a_second_derivative_of_a_pointwise_one_is_that_of_the_definition() -> None:
    def penalty(convolve: Any) -> tuple[Tensor, ...]:
        tensors = pointwise(3, (8, 10), (2, 3))
        first = torch.autograd.grad(convolve(*tensors).square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), tensors)

    found = penalty(lambda *tensors: dynamic_conv2d(*tensors, algorithm="tiled"))
    for one, other in zip(found, penalty(by_image), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)


@compiled
def test_what_the_compiled_products_do_not_know_is_multiplied_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    product = native.product
    monkeypatch.setattr(native, "product", lambda *a, **k: (calls.append(1), product(*a, **k))[1])
    known = pointwise(3, (8, 10), (2, 3))
    with_them = tiled(known)
    assert len(calls) == 2, "forward, and the gradient of the input"
    with monkeypatch.context() as patch:
        patch.setattr(native, "_LIBRARY", None)
        without = tiled(known)
    unknown = tuple(tensor.detach().double().requires_grad_() for tensor in known)
    double = tiled(unknown)
    assert len(calls) == 2
    for one, other, third in zip(with_them, without, double, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
        torch.testing.assert_close(one, third.float(), **CLOSE)


def test_layers_too_narrow_for_the_compiled_products_are_not_given_to_them() -> None:
    def able(channels: int, out_channels: int, num_kernels: int = 4, **how: Any) -> list[str]:
        sizes = {"kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, **how}
        shape = {"batch": 4, "num_kernels": num_kernels, "in_channels": channels, "out_channels": out_channels}
        return available_algorithms(Geometry(**shape, input_size=(5, 5), **sizes))

    assert "tiled" in able(8, 8)
    assert "tiled" not in able(7, 8)
    assert "tiled" not in able(8, 7)
    assert "tiled" not in able(8, 8, num_kernels=17)
    assert "tiled" not in able(8, 8, groups=2)
