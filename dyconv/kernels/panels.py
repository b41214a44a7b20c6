"""This module computes a dense convolution by kernels of several taps, one per image, on channels-last images.

The compiled kernels copy some channels of some images to panels, and some rows and columns of the K kernels to tiles,
which stay in the caches for all taps. Kernels are read as layers hold them; none is re-ordered or mixed in memory. The
C code is called through `native`; `compiled` calls this module, and `tiling` computes kernels of one tap.

Dimensions: B images, C input and O output channels, H x W input pixels, K kernels, T kernel taps (h x w).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dyconv.kernels import native
from dyconv.kernels.geometry import Pair
from dyconv.kernels.native import Map, PanelWindow, Reach
from dyconv.kernels.products import PatchGrid, differentiable_product
from dyconv.kernels.taps import spans
from dyconv.kernels.tracing import remembered


class Steps(NamedTuple):
    """The windows of the output, and of the gradients of input and kernels."""

    forward: PanelWindow
    backward: PanelWindow


class Panels(NamedTuple):
    """A convolution with the patches of a grid: a `compiled.Computation` by panels."""

    grid: PatchGrid

    def shared(self, weight: Tensor) -> Tensor:
        """Return the (K, O, C, h, w) kernels as they are."""
        return weight

    def output(self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution."""
        size = images.shape[0], weight.shape[1], *self.grid.output_size
        result = torch.empty(size, memory_format=torch.channels_last)
        native.panel_product(self._steps(images, weight).forward, images, weight, attention, None, result)
        return result

    def input_gradient(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, start: Tensor | None
    ) -> Tensor:
        """Return the gradient of the images, `start` (B, C) added at each pixel."""
        result = torch.empty(images.shape, memory_format=torch.channels_last)
        native.panel_product(self._steps(images, weight).backward, grad, weight, attention, start, result)
        return result

    def kernel_gradients(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the K kernels and of attention."""
        to_weight, to_attention = torch.empty_like(weight), torch.empty_like(attention)
        # Channels of the input lie next to each other in a row of a kernel, so they make its columns.
        window = self._steps(images, weight).backward
        native.panel_gradient(window, (grad, images), weight, attention, (to_weight, to_attention))
        return to_weight, to_attention

    def by_torch(self, input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        """Return the convolution as one product, which keeps the kernel of each image."""
        return differentiable_product(input, weight, attention, self.grid)

    def _steps(self, images: Tensor, weight: Tensor) -> Steps:
        batch, channels, height, width = images.shape
        return _steps((batch, channels, height, width), (weight.shape[0], weight.shape[1]), self.grid)


@remembered
def _steps(size: tuple[int, int, int, int], kernels: Pair, grid: PatchGrid) -> Steps:
    (batch, channels, height, width), (num_kernels, out_channels) = size, kernels
    output_size, stride = grid.output_size, grid.stride
    # Input pixels that one tap reaches on a line are a stride apart: those with the same remainder lie together.
    columns = sorted(range(width), key=lambda x: (x % stride[1], x))
    places = {x: place for place, x in enumerate(columns)}
    along_height, along_width = (
        spans(n, out, k, s, p, d)
        for n, out, k, s, p, d in zip(
            (height, width), output_size, grid.kernel_size, stride, grid.padding, grid.dilation, strict=True
        )
    )
    lines = stride[0] * width, output_size[1]
    reaches = []
    for i in range(grid.kernel_size[0]):
        for j in range(grid.kernel_size[1]):
            if i not in along_height or j not in along_width:
                # A tap that meets padding only keeps its place in the list, but reaches nothing.
                reaches.append(Reach(0, 0, 0, 0))
                continue
            (out_y, in_y, rows), (out_x, in_x, pixels) = along_height[i], along_width[j]
            source = in_y.start * width + places[in_x.start]
            result = out_y.start * output_size[1] + out_x.start
            # Lines without a gap are one long line.
            if pixels == lines[0] == lines[1]:
                rows, pixels = 1, rows * pixels
            reaches.append(Reach(source, result, rows, pixels))
    input_map = Map.of(channels, [y * width + x for y in range(height) for x in columns], lines[0])
    output_map = Map.of(out_channels, list(range(output_size[0] * output_size[1])), lines[1])
    forward = PanelWindow.of(batch, num_kernels, False, input_map, output_map, reaches)
    back = [Reach(reach.result, reach.source, reach.lines, reach.pixels) for reach in reaches]
    return Steps(forward, PanelWindow.of(batch, num_kernels, True, output_map, input_map, back))
