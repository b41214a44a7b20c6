"""This module averages over the positions of an image, by compiled kernels where possible and else by torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dyconv.kernels import native
from dyconv.kernels.tracing import is_ordinary


def average_pool(input: Tensor) -> Tensor:
    """Return the (B, C) mean over pixels of (B, C, H, W); an input (B, C) is averaged already and returned as it is.

    Dividing the sum keeps the division of the gradient to (B, C) numbers; `mean` would divide all of (B, C, H, W). Half
    precision is summed and divided in float32: a sum over pixels may be too large for it where the mean is not. Without
    a gradient compiled code sums up, to the same bits as in a layer that is computed in one step.
    """
    if input.dim() == 2:
        return input
    if not torch.is_grad_enabled() and native.can_read(input) and input.numel() > 0:
        if input.is_contiguous(memory_format=torch.channels_last):
            return native.average(input, planes=False)
        if input.is_contiguous():
            return native.average(input, planes=True)
    # A map without pixels is no error: a convolution with enough padding still makes an image of it.
    pixels = max(1, input.shape[2] * input.shape[3])
    if not _is_half(input):
        return input.sum((2, 3)) / pixels
    return (input.sum((2, 3), dtype=torch.float32) / pixels).to(input.dtype)


def with_average(input: Tensor) -> tuple[Tensor, Tensor]:
    """Return a (B, C, H, W) input for a convolution, and its (B, C) average for the attention of that convolution.

    The gradients of both come back together, so that the average's, one number per channel, is added to the
    convolution's in place. Autograd would add them in another pass over memory, with a copy.
    """
    if not (torch.is_grad_enabled() and input.requires_grad and is_ordinary(input)):
        return input, average_pool(input)
    return _WithAverage.apply(input)  # type: ignore[no-any-return]


class _WithAverage(torch.autograd.Function):
    """The function of `with_average`.

    It may write into the gradient of the first result, which nobody else holds: that goes to one convolution only.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> tuple[Tensor, Tensor]:
        ctx.size = input.shape[2:]
        ctx.set_materialize_grads(False)
        return input.view_as(input), average_pool(input)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        to_input, to_average = grads
        if to_average is None:
            return to_input
        # In float32, because a gradient that is divided by thousands of pixels may be too small for half precision.
        divided = (at_least_float32(to_average) / max(1, ctx.size.numel()))[:, :, None, None]
        if to_input is not None and not torch.is_grad_enabled() and to_input.dtype != divided.dtype:
            summed: Tensor = to_input.add_(divided)
            return summed
        addend = divided.to(to_average.dtype)
        if to_input is None:
            spread: Tensor = addend.expand(-1, -1, *ctx.size)
            return spread
        total: Tensor = to_input + addend if torch.is_grad_enabled() else to_input.add_(addend)
        return total


def at_least_float32(logits: Tensor) -> Tensor:
    """Return `logits`, in float32 if they come in half precision."""
    return logits.float() if _is_half(logits) else logits


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)
