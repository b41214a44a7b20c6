"""This module computes a depthwise convolution with one kernel per image, by compiled kernels on channels-last images.

No image is copied into the channels of another, as in folding, and a training step keeps no kernel of an image. The C
code is called through `native`; `compiled` and `operators` call this module.

Dimensions: B images, C channels, H x W input and H' x W' output pixels, K kernels, T kernel taps (h x w).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels import native
from dyconv.kernels.folding import Folding, differentiable_folding
from dyconv.kernels.geometry import Pair
from dyconv.kernels.kernel_ops import add_gradients, mix
from dyconv.kernels.native import Axis
from dyconv.kernels.tracing import remembered

_LAST = torch.channels_last


class Axes(NamedTuple):
    """Rows and columns of a convolution, and of its transpose."""

    forward: tuple[Axis, Axis]
    backward: tuple[Axis, Axis]


class Direct(NamedTuple):
    """A depthwise convolution that gives maps of some size: a `compiled.Computation`."""

    folding: Folding
    output_size: Pair

    def shared(self, weight: Tensor) -> Tensor:
        """Return (K, C, 1, h, w) kernels tap by tap, (K, T C)."""
        return weight.flatten(2).transpose(1, 2).flatten(1)

    def output(self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor) -> Tensor:
        """Return the (B, C, H', W') convolution."""
        result = torch.empty((*images.shape[:2], *self.output_size), dtype=images.dtype, memory_format=_LAST)
        native.gather(images, _mixed(attention, shared), None, result, *self.axes(images, _size(weight)).forward)
        return result

    def input_gradient(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, start: Tensor | None
    ) -> Tensor:
        """Return the gradient of the images, `start` (B, C) added at each pixel."""
        result = torch.empty(images.shape, dtype=images.dtype, memory_format=_LAST)
        native.gather(grad, _mixed(attention, shared), start, result, *self.axes(images, _size(weight)).backward)
        return result

    def kernel_gradients(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the K kernels, in the order of `weight`, and of attention."""
        to_kernels = images.new_empty(images.shape[0], shared.shape[1])
        # All kernels of the batch at once, B T C numbers: a depthwise kernel is small.
        native.kernel_gradient(images, to_kernels, grad, *self.axes(images, _size(weight)).forward)
        # Per image first, then summed into the K kernels and attention, as `mix` made the kernels of images.
        to_attention, to_shared = torch.zeros_like(attention), torch.zeros_like(shared)
        if len(weight) <= native.MOST_KERNELS:
            native.add_gradients(attention, shared, to_kernels, to_attention, to_shared)
        else:
            add_gradients(attention, shared, to_kernels, to_attention, to_shared)
        # Contiguous, as the operator promises: a reshape alone may give a view.
        to_weight = to_shared.view(len(weight), -1, images.shape[1]).transpose(1, 2).reshape(weight.shape).contiguous()
        return to_weight, to_attention

    def by_torch(self, input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        """Return the convolution by folding images into channels."""
        return differentiable_folding(input, weight, attention, self.folding)

    def axes(self, images: Tensor, kernel_size: Pair) -> Axes:
        """Return the axes of the convolution of these images with kernels of this size."""
        height, width = images.shape[2:]
        strides = self.folding.stride, self.folding.padding, self.folding.dilation
        return axes_between((height, width), self.output_size, kernel_size, *strides)


def output(direct: Direct, input: Tensor, kernels_BTC: Tensor, kernel_size: Pair) -> Tensor:
    """Return the channels-last (B, C, H', W') convolution of images, each with its own kernels, tap by tap."""
    images = input.contiguous(memory_format=_LAST)
    result = torch.empty((*images.shape[:2], *direct.output_size), dtype=images.dtype, memory_format=_LAST)
    native.gather(images, kernels_BTC.contiguous(), None, result, *direct.axes(images, kernel_size).forward)
    return result


def gradients(
    direct: Direct, kernel_size: Pair, grad: Tensor, input: Tensor, kernels_BTC: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of images and kernels, from that of `output`; None for those that are not needed."""
    images, grad = input.contiguous(memory_format=_LAST), grad.contiguous(memory_format=_LAST)
    axes = direct.axes(images, kernel_size)
    to_input = to_kernels = None
    if needed[0]:
        to_input = torch.empty(images.shape, dtype=images.dtype, memory_format=_LAST)
        native.gather(grad, kernels_BTC.contiguous(), None, to_input, *axes.backward)
    if needed[1]:
        to_kernels = torch.empty(kernels_BTC.shape, dtype=images.dtype)
        native.kernel_gradient(images, to_kernels, grad, *axes.forward)
    return to_input, to_kernels


def each_by_torch(input: Tensor, kernels_BTC: Tensor, kernel_size: Pair, folding: Folding) -> Tensor:
    """Return the same convolution by an operation that torch can differentiate any number of times, in NCHW."""
    batch, _, channels = kernels_BTC.shape
    kernels = kernels_BTC.transpose(1, 2).reshape(batch * channels, 1, *kernel_size)
    folded = input.reshape(1, batch * channels, *input.shape[2:])
    geometry = folding.stride, folding.padding, folding.dilation
    output = F.conv2d(folded, kernels, None, *geometry, batch * channels)
    return output.reshape(batch, channels, *output.shape[2:])


def _mixed(attention: Tensor, shared: Tensor) -> Tensor:
    """Return (B, T C) mixtures of (K, T C) kernels."""
    # Whoever calls this module knows that compiled kernels can read the tensors; `mix` would ask again.
    if attention.shape[1] > native.MOST_KERNELS:
        return mix(attention, shared)
    mixed = shared.new_empty(attention.shape[0], shared.shape[1])
    native.mix(attention, shared, mixed)
    return mixed


def _size(weight: Tensor) -> Pair:
    return weight.shape[3], weight.shape[4]


@remembered
def axes_between(
    input_size: Pair, output_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Axes:
    """Return the axes of a convolution between images of these sizes."""
    along = zip(input_size, output_size, kernel_size, stride, padding, dilation, strict=True)
    (rows, rows_back), (columns, columns_back) = (_axis_and_transpose(*axis) for axis in along)
    return Axes((rows, columns), (rows_back, columns_back))


def _axis_and_transpose(
    n_in: int, n_out: int, taps: int, stride: int, padding: int, dilation: int
) -> tuple[Axis, Axis]:
    """Return the taps and inputs that meet at each output, and the taps and outputs that each input reaches."""
    # Meetings with padding are left out, so that the C code never tests a border.
    forward: list[list[tuple[int, int]]] = [[] for _ in range(n_out)]
    backward: list[list[tuple[int, int]]] = [[] for _ in range(n_in)]
    for result in range(n_out):
        for tap in range(taps):
            source = result * stride + tap * dilation - padding
            if 0 <= source < n_in:
                forward[result].append((tap, source))
                backward[source].append((tap, result))
    return Axis.of(forward, n_in, taps), Axis.of(backward, n_out, taps)
