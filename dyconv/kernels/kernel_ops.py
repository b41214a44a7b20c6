"""Mixing K kernels by attention, and the gradients of that, by compiled kernels where they can and by torch elsewhere.

Not differentiated by torch: these stand inside the hand-written derivatives of `products`, `folding` and `depthwise`.

Dimensions: B images, K kernels, N numbers in a kernel.
"""

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
    """Add to the gradients (B, K) of attention and (K, N) of the kernels what that of the mixtures, (B, N), brings.

    The sums may be of higher precision than the rest.
    """
    if native.can_mix(attention, weight, grad, to_attention, to_weight):
        native.add_gradients(attention, weight, grad, to_attention, to_weight)
    elif to_weight.dtype == weight.dtype:
        to_attention.addmm_(grad, weight.t())
        to_weight.addmm_(attention.t(), grad)
    else:
        to_attention += grad @ weight.t()
        to_weight += attention.t() @ grad
