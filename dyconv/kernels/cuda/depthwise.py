"""This module computes depthwise convolutions with one kernel per image, and their gradients, by Triton programs.

Kernels are mixed in registers, and images are read once from memory: no image is copied into the channels of another.
The backward pass keeps a kernel per image, B T C numbers, because depthwise kernels are small.

Dimensions: B images, C channels, K kernels, T kernel taps (h x w).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dyconv.kernels.cuda import dense
from dyconv.kernels.cuda.launching import Meeting, start_depthwise, start_depthwise_kernel_gradient
from dyconv.kernels.folding import Folding, differentiable_folding
from dyconv.kernels.geometry import Geometry, Pair


def computes(g: Geometry) -> bool:
    """Return True if the programs can compute layers of this geometry."""
    return g.depthwise and g.num_kernels <= dense.MOST_KERNELS and dense.fits(g)


class Depthwise(NamedTuple):
    """A depthwise convolution that gives maps of some size: a `compiled.Computation` on a CUDA device."""

    folding: Folding
    output_size: Pair

    def shared(self, weight: Tensor) -> Tensor:
        """Return (K, C, 1, h, w) kernels tap by tap, (K, T C)."""
        return weight.flatten(2).transpose(1, 2).flatten(1)

    def output(self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor) -> Tensor:
        """Return the (B, C, H', W') convolution."""
        result = _maps(images, self.output_size)
        start_depthwise(images, shared, attention, result, self._meeting(_size(weight)))
        return result

    def input_gradient(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, start: Tensor | None
    ) -> Tensor:
        """Return the gradient of the images, `start` (B, C) added at each pixel."""
        result = torch.empty_like(images, memory_format=torch.channels_last)
        start_depthwise(grad, shared, attention, result, self._meeting(_size(weight), transposed=True))
        return result if start is None else result + start[:, :, None, None]

    def kernel_gradients(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the K kernels, in the order of `weight`, and of attention."""
        to_mixtures = start_depthwise_kernel_gradient(images, grad, self._meeting(_size(weight))).flatten(1)
        # Per image first, then summed into the K kernels and attention; both in float32.
        to_shared = attention.float().t() @ to_mixtures
        to_attention = to_mixtures @ shared.float().t()
        to_weight = to_shared.view(len(weight), -1, images.shape[1]).transpose(1, 2).reshape(weight.shape)
        # `reshape` may return a view; who asks for shapes alone was promised contiguous memory.
        return to_weight.to(weight.dtype).contiguous(), to_attention.to(attention.dtype)

    def by_torch(self, input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        """Return the convolution by folding images into channels."""
        return differentiable_folding(input, weight, attention, self.folding)

    def each_output(self, input: Tensor, kernels_BTC: Tensor, kernel_size: Pair) -> Tensor:
        """Return the channels-last (B, C, H', W') convolution of images, each with its own kernels, tap by tap."""
        images = input.contiguous(memory_format=torch.channels_last)
        result = _maps(images, self.output_size)
        start_depthwise(images, kernels_BTC.contiguous(), None, result, self._meeting(kernel_size))
        return result

    def each_gradients(
        self, kernel_size: Pair, grad: Tensor, input: Tensor, kernels_BTC: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of images and kernels of `each_output`; None for those that are not needed."""
        last = torch.channels_last
        images, grad = input.contiguous(memory_format=last), grad.contiguous(memory_format=last)
        to_input = to_kernels = None
        if needed[0]:
            to_input = torch.empty_like(images, memory_format=last)
            meeting = self._meeting(kernel_size, transposed=True)
            start_depthwise(grad, kernels_BTC.contiguous(), None, to_input, meeting)
        if needed[1]:
            sums = start_depthwise_kernel_gradient(images, grad, self._meeting(kernel_size))
            to_kernels = sums.to(kernels_BTC.dtype)
        return to_input, to_kernels

    def _meeting(self, kernel_size: Pair, transposed: bool = False) -> Meeting:
        folding = self.folding
        return Meeting(kernel_size, folding.stride, folding.padding, folding.dilation, transposed)


def _maps(images: Tensor, size: Pair) -> Tensor:
    """Return channels-last memory for (B, C, H, W) of the dtype and device of the images."""
    shape = *images.shape[:2], *size
    return torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)


def _size(weight: Tensor) -> Pair:
    return weight.shape[3], weight.shape[4]
