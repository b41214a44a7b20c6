"""This module computes a depthwise convolution with one kernel per image tap by tap, for maps of a few pixels.

The tap at (i, j) of a kernel touches a rectangle of the output and the matching rectangle of the input. On a 2 x 2 map
with a 3 x 3 kernel most of each rectangle is padding, and on a 1 x 1 map eight of nine taps are nothing else. So only
the pixels and taps that count are touched here. Used by `algorithms` only.

Dimensions: B images, C channels, H W pixels, T kernel taps in use.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels.derivatives import gradients_by_torch
from dyconv.kernels.geometry import Pair
from dyconv.kernels.tracing import is_ordinary, remembered

Index = tuple[slice, slice, slice]


class TapRegion(NamedTuple):
    """The reach of one tap: its flat number, and its rectangles of output and input, as indices of (B, H, W)."""

    tap: int
    output: Index
    input: Index
    pixels: int


@remembered
def used_regions(
    input_size: Pair, output_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[TapRegion, ...]:
    """Return the regions of all taps that meet at least one input pixel, in the order of the taps."""
    axes = zip(input_size, output_size, kernel_size, stride, padding, dilation, strict=True)
    rows, columns = (spans(*axis) for axis in axes)
    every_image = slice(None)
    regions = []
    for i, (out_i, in_i, n_i) in rows.items():
        for j, (out_j, in_j, n_j) in columns.items():
            output, input = (every_image, out_i, out_j), (every_image, in_i, in_j)
            regions.append(TapRegion(i * kernel_size[1] + j, output, input, n_i * n_j))
    return tuple(regions)


def spans(
    n_in: int, n_out: int, kernel: int, stride: int, padding: int, dilation: int
) -> dict[int, tuple[slice, slice, int]]:
    """Return for each tap in use along one axis the output and input positions that it connects, and their number."""
    spans = {}
    for tap in range(kernel):
        # Output y meets input y * stride + offset, which must lie between 0 and n_in - 1.
        offset = tap * dilation - padding
        first = max(0, -(offset // stride))
        final = min(n_out - 1, (n_in - 1 - offset) // stride)
        if first <= final:
            start = first * stride + offset
            stop = final * stride + offset + 1
            spans[tap] = (slice(first, final + 1), slice(start, stop, stride), final - first + 1)
    return spans


def convolve_taps(input: Tensor, kernels_BTC: Tensor, regions: Sequence[TapRegion], output_size: Pair) -> Tensor:
    """Return the (B, C, H', W') sum over taps of (B, C, H, W) `input` times its (B, T, C) kernels.

    The T kernels are those of `regions`, in order. Half precision is summed in float32.
    """
    images = input.permute(0, 2, 3, 1).contiguous()
    low = input.dtype in (torch.float16, torch.bfloat16)
    if low:
        images, kernels_BTC = images.float(), kernels_BTC.float()
    # Channels last, so that a tap multiplies whole vectors of channels.
    output: Tensor = _Taps.apply(images, kernels_BTC, tuple(regions), output_size)
    return output.to(input.dtype).permute(0, 3, 1, 2)


def convolve_open_taps(
    input: Tensor, kernels_BTC: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Return the same sum over all taps of images whose number or size is left open, by torch's own operations.

    It reads a padded copy of the images, so that no tap depends on their size.
    """
    (s, t), (p, q), (d, e) = stride, padding, dilation
    padded = F.pad(input, (q, q, p, p))
    rows = (padded.shape[2] - d * (kernel_size[0] - 1) - 1) // s + 1
    columns = (padded.shape[3] - e * (kernel_size[1] - 1) - 1) // t + 1
    total: Tensor | None = None
    for tap, (i, j) in enumerate(product(range(kernel_size[0]), range(kernel_size[1]))):
        below, right = i * d + s * (rows - 1) + 1, j * e + t * (columns - 1) + 1
        met = padded[:, :, i * d : below : s, j * e : right : t] * kernels_BTC[:, tap, :, None, None]
        total = met if total is None else total + met
    assert total is not None  # a kernel has a tap
    return total


class _Taps(torch.autograd.Function):
    """The sum over taps of (B, H, W, C) images; written by hand, because autograd copies the output per tap."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernels: Tensor, regions: tuple[TapRegion, ...], output_size: Pair) -> Tensor:
        ctx.regions, ctx.output_size = regions, output_size
        ctx.save_for_backward(images, kernels)
        output = images.new_zeros(images.shape[0], *output_size, images.shape[3])
        for t, region in enumerate(regions):
            output[region.output].addcmul_(images[region.input], kernels[:, None, None, t])
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, kernels = ctx.saved_tensors
        if not (torch.compiler.is_compiling() or is_ordinary(images, kernels, grads[0])):
            compute = partial(_by_torch, regions=ctx.regions, output_size=ctx.output_size)
            to_images, to_kernels = gradients_by_torch(compute, (images, kernels), grads[0], ctx.needs_input_grad)
            return to_images, to_kernels, None, None
        # One region at a time and in place, so that nothing of the size of all taps is held.
        grad_images, grad_kernels = torch.zeros_like(images), []
        for t, region in enumerate(ctx.regions):
            grad = grads[0][region.output]
            grad_images[region.input].addcmul_(grad, kernels[:, None, None, t])
            grad_kernels.append((images[region.input] * grad).sum((1, 2)))
        if not grad_kernels:  # every tap meets padding only
            return grad_images, torch.zeros_like(kernels), None, None
        return grad_images, torch.stack(grad_kernels, 1), None, None


def _by_torch(images: Tensor, kernels: Tensor, regions: Sequence[TapRegion], output_size: Pair) -> Tensor:
    """Return the sum over taps by operations that torch can batch and differentiate."""
    output = images.new_zeros(images.shape[0], *output_size, images.shape[3])
    for t, region in enumerate(regions):
        product = images[region.input] * kernels[:, None, None, t]
        _, rows, columns = region.output
        below, right = output_size[0] - rows.stop, output_size[1] - columns.stop
        output = output + F.pad(product, (0, 0, columns.start, right, rows.start, below))
    return output
