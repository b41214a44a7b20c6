"""Folding images into channels: how many at a time changes nothing, no kernel is kept, and what needs another path."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.functional import dynamic_conv2d
from dyconv.kernels import algorithms, folding
from dyconv.kernels.folding import Folding, folded_convolution
from dyconv.kernels.geometry import Geometry

Tensors = tuple[Tensor, Tensor, Tensor]

HOWS: dict[str, dict[str, Any]] = {
    "depthwise": {"groups": 4, "padding": (1, 1)},
    "depthwise, strided": {"groups": 4, "padding": (1, 0), "stride": (2, 1)},
    "grouped": {"groups": 2, "padding": (2, 2), "dilation": (2, 2)},
    "dense": {"groups": 1, "padding": (1, 1), "stride": (2, 2)},
}


def make(groups: int, last: bool, batch: int = 5, dtype: torch.dtype = torch.float64) -> Tensors:
    """Images (B, 4, 6, 7), kernels (3, 4, 4 / G, 3, 3) and attention (B, 3) that want gradients."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 4, 6, 7, generator=draw, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    weight = torch.randn(3, 4, 4 // groups, 3, 3, generator=draw, dtype=dtype)
    attention = torch.softmax(torch.randn(batch, 3, generator=draw, dtype=dtype), 1)
    return images.requires_grad_(), weight.requires_grad_(), attention.requires_grad_()


def convolution(how: dict[str, Any], at_a_time: int) -> Folding:
    complete = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), **how}
    return Folding(**complete, at_a_time=at_a_time)


def by_image(images: Tensor, weight: Tensor, attention: Tensor, **how: Any) -> Tensor:
    """The definition: each image with its own kernel."""
    kernels = torch.einsum("bk,k...->b...", attention, weight)
    return torch.cat([F.conv2d(images[b : b + 1], kernels[b], **how) for b in range(len(images))])


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("at_a_time", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("room", [1, 2**20])
def test_how_many_at_a_time_changes_nothing(
    how: dict[str, Any], last: bool, at_a_time: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_MIXTURE_BYTES", room)
    tensors = make(how["groups"], last)
    ours, expected = folded_convolution(*tensors, convolution(how, at_a_time)), by_image(*tensors, **how)
    torch.testing.assert_close(ours, expected)
    seed = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, tensors, seed) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("at_a_time", [2, 5])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_gradients_of_a_part(at_a_time: int, wanted: tuple[int, ...]) -> None:
    tensors = make(4, True)
    for index in {0, 1, 2} - set(wanted):
        tensors[index].requires_grad_(False)
    asked = [tensors[index] for index in wanted]
    ours = folded_convolution(*tensors, convolution(HOWS["depthwise"], at_a_time))
    expected = torch.autograd.grad(by_image(*tensors, **HOWS["depthwise"]).square().sum(), asked)
    for a, b in zip(torch.autograd.grad(ours.square().sum(), asked), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("at_a_time", [1, 2, 5])
def test_a_second_derivative_is_that_of_the_definition(at_a_time: int, last: bool) -> None:
    how = HOWS["depthwise"]

    def penalty(ours: bool) -> tuple[Tensor, ...]:
        tensors = make(4, last)
        output = folded_convolution(*tensors, convolution(how, at_a_time)) if ours else by_image(*tensors, **how)
        first = torch.autograd.grad(output.square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), tensors)

    for a, b in zip(penalty(True), penalty(False), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["each", "grouped", "depthwise"])
def test_no_kernel_per_image_is_kept(name: str) -> None:
    tensors = make(4, True, batch=50)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        dynamic_conv2d(*tensors, padding=1, groups=4, algorithm=name)
    assert kept, "the images at least are kept"
    kernels = 50 * tensors[1][0].numel()
    assert not [tensor.shape for tensor in kept if tensor.numel() == kernels]


@pytest.mark.parametrize("at_a_time", [2, 5])
def test_formats_are_kept_both_ways(at_a_time: int) -> None:
    for last in (True, False):
        format_ = torch.channels_last if last else torch.contiguous_format
        images, weight, attention = make(4, last)
        output = folded_convolution(images, weight, attention, convolution(HOWS["depthwise"], at_a_time))
        if at_a_time < len(images):
            assert output.is_contiguous(memory_format=format_)
        output = dynamic_conv2d(images, weight, attention, padding=1, groups=4, algorithm="depthwise")
        assert output.is_contiguous(memory_format=format_)
        (grad,) = torch.autograd.grad(output.sum(), images)
        assert grad.is_contiguous(memory_format=format_)


def test_sums_over_images_are_exact_in_half_precision() -> None:
    images, weight, attention = make(1, True, batch=200)
    low = [tensor.detach().bfloat16().requires_grad_() for tensor in (images, weight, attention)]
    exact = [tensor.detach().double().requires_grad_() for tensor in low]
    grads = [
        torch.autograd.grad(dynamic_conv2d(*tensors, padding=1, algorithm="each").sum(), tensors[1])[0].double()
        for tensors in (low, exact)
    ]
    assert (grads[0] - grads[1]).norm() / grads[1].norm() < 0.01


@pytest.mark.parametrize(
    ("channels", "size", "expected"), [(16, 112, 1), (96, 28, 3), (48, 32, 5), (288, 8, 64), (480, 2, 64)]
)
def test_large_maps_are_taken_one_by_one_and_small_ones_all_together(channels: int, size: int, expected: int) -> None:
    one = (1, 1)
    g = Geometry(64, 4, channels, channels, (size, size), (3, 3), one, one, one, channels)
    assert algorithms._folded_at_a_time(g, torch.zeros(1)) == expected
    assert algorithms._folded_at_a_time(g, torch.zeros(1, device="meta")) == 64, "an accelerator takes all at once"
