"""This module computes a dense convolution with one kernel per image, by compiled kernels on channels-last images.

A tile of an image's kernel is mixed and multiplied while it is in the first cache; none is ever written to memory. No
input is padded and no patch copied: each tap of the kernel is a matrix that maps the input pixels in its reach to the
output. Layers take it for kernels of one tap, and `panels` for those of several. The C code is called through `native`,
products by torch are in `products`; `compiled` calls this module.

Dimensions: B images, C input and O output channels, H x W input pixels, K kernels, T kernel taps (h x w).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dyconv.kernels import native
from dyconv.kernels.geometry import Pair
from dyconv.kernels.kernel_ops import by_output, by_patch
from dyconv.kernels.native import Matrices, Reach, Side
from dyconv.kernels.products import PatchGrid, differentiable_product
from dyconv.kernels.tracing import remembered

_LAST = torch.channels_last


class Steps(NamedTuple):
    """The windows by which output, gradient of the input and gradients of the kernels are computed.

    `turned` says that the last takes the gradient of the output as its left side, and the input as its right one.
    """

    output: native.Window
    to_input: native.Window
    to_kernels: native.Window
    turned: bool


def fits(channels: int, out_channels: int, num_kernels: int) -> bool:
    """Return True if the compiled kernels can compute layers of this size."""
    return min(channels, out_channels) >= native.FEWEST_COLUMNS and num_kernels <= native.MOST_KERNELS


class Tiles(NamedTuple):
    """A convolution with the patches of a grid: a `compiled.Computation` by tiles."""

    grid: PatchGrid

    def shared(self, weight: Tensor) -> Tensor:
        """Return (K, O, C, h, w) kernels tap by tap, or as they are if there is one tap."""
        return weight if weight.shape[3:].numel() == 1 else by_patch(weight)

    def output(self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution."""
        size = images.shape[0], weight.shape[1], *self.grid.output_size
        result = torch.empty(size, dtype=images.dtype, memory_format=_LAST)
        native.product(self._steps(images, weight).output, images, shared, attention, None, result)
        return result

    def input_gradient(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, start: Tensor | None
    ) -> Tensor:
        """Return the gradient of the images, `start` (B, C) added at each pixel."""
        result = torch.empty(images.shape, dtype=images.dtype, memory_format=_LAST)
        native.product(self._steps(images, weight).to_input, grad, shared, attention, start, result)
        return result

    def kernel_gradients(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the K kernels, in the order of `weight`, and of attention."""
        steps = self._steps(images, weight)
        to_shared, to_attention = torch.empty_like(shared), torch.empty_like(attention)
        sides = (grad, images) if steps.turned else (images, grad)
        native.product_gradient(steps.to_kernels, sides, shared, attention, (to_shared, to_attention))
        if shared is not weight:
            to_shared = by_output(to_shared, weight)
        return to_shared, to_attention

    def by_torch(self, input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        """Return the convolution as one product, which keeps the kernel of each image."""
        return differentiable_product(input, weight, attention, self.grid)

    def _steps(self, images: Tensor, weight: Tensor) -> Steps:
        batch, channels, height, width = images.shape
        return _steps((batch, channels, height, width), (weight.shape[0], weight.shape[1]), self.grid)


@remembered
def _steps(size: tuple[int, int, int, int], kernels: Pair, grid: PatchGrid) -> Steps:
    (batch, channels, height, width), (num_kernels, out_channels) = size, kernels
    rows, columns = grid.output_size
    if grid.every_pixel:  # the image as one long line
        height, width, rows, columns = 1, height * width, 1, rows * columns
    taps = grid.kernel_size[0] * grid.kernel_size[1]
    input_side = Side(height * width * channels, grid.stride[0] * width * channels, grid.stride[1] * channels)
    output_side = Side(rows * columns * out_channels, columns * out_channels, out_channels)
    to_output = _reaches((height, width), (rows, columns), grid, channels, out_channels)
    # The input's gradient goes the same ways back.
    to_source = [Reach(reach.result, reach.source, reach.lines, reach.pixels) for reach in to_output]
    tap_stride = channels * out_channels
    # The distance in a kernel between two input channels, and between two output channels.
    channel_strides = (1, channels) if taps == 1 else (out_channels, 1)
    forward = Matrices(num_kernels, taps, channels, out_channels, taps * tap_stride, tap_stride, *channel_strides)
    backward = Matrices(
        num_kernels, taps, out_channels, channels, taps * tap_stride, tap_stride, *reversed(channel_strides)
    )
    output = native.Window.of(batch, input_side, output_side, forward, to_output)
    to_input = native.Window.of(batch, output_side, input_side, backward, to_source)
    # The side whose channels lie next to each other fills the vectors, unless it is too narrow and the other is not.
    turned = channel_strides[0] == 1
    narrow, wide = (channels, out_channels) if turned else (out_channels, channels)
    turned ^= narrow < native.LANES <= wide
    return Steps(output, to_input, to_input if turned else output, turned)


def _reaches(size: Pair, output_size: Pair, grid: PatchGrid, channels: int, out_channels: int) -> list[Reach]:
    """Return the reach of each tap on an input and an output of these sizes; padding is left out."""
    reaches = []
    for i in range(grid.kernel_size[0]):
        for j in range(grid.kernel_size[1]):
            tap = i, j
            (y, input_y, lines), (x, input_x, pixels) = (_reach_along(n, tap, size, output_size, grid) for n in (0, 1))
            source, result = (input_y * size[1] + input_x) * channels, (y * output_size[1] + x) * out_channels
            reach = Reach(source, result, lines, pixels)
            if not (lines and pixels):
                # A tap that meets padding only keeps its place in the list, but reaches nothing.
                reach = Reach(0, 0, 0, 0)
            reaches.append(reach)
    return reaches


def _reach_along(axis: int, tap: Pair, size: Pair, output_size: Pair, grid: PatchGrid) -> tuple[int, int, int]:
    """Return the first output position that meets the input, the input position there, and the number of outputs."""
    # Output y meets input y * stride + offset, which must lie inside the input.
    stride, offset = grid.stride[axis], tap[axis] * grid.dilation[axis] - grid.padding[axis]
    first = max(0, -(offset // stride))
    final = min(output_size[axis] - 1, (size[axis] - 1 - offset) // stride)
    return first, first * stride + offset, max(0, final - first + 1)
