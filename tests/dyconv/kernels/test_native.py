"""Compiled kernels against the definition in double precision: any shape, any number of threads, and without them."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from dyconv import DynamicConv2d
from dyconv.functional import dynamic_conv2d
from dyconv.kernels import kernel_ops, native
from dyconv.kernels import kernel_ops as ordering
from tests.dyconv.definition import CLOSE, by_image, compiled, with_gradients


def depthwise(batch: int, channels: int, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[Tensor, ...]:
    """Channels-last images, K = 3 kernels and attention that want gradients."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(batch, channels, *size, generator=draw).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(3, channels, 1, *kernel, generator=draw)
    attention = torch.softmax(torch.randn(batch, 3, generator=draw), 1)
    return tuple(tensor.requires_grad_() for tensor in (images, weight, attention))


def ours(tensors: tuple[Tensor, ...], **how: Any) -> list[Tensor]:
    return with_gradients(dynamic_conv2d(*tensors, algorithm="direct", **how), tensors)


@compiled
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_depthwise_convolution_is_the_definition(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation, stride = (data.draw(st.tuples(st.integers(1, 2), st.integers(1, 3))) for _ in range(2))
    padding = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = (least[0] + data.draw(st.integers(0, 6)), least[1] + data.draw(st.integers(0, 6)))
    channels, batch = data.draw(st.integers(2, 37)), data.draw(st.integers(2, 4))
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": channels}
    tensors = depthwise(batch, channels, size, kernel)
    for found, expected in zip(ours(tensors, **how), with_gradients(by_image(*tensors, **how), tensors), strict=True):
        torch.testing.assert_close(found, expected.to(found.dtype), **CLOSE)


@compiled
def test_where_the_compiled_kernels_are_missing_torch_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, how = depthwise(4, 20, (9, 8), (3, 3)), {"padding": 1, "stride": 2, "groups": 20}
    calls: list[str] = []
    gather = native.gather
    monkeypatch.setattr(native, "gather", lambda *a: (calls.append("gather"), gather(*a))[1])
    with_them = ours(tensors, **how)
    assert calls, "they were not used at all"
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(native, "_LIBRARY", None)
        without = ours(tensors, **how)
    assert not calls
    assert native.available()
    for one, other in zip(with_them, without, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@compiled
@pytest.mark.parametrize("kernel", [3, 5])
def test_the_number_of_threads_changes_no_bit(kernel: int, two_threads: None) -> None:
    tensors, how = depthwise(5, 37, (11, 12), (kernel, kernel)), {"padding": kernel // 2, "groups": 37}
    found = ours(tensors, **how)
    torch.set_num_threads(1)
    for one, other in zip(ours(tensors, **how), found, strict=True):
        assert torch.equal(one, other)


@compiled
def test_results_do_not_depend_on_the_rest_of_the_batch() -> None:
    images, weight, attention = depthwise(6, 16, (7, 7), (3, 3))
    whole = dynamic_conv2d(images, weight, attention, padding=1, groups=16, algorithm="direct")
    part = dynamic_conv2d(images[2:5], weight, attention[2:5], padding=1, groups=16, algorithm="direct")
    assert torch.equal(whole[2:5], part)


@compiled
def test_a_second_derivative_is_that_of_the_definition() -> None:
    def penalty(convolve: Any) -> tuple[Tensor, ...]:
        tensors = depthwise(3, 6, (5, 5), (3, 3))
        first = torch.autograd.grad(convolve(*tensors).square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), tensors)

    found = penalty(lambda *tensors: dynamic_conv2d(*tensors, padding=1, groups=6, algorithm="direct"))
    for one, other in zip(found, penalty(lambda *t: by_image(*t, padding=1, groups=6)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_a_part(wanted: tuple[int, ...]) -> None:
    tensors, how = depthwise(3, 6, (5, 5), (3, 3)), {"padding": 1, "groups": 6}
    for index in {0, 1, 2} - set(wanted):
        tensors[index].requires_grad_(False)
    asked = tuple(tensors[index] for index in wanted)
    found = with_gradients(dynamic_conv2d(*tensors, algorithm="direct", **how), asked)
    for one, other in zip(found, with_gradients(by_image(*tensors, **how), asked), strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), **CLOSE)


@pytest.mark.parametrize("num_kernels", [1, 2, 3, 4, 8, 16, 17])
@pytest.mark.parametrize(("images", "numbers"), [(1, 1), (3, 15), (5, 16), (2, 512), (7, 1300)])
@pytest.mark.parametrize("threads", [1, 2])
def test_mixing_and_its_gradients(num_kernels: int, images: int, numbers: int, threads: int, two_threads: None) -> None:
    torch.set_num_threads(threads)
    draw = torch.Generator().manual_seed(0)
    attention = torch.softmax(torch.randn(images, num_kernels, generator=draw), 1)
    # Rows that are further apart than they are long, as a block of a kernel has them.
    weight = torch.randn(num_kernels, numbers + 9, generator=draw)[:, 4 : 4 + numbers]
    grad = torch.randn(images, numbers, generator=draw)
    torch.testing.assert_close(
        kernel_ops.mix(attention, weight), (attention.double() @ weight.double()).float(), **CLOSE
    )
    sums = torch.ones(num_kernels, numbers + 9), torch.ones(images, num_kernels)
    kernel_ops.add_gradients(attention, weight, grad, sums[1], sums[0][:, 4 : 4 + numbers])
    to_weight, to_attention = attention.double().t() @ grad.double(), grad.double() @ weight.double().t()
    torch.testing.assert_close(sums[0][:, 4 : 4 + numbers], (to_weight + 1).float(), **CLOSE)
    torch.testing.assert_close(sums[1], (to_attention + 1).float(), rtol=1e-4, atol=1e-3)
    assert torch.equal(sums[0][:, :4], torch.ones(num_kernels, 4)), "what lies beside is left alone"
    assert torch.equal(sums[0][:, 4 + numbers :], torch.ones(num_kernels, 5))


@compiled
def test_mixing_gives_the_same_bits_with_any_number_of_threads(two_threads: None) -> None:
    attention, weight, grad = torch.rand(7, 4), torch.randn(4, 3000), torch.randn(7, 3000)

    def gradients() -> tuple[Tensor, Tensor]:
        sums = torch.zeros(7, 4), torch.zeros(4, 3000)
        kernel_ops.add_gradients(attention, weight, grad, *sums)
        return sums

    found, mixed = gradients(), kernel_ops.mix(attention, weight)
    torch.set_num_threads(1)
    assert all(itertools.starmap(torch.equal, zip(found, gradients(), strict=True)))
    assert torch.equal(mixed, kernel_ops.mix(attention, weight))


@compiled
@settings(deadline=None, max_examples=80)
@given(
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    num_kernels=st.integers(1, 4),
    threads=st.integers(1, 2),
)
def test_numbers_of_kernels_are_put_where_torch_puts_them(
    channels: tuple[int, int], kernel: tuple[int, int], num_kernels: int, threads: int
) -> None:
    before = torch.get_num_threads()
    weight = torch.randn(num_kernels, *channels, *kernel)
    try:
        torch.set_num_threads(threads)
        ordered = ordering.by_patch(weight)
        assert torch.equal(ordered, weight.permute(0, 3, 4, 2, 1).reshape(num_kernels, -1))
        turned = weight.flip(3, 4).permute(0, 3, 4, 1, 2).reshape(num_kernels, -1)
        assert torch.equal(ordering.flipped(ordered, channels[1], kernel), turned)
        assert torch.equal(ordering.by_output(ordered, weight), weight)
    finally:
        torch.set_num_threads(before)


@compiled
def test_kernels_that_the_compiled_code_does_not_know_are_ordered_by_torch() -> None:
    whole = torch.randn(2, 6, 5, 4, 3)
    for weight in (whole.double(), whole[:, ::2], torch.randn(2, 3, 2, 1, 257)):
        ordered = ordering.by_patch(weight)
        assert torch.equal(ordered, weight.permute(0, 3, 4, 2, 1).flatten(1))
        assert torch.equal(ordering.by_output(ordered, weight), weight)


def test_other_types_are_torchs_business() -> None:
    attention, weight = torch.rand(3, 4), torch.randn(4, 50)
    for dtype in (torch.float64, torch.bfloat16):
        assert not native.can_mix(attention.to(dtype), weight.to(dtype))
        found = kernel_ops.mix(attention.to(dtype), weight.to(dtype))
        torch.testing.assert_close(found, attention.to(dtype) @ weight.to(dtype))
    assert not native.can_mix(attention.t(), weight), "not one row after the other"
    assert not native.can_mix(attention, weight.t().contiguous().t())


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kernel", [1, 3])
def test_torch_func_takes_gradients_and_maps_over_images(groups: int, kernel: int) -> None:
    torch.manual_seed(0)
    layer = DynamicConv2d(8, 8, kernel, padding=kernel // 2, groups=groups)
    images = torch.randn(5, 8, 6, 6)
    weights = dict(layer.named_parameters()) | dict(layer.named_buffers())
    learned = {name: tensor.detach() for name, tensor in layer.named_parameters()}

    def loss(learned: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(layer, {**weights, **learned}, (images,)).square().sum()

    whole = torch.func.grad(loss)(learned, images)
    layer(images).square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(whole[name], parameter.grad, rtol=1e-3, atol=1e-3)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(learned, images[:, None])
    for name, gradient in whole.items():
        torch.testing.assert_close(each[name].sum(0), gradient, rtol=1e-3, atol=1e-3)
