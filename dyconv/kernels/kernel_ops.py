"""This module mixes and re-orders K kernels, by compiled code where possible and else by torch.

Torch does not differentiate these functions: the hand-written derivatives of `products`, `folding`, `depthwise` and
`tiling` call them.

Layers keep kernels as (K, O, C, h, w). Products of patches read them line by line as (K, h, w, C, O), for the input's
gradient as (K, h, w, O, C) turned by half a circle. Torch takes longer to re-order kernels of megabytes than to
multiply with them.

Dimensions: B images, K kernels of N numbers, O output and C input channels, h x w kernel size, J = h w C.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dyconv.kernels import native


def mix(attention: Tensor, weight: Tensor, mixed: Tensor | None = None) -> Tensor:
    """Return the (B, N) mixtures of (K, N) kernels by (B, K) attention, written to `mixed` if that is given."""
    if mixed is None:
        mixed = weight.new_empty(attention.shape[0], weight.shape[1])
    if native.can_mix(attention, weight, mixed):
        native.mix(attention, weight, mixed)
        return mixed
    return torch.mm(attention, weight, out=mixed)


def add_gradients(attention: Tensor, weight: Tensor, grad: Tensor, to_attention: Tensor, to_weight: Tensor) -> None:
    """Add the share of `grad`, the (B, N) gradient of the mixtures, to those of attention (B, K) and kernels (K, N).

    The sums may have a higher precision than the other tensors.
    """
    if native.can_mix(attention, weight, grad, to_attention, to_weight):
        native.add_gradients(attention, weight, grad, to_attention, to_weight)
    elif to_weight.dtype == weight.dtype:
        # In place, without a product to be added.
        to_attention.addmm_(grad, weight.t())
        to_weight.addmm_(attention.t(), grad)
    else:
        # `addmm_` cannot add to sums of another dtype.
        to_attention += grad @ weight.t()
        to_weight += attention.t() @ grad


def by_patch(weight: Tensor) -> Tensor:
    """Return (K, O, C, h, w) as (K, J O), each kernel's numbers in the order (h, w, C, O)."""
    num_kernels, out_channels, channels, h, w = weight.shape
    if not native.can_order(weight, h * w):
        return permuted_by_patch(weight)
    ordered = weight.new_empty(num_kernels, h * w * channels * out_channels)
    native.by_patch(weight, ordered, (num_kernels, out_channels, channels, h * w))
    return ordered


def permuted_by_patch(weight: Tensor) -> Tensor:
    """Return the result of `by_patch` by an operation that torch can differentiate, compile and export."""
    return weight.permute(0, 3, 4, 2, 1).flatten(1)


def by_output(ordered: Tensor, like: Tensor) -> Tensor:
    """Return the inverse of `by_patch`, in the shape of `like`."""
    num_kernels, out_channels, channels, h, w = like.shape
    if not native.can_order(ordered, h * w):
        return ordered.view(num_kernels, h, w, channels, out_channels).permute(0, 4, 3, 1, 2)
    weight = ordered.new_empty(like.shape)
    native.by_output(ordered, weight, (num_kernels, out_channels, channels, h * w))
    return weight


def flipped(ordered: Tensor, channels: int, kernel_size: tuple[int, int]) -> Tensor:
    """Return (K, J O) in the order (h, w, C, O) as the kernels from outputs to inputs: turned, in (h, w, O, C)."""
    h, w = kernel_size
    num_kernels, out_channels = ordered.shape[0], ordered.shape[1] // (h * w * channels)
    if not native.can_order(ordered, h * w):
        kernels = ordered.view(num_kernels, h, w, channels, out_channels)
        # The input's gradient is a convolution with kernels turned by half a circle, outputs in place of inputs.
        return kernels.flip(1, 2).transpose(3, 4).reshape(num_kernels, -1)
    turned = torch.empty_like(ordered)
    native.flipped(ordered, turned, (num_kernels, out_channels, channels, h * w))
    return turned
