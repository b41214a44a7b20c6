"""A pointwise convolution with one kernel per image by compiled kernels, in channels-last as it lies.

A tile of an image's kernel is mixed and multiplied while it is in the first cache; none is ever written to memory. The
C code is `native`'s, products by torch are `products`'. Used by `algorithms` only.

Dimensions: B images, C input and O output channels, H x W pixels, K kernels.
"""

from typing import Any

import torch
from torch import Tensor

from dyconv import native
from dyconv.products import Window, differentiable_gradients
from dyconv.tracing import is_traced


def is_computable(input: Tensor, weight: Tensor) -> bool:
    """Whether the compiled kernels can convolve `input` with these (K, O, C, 1, 1)."""
    if is_traced() or not native.available():
        return False
    return input.device.type == "cpu" and input.dtype == torch.float32 and weight.is_contiguous()


def fits(channels: int, out_channels: int, num_kernels: int) -> bool:
    """Whether the compiled kernels know layers of this size."""
    return min(channels, out_channels) >= native.FEWEST_COLUMNS and num_kernels <= native.MOST_KERNELS


def tiled_product(input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
    """Return the channels-last (B, O, H, W) convolution of (B, C, H, W) images, each with its own (K, O, C, 1, 1).

    A second derivative is taken through `differentiable_gradients`.
    """
    return _Tiled.apply(input, weight, attention)  # type: ignore[no-any-return]


def output(input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
    """Return the convolution of channels-last images, contiguous kernels and contiguous attention."""
    batch, _, height, width = input.shape
    result = torch.empty(batch, weight.shape[1], height, width, memory_format=torch.channels_last)
    native.product(input, weight, attention, None, result, rows_last=True)
    return result


def input_gradient(grad: Tensor, weight: Tensor, attention: Tensor, start: Tensor | None) -> Tensor:
    """Return that of the input, `start` (B, C) added at each pixel, from the channels-last one of its output."""
    batch, _, height, width = grad.shape
    result = torch.empty(batch, weight.shape[2], height, width, memory_format=torch.channels_last)
    native.product(grad, weight, attention, start, result, rows_last=False)
    return result


def kernel_gradients(input: Tensor, weight: Tensor, attention: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the K kernels and of attention."""
    to_weight, to_attention = torch.empty_like(weight), torch.empty_like(attention)
    native.product_gradient(grad, input, weight, attention, to_weight, to_attention)
    return to_weight, to_attention


class _Tiled(torch.autograd.Function):
    """`tiled_product` with its first derivative written by hand."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
        images, mixture = input.contiguous(memory_format=torch.channels_last), attention.contiguous()
        ctx.save_for_backward(input, weight, mixture)
        return output(images, weight, mixture)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, attention = ctx.saved_tensors
        if torch.is_grad_enabled():
            size = (input.shape[2], input.shape[3])
            return tuple(differentiable_gradients(input, weight, attention, grads[0], Window.of_pixels(size)))
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        to_input = input_gradient(grad, weight, attention, None) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return to_input, None, None
        images = input.contiguous(memory_format=torch.channels_last)
        return to_input, *kernel_gradients(images, weight, attention, grad)
