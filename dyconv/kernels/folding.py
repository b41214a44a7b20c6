"""This module computes a convolution with one kernel per image by ordinary ones, with images folded into channels.

Folding n images means one convolution of one image with n C channels and n times the groups. One image at a time needs
no folding and no copy, which is best for large maps. Many at a time share the set-up of a call, which is best for small
maps. The backward pass mixes the kernels anew instead of keeping them. Used by `algorithms` only.

Dimensions: B images, n of them folded, m of them whose kernels are mixed together, C input and O output channels,
G groups, I = C / G, K kernels, h x w kernel size.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels.derivatives import gradients_by_torch
from dyconv.kernels.geometry import Pair
from dyconv.kernels.kernel_ops import add_gradients, mix
from dyconv.kernels.tracing import is_ordinary, is_transformed, without_autocast

_MIXTURE_BYTES = 4 * 2**20
"""Bytes for kernels that are mixed together: they should still be in the cache when they are used."""


class Folding(NamedTuple):
    """The geometry of a static convolution of one image, and the number of images that are folded into one call."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    at_a_time: int


def folded_convolution(input: Tensor, weight: Tensor, attention: Tensor, folding: Folding) -> Tensor:
    """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own mixture of (K, O, I, h, w).

    The result is channels-last if the input is. A second derivative is taken through `differentiable_folding`.
    """
    if not is_ordinary(input, weight, attention):
        return differentiable_folding(input, weight, attention, folding)
    batch = input.shape[0]
    if folding.at_a_time < batch:
        return _InChunks.apply(input, weight, attention, folding)  # type: ignore[no-any-return]
    # The folded images are kept for the backward pass, because folding again would take time.
    is_last = is_channels_last(input)
    folded: Tensor = _Folded.apply(_fold(input, is_last), weight, attention, folding)
    return _unfold(folded, batch, is_last)


def differentiable_folding(input: Tensor, weight: Tensor, attention: Tensor, folding: Folding) -> Tensor:
    """Return the same convolution by operations that torch can differentiate, compile and export, in NCHW."""
    folded = _differentiable_fold(input.contiguous().flatten(0, 1)[None], weight, attention, folding)
    return torch.unflatten(folded[0], 0, (input.shape[0], weight.shape[1]))


def _differentiable_fold(folded: Tensor, weight: Tensor, attention: Tensor, folding: Folding) -> Tensor:
    kernels = (attention @ weight.flatten(1)).reshape(-1, *weight.shape[2:])
    return _convolve(folded, kernels, folding, len(attention))


def _convolve(images: Tensor, kernels: Tensor, folding: Folding, n: int) -> Tensor:
    """Return the static convolution of one call with n images folded."""
    return F.conv2d(images, kernels, None, folding.stride, folding.padding, folding.dilation, n * folding.groups)


class _Folded(torch.autograd.Function):
    """The convolution of all images folded into one, (1, B C, H, W) to (1, B O, H', W')."""

    @staticmethod
    def forward(ctx: Any, folded: Tensor, weight: Tensor, attention: Tensor, folding: Folding) -> Tensor:
        ctx.folding = folding
        ctx.save_for_backward(folded, weight, attention)
        return _differentiable_fold(folded, weight, attention, folding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Read once: hooks that pack saved tensors, as checkpointing does, unpack them at each reading.
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad
        folded, weight, attention = saved
        with without_autocast(folded.device.type):
            if torch.is_grad_enabled() or not is_ordinary(*saved, grads[0]):
                compute = partial(_differentiable_fold, folding=ctx.folding)
                return (*gradients_by_torch(compute, saved, grads[0], needed), None)
            flat = weight.flatten(1)
            kernels = mix(attention, flat).view(-1, *weight.shape[2:])
            # Attention and weight both need the gradient of the mixed kernels.
            mask = [needed[0], needed[1] or needed[2], False]
            tensors = (grads[0], folded, kernels)
            to_folded, to_kernels, _ = _convolution_backward(*tensors, ctx.folding, len(attention), mask)
            if not mask[1]:
                return to_folded, None, None, None
            flat_gradient = to_kernels.reshape(len(attention), -1)
            return to_folded, (attention.t() @ flat_gradient).view_as(weight), flat_gradient @ flat.t(), None


def _convolution_backward(
    grad: Tensor, images: Tensor, kernels: Tensor, folding: Folding, n: int, mask: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of images and kernels of one call with n images folded; `mask` says which to compute."""
    geometry = (folding.stride, folding.padding, folding.dilation, False, (0, 0), n * folding.groups)
    return torch.ops.aten.convolution_backward(grad, images, kernels, None, *geometry, mask)  # type: ignore[no-any-return]


class _InChunks(torch.autograd.Function):
    """The convolution of images that are folded a few at a time, (B, C, H, W) to (B, O, H', W')."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, attention: Tensor, folding: Folding) -> Tensor:
        ctx.folding = folding
        ctx.save_for_backward(input, weight, attention)
        is_last = is_channels_last(input)
        output: Tensor | None = None
        for chunk, kernels in _mixed(weight, attention, folding):
            n = chunk.stop - chunk.start
            result = _convolve(_fold(input[chunk], is_last), kernels, folding, n)
            # Size and dtype are known only from the first result.
            if output is None:
                shape = (input.shape[0], weight.shape[1], *result.shape[2:])
                output = torch.empty(shape, dtype=result.dtype, device=result.device, memory_format=format_of(is_last))
            output[chunk] = _unfold(result, n, is_last)
        assert output is not None
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad
        with without_autocast(saved[0].device.type):
            if torch.is_grad_enabled() or not is_ordinary(*saved, grads[0]):
                compute = partial(differentiable_folding, folding=ctx.folding)
                return (*gradients_by_torch(compute, saved, grads[0], needed), None)
            input, weight, attention = saved
            return (*_gradients(input, weight, attention, grads[0], ctx.folding, needed), None)


def _gradients(
    input: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, folding: Folding, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of input, weight and attention by hand, in chunks; None for those not needed."""
    is_last = is_channels_last(input)
    # In the layout of the input, or folding would copy each chunk.
    grad = grad.contiguous(memory_format=format_of(is_last))
    to_input = torch.empty_like(input) if needed[0] else None
    mask = [needed[0], needed[1] or needed[2], False]
    sums = _Sums(weight, attention, folding)
    for chunk, kernels in _mixed(weight, attention, folding):
        n = chunk.stop - chunk.start
        tensors = (_fold(grad[chunk], is_last), _fold(input[chunk], is_last), kernels)
        to_images, to_kernels, _ = _convolution_backward(*tensors, folding, n, mask)
        if to_input is not None:
            to_input[chunk] = _unfold(to_images, n, is_last)
        if mask[1]:
            sums.add(chunk, to_kernels.reshape(n, -1))
    to_weight = to_attention = None
    if needed[1]:
        to_weight = sums.to_weight.to(weight.dtype).view_as(weight)
    if needed[2]:
        to_attention = sums.to_attention
    return to_input, to_weight, to_attention


class _Sums:
    """The gradients of the K kernels and of attention, summed from those of a few images' kernels at a time."""

    def __init__(self, weight: Tensor, attention: Tensor, folding: Folding) -> None:
        self._weight, self._attention = weight.flatten(1), attention
        # Sums over images are kept in single precision at least.
        self.to_weight = torch.zeros_like(self._weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        self.to_attention = torch.zeros_like(attention)
        self._mixed_images = _images_per_mixture(weight, folding)
        self._pending: list[Tensor] = []

    def add(self, chunk: slice, to_kernels: Tensor) -> None:
        """Add the (n, O I h w) gradients of the kernels of `chunk`, the images after those added before."""
        # Collected until the m images of one mixture are complete: one product costs less than many small ones.
        self._pending.append(to_kernels)
        stop = chunk.stop
        if stop % self._mixed_images and stop < len(self._attention):
            return
        gradients = to_kernels
        if len(self._pending) > 1:
            gradients = torch.cat(self._pending)
        images = slice(stop - len(gradients), stop)
        add_gradients(self._attention[images], self._weight, gradients, self.to_attention[images], self.to_weight)
        self._pending.clear()


def _mixed(weight: Tensor, attention: Tensor, folding: Folding) -> Iterator[tuple[slice, Tensor]]:
    """Yield the next images to fold as a slice, and their (n O, I, h, w) kernels."""
    count = _images_per_mixture(weight, folding)
    for first in range(0, len(attention), count):
        kernels = mix(attention[first : first + count], weight.flatten(1)).view(-1, *weight.shape[1:])
        for start in range(0, len(kernels), folding.at_a_time):
            folded = kernels[start : start + folding.at_a_time]
            yield slice(first + start, first + start + len(folded)), folded.flatten(0, 1)


def _images_per_mixture(weight: Tensor, folding: Folding) -> int:
    """Return m, the number of images whose kernels are mixed together: a multiple of n."""
    room = _MIXTURE_BYTES // (weight[0].numel() * weight.element_size())
    return max(1, room // folding.at_a_time) * folding.at_a_time


def is_channels_last(input: Tensor) -> bool:
    """Return True if (B, C, H, W) is stored as (B, H, W, C); an image of one pixel is, too."""
    if is_transformed():  # `vmap` has no answer to this
        return False
    return input.stride(1) == 1 and input.is_contiguous(memory_format=torch.channels_last)


def format_of(is_last: bool) -> torch.memory_format:
    """Return channels-last if `is_last`, otherwise the format of a new tensor."""
    return torch.channels_last if is_last else torch.contiguous_format


def _fold(images: Tensor, is_last: bool) -> Tensor:
    """Return (n, C, H, W) as (1, n C, H, W) in the same memory format; no copy for one image, or in NCHW."""
    n, channels, height, width = images.shape
    if n == 1:
        return images
    if is_last:
        return images.permute(2, 3, 0, 1).reshape(1, height, width, n * channels).permute(0, 3, 1, 2)
    return images.reshape(1, n * channels, height, width)


def _unfold(folded: Tensor, n: int, is_last: bool) -> Tensor:
    """Return (1, n O, H, W) as (n, O, H, W), as a view where possible."""
    _, channels, height, width = folded.shape
    if n == 1:
        return folded
    if is_last:
        return folded.permute(0, 2, 3, 1).reshape(height, width, n, channels // n).permute(2, 3, 0, 1)
    return folded.reshape(n, channels // n, height, width)
