"""This module makes compiled kernels functions of torch: a dynamic convolution, and one together with its attention.

`tiling` and `depthwise` compute the convolutions, `native` calls the C code. Everything is float32 on the CPU and
channels-last. No step keeps the kernel of an image: the backward pass mixes them anew.

Dimensions: B images, C input and O output channels, H x W pixels, K kernels, U hidden units of the attention branch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels import native
from dyconv.kernels.derivatives import gradients_by_torch
from dyconv.kernels.pooling import average_pool

_LAST = torch.channels_last


class Computation(Protocol):
    """One convolution of given geometry: images and gradients are channels-last, attention is contiguous."""

    def shared(self, weight: Tensor) -> Tensor:
        """Return the K kernels in the order in which the other methods read them."""

    def output(self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor) -> Tensor:
        """Return the convolution, each image with its own mixture."""

    def input_gradient(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, start: Tensor | None
    ) -> Tensor:
        """Return the gradient of the images, `start` (B, C) added at each pixel, from that of the output."""

    def kernel_gradients(
        self, images: Tensor, weight: Tensor, shared: Tensor, attention: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the K kernels, in the order of `weight`, and of attention."""

    def by_torch(self, input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        """Return the convolution by operations that torch can differentiate any number of times."""


class Branch(NamedTuple):
    """An attention branch: weight and bias of its two layers, (U, C), (U,), (K, U) and (K,), and the temperature."""

    squeeze: Tensor
    squeeze_bias: Tensor
    excite: Tensor
    excite_bias: Tensor
    temperature: Tensor


def convolve(input: Tensor, weight: Tensor, attention: Tensor, computation: Computation) -> Tensor:
    """Return the channels-last convolution of (B, C, H, W) images, each with its own mix of K kernels."""
    return _MixedConvolution.apply(input, weight, attention, computation)  # type: ignore[no-any-return]


def attend_and_convolve(input: Tensor, weight: Tensor, branch: Branch, computation: Computation) -> Tensor:
    """Return the convolution of images by the attention of a branch, softmax(z / temperature).

    The sums of the input's gradient begin at the gradient of the average, one number per channel.

    Source: Chen et al. 2020, section 3, figure 3.
    """
    return _Attended.apply(input, weight, *branch, computation)  # type: ignore[no-any-return]


def attend(average: Tensor, branch: Branch) -> Tensor:
    """Return the (B, K) attention of a branch for images of this average (B, C); without a derivative."""
    return _attended(average.contiguous(), 1, branch[:4], float(branch.temperature))[2]


def _attended(images: Tensor, pixels: int, layers: Sequence[Tensor], temperature: float) -> list[Tensor]:
    """Return average (B, C), hidden units (B, U) and attention (B, K) of images that are stored as (B, P, C)."""
    sizes = _sizes(images, pixels, layers, temperature)
    results = [images.new_empty(sizes.images, count) for count in (sizes.channels, sizes.hidden, sizes.kernels)]
    native.attend(sizes, images, layers, results)
    return results


def _sizes(images: Tensor, pixels: int, layers: Sequence[Tensor], temperature: float) -> native.Sizes:
    num_kernels, hidden = layers[2].shape
    return native.Sizes(images.shape[0], pixels, images.shape[1], hidden, num_kernels, temperature)


class _MixedConvolution(torch.autograd.Function):
    """`convolve` with its first derivative written by hand."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, attention: Tensor, computation: Computation) -> Tensor:
        images, mixture = input.contiguous(memory_format=_LAST), attention.contiguous()
        # The input itself, not the copy, so that a second derivative reaches its graph.
        ctx.computation = computation
        ctx.save_for_backward(input, weight, mixture)
        return computation.output(images, weight, computation.shared(weight), mixture)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Read once: hooks that pack saved tensors, as checkpointing does, unpack them at each reading.
        saved = input, weight, attention = ctx.saved_tensors
        computation: Computation = ctx.computation
        if torch.is_grad_enabled() or not native.can_read(*saved, grads[0]):
            return (*gradients_by_torch(computation.by_torch, saved, grads[0], ctx.needs_input_grad), None)
        images, grad = input.contiguous(memory_format=_LAST), grads[0].contiguous(memory_format=_LAST)
        with_shared = images, weight, computation.shared(weight), attention, grad
        to_input = computation.input_gradient(*with_shared, None) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:3]):
            return to_input, None, None, None
        return to_input, *computation.kernel_gradients(*with_shared), None


class _Attended(torch.autograd.Function):
    """`attend_and_convolve` with its first derivative written by hand."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, *branch_and_computation: Any) -> Tensor:
        *layers, temperature, computation = branch_and_computation
        images = input.contiguous(memory_format=_LAST)
        ctx.computation, ctx.temperature = computation, float(temperature)
        results = _attended(images, images.shape[2:].numel(), layers, ctx.temperature)
        ctx.save_for_backward(input, weight, *layers, *results)
        return computation.output(images, weight, computation.shared(weight), results[2])  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        computation: Computation = ctx.computation
        # Read once: hooks that pack saved tensors, as checkpointing does, unpack them at each reading.
        saved = ctx.saved_tensors
        (input, weight, *layers), results = saved[:6], saved[6:]
        if torch.is_grad_enabled() or not native.can_read(*saved, grads[0]):

            def by_torch(input: Tensor, weight: Tensor, *layers: Tensor) -> Tensor:
                return computation.by_torch(input, weight, _attention(input, layers, ctx.temperature))

            return (*gradients_by_torch(by_torch, saved[:6], grads[0], ctx.needs_input_grad), None, None)
        images, grad = input.contiguous(memory_format=_LAST), grads[0].contiguous(memory_format=_LAST)
        with_shared = images, weight, computation.shared(weight), results[2], grad
        # Backwards: attention's gradient first, then its layers', and with the average's that of the images.
        to_weight, to_attention = computation.kernel_gradients(*with_shared)
        to_layers = [torch.empty_like(layer) for layer in layers]
        to_pixels = torch.empty_like(results[0])
        sizes = _sizes(images, images.shape[2:].numel(), layers, ctx.temperature)
        native.attend_gradient(sizes, layers, results, to_attention, (*to_layers, to_pixels))
        to_input = computation.input_gradient(*with_shared, to_pixels) if ctx.needs_input_grad[0] else None
        return to_input, to_weight, *to_layers, None, None


def _attention(input: Tensor, layers: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the (B, K) attention by operations of torch."""
    squeeze, squeeze_bias, excite, excite_bias = layers
    hidden = torch.relu(F.linear(average_pool(input), squeeze, squeeze_bias))
    return torch.softmax(F.linear(hidden, excite, excite_bias) / temperature, 1)
