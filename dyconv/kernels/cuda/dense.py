"""This module computes dense convolutions with mixed kernels, and their gradients, by Triton programs.

A tile of an image's kernel is mixed in registers and multiplied by the tensor cores; none is written to memory. The
backward pass mixes anew. The gradient of an image's mixture is needed twice, for the K kernels and for attention, and
stays in registers as well. The alternatives cost more: kept in memory it is B T C O numbers, written once and read
twice; with attention multiplied into the rows of one product over all images, the K kernels' gradient takes K times the
multiply-adds, and attention's as many again. Here each is computed once, with K additions per number beside it.

Dimensions: B images, C input and O output channels, K kernels, T kernel taps (h x w).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dyconv.kernels.cuda.launching import Meeting, Strides, start_kernel_gradient, start_product
from dyconv.kernels.geometry import Geometry, Pair
from dyconv.kernels.kernel_ops import permuted_by_patch
from dyconv.kernels.products import PatchGrid, differentiable_product

FEWEST_CHANNELS = 16
"""Fewer channels than this would leave most of a product of the tensor cores empty."""
MOST_KERNELS = 16
"""The most kernels whose sums fit the registers of a program."""


def computes(g: Geometry) -> bool:
    """Return True if the programs can compute layers of this geometry."""
    if g.groups != 1 or g.num_kernels > MOST_KERNELS or min(g.in_channels, g.out_channels) < FEWEST_CHANNELS:
        return False
    return fits(g)


def fits(g: Geometry) -> bool:
    """Return True if this batch is not empty, and not both strided and dilated: see `programs`."""
    strided_and_dilated = any(s > 1 and d > 1 for s, d in zip(g.stride, g.dilation, strict=True))
    return g.batch > 0 and min(g.output_size) > 0 and not strided_and_dilated


class Tiles(NamedTuple):
    """A convolution with the patches of a grid: a `compiled.Computation` on a CUDA device."""

    grid: PatchGrid

    def shared(self, weight: Tensor) -> Tensor:
        """Return (K, O, C, h, w) kernels tap by tap, (K, T C O), or as they are if there is one tap."""
        # Neighbours in memory must be channels, or a tile of one tap would be read number by number.
        return weight if weight.shape[3:].numel() == 1 else permuted_by_patch(weight)

    def output(self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution."""
        result = _maps(images, weight.shape[1], self.grid.output_size)
        start_product(images, shared, attention, result, _strides(weight), self._meeting())
        return result

    def input_gradient(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, start: Tensor | None
    ) -> Tensor:
        """Return the gradient of the images, `start` (B, C) added at each pixel."""
        result = torch.empty_like(images, memory_format=torch.channels_last)
        start_product(grad, shared, attention, result, _strides(weight).swapped(), self._meeting(transposed=True))
        return result if start is None else result + start[:, :, None, None]

    def kernel_gradients(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the K kernels, in the order of `weight`, and of attention."""
        sums, to_attention = start_kernel_gradient(images, grad, shared, attention, _strides(weight), self._meeting())
        num_kernels, out_channels, channels, h, w = weight.shape
        ordered = sums.view(num_kernels, h, w, channels, out_channels).permute(0, 4, 3, 1, 2)
        to_weight = ordered.to(weight.dtype).contiguous()
        return to_weight, to_attention.to(attention.dtype)

    def by_torch(self, input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        """Return the convolution as one product, which keeps the kernel of each image."""
        return differentiable_product(input, weight, attention, self.grid)

    def _meeting(self, transposed: bool = False) -> Meeting:
        grid = self.grid
        return Meeting(grid.kernel_size, grid.stride, grid.padding, grid.dilation, transposed)


def _maps(images: Tensor, channels: int, size: Pair) -> Tensor:
    """Return channels-last memory for (B, C, H, W) of the dtype and device of the images."""
    shape = images.shape[0], channels, *size
    return torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)


def _strides(weight: Tensor) -> Strides:
    """Return where the numbers of `Tiles.shared` lie."""
    _, out_channels, channels, h, w = weight.shape
    if h * w == 1:
        return Strides(channels * out_channels, 0, 1, channels)
    return Strides(h * w * channels * out_channels, channels * out_channels, out_channels, 1)
