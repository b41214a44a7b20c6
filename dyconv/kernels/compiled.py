"""This module computes a dynamic convolution and its gradients by compiled kernels, alone or with its attention.

`operators` calls it, and knows autograd. `panels`, `tiling` and `depthwise` compute the convolutions, `native` calls
the C code. Everything is float32 on the CPU and channels-last. No step keeps the kernel of an image: the backward pass
mixes them anew.

Dimensions: B images, C input and O output channels, H x W pixels, K kernels, U hidden units of the attention branch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels import native
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

    def fits(self, channels: int, num_kernels: int) -> bool:
        """Return True if the sizes fit each other and the layer; the C code looks at none of them."""
        hidden = self.squeeze.shape[0]
        if self.squeeze.shape != (hidden, channels) or self.excite.shape != (num_kernels, hidden):
            return False
        if self.squeeze_bias.shape != (hidden,) or self.excite_bias.shape != (num_kernels,):
            return False
        return self.temperature.numel() == 1


def attend(average: Tensor, branch: Branch) -> Tensor:
    """Return the (B, K) attention of a branch for images of this average (B, C); without a derivative."""
    layers, temperature = _layers(branch)
    return _attended(average.contiguous(), 1, layers, temperature)[2]


def _attended(images: Tensor, pixels: int, layers: Sequence[Tensor], temperature: float) -> list[Tensor]:
    """Return average (B, C), hidden units (B, U) and attention (B, K) of images that are stored as (B, P, C)."""
    sizes = _sizes(images, pixels, layers, temperature)
    results = [images.new_empty(sizes.images, count) for count in (sizes.channels, sizes.hidden, sizes.kernels)]
    native.attend(sizes, images, layers, results)
    return results


def _sizes(images: Tensor, pixels: int, layers: Sequence[Tensor], temperature: float) -> native.Sizes:
    num_kernels, hidden = layers[2].shape
    return native.Sizes(images.shape[0], pixels, images.shape[1], hidden, num_kernels, False, temperature)


def output(computation: Computation, input: Tensor, weight: Tensor, attention: Tensor) -> tuple[Tensor]:
    """Return the channels-last convolution of (B, C, H, W) images, each with its own mix of K kernels."""
    weight = weight.contiguous()
    images, mixture = input.contiguous(memory_format=_LAST), attention.contiguous()
    return (computation.output(images, weight, computation.shared(weight), mixture),)


def gradients(
    computation: Computation, grad: Tensor, input: Tensor, weight: Tensor, attention: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of images, kernels and attention, from that of the output; None for those not needed."""
    weight = weight.contiguous()
    images, grad = input.contiguous(memory_format=_LAST), grad.contiguous(memory_format=_LAST)
    with_shared = images, weight, computation.shared(weight), attention.contiguous(), grad
    to_input = computation.input_gradient(*with_shared, None) if needed[0] else None
    if not any(needed[1:]):
        return to_input, None, None
    return to_input, *computation.kernel_gradients(*with_shared)


def attended_output(computation: Computation, input: Tensor, weight: Tensor, *branch: Tensor) -> tuple[Tensor, ...]:
    """Return the convolution by the attention of a branch; then average (B, C), hidden units (B, U), attention (B, K).

    Source: Chen et al. 2020, section 3, figure 3.
    """
    weight, images = weight.contiguous(), input.contiguous(memory_format=_LAST)
    layers, temperature = _layers(branch)
    results = _attended(images, images.shape[2:].numel(), layers, temperature)
    return computation.output(images, weight, computation.shared(weight), results[2]), *results


def attended_gradients(
    computation: Computation, grad: Tensor, input: Tensor, weight: Tensor, *others: Any
) -> tuple[Tensor | None, ...]:
    """Return the gradients of images, kernels and the tensors of the branch; the temperature has none.

    `others` are the five tensors of the branch, the three results of `attended_output` after its first, and whether
    each gradient is needed. The sums of the images' gradient begin at the gradient of the average, one number per
    channel.
    """
    branch, results, needed = others[:5], others[5:8], others[8]
    weight = weight.contiguous()
    layers, temperature = _layers(branch)
    images, grad = input.contiguous(memory_format=_LAST), grad.contiguous(memory_format=_LAST)
    with_shared = images, weight, computation.shared(weight), results[2], grad
    # Backwards: attention's gradient first, then its layers', and with the average's that of the images.
    to_weight, to_attention = computation.kernel_gradients(*with_shared)
    to_layers = [torch.empty_like(layer) for layer in layers]
    to_pixels = torch.empty_like(results[0])
    sizes = _sizes(images, images.shape[2:].numel(), layers, temperature)
    native.attend_gradient(sizes, layers, results, to_attention, (*to_layers, to_pixels))
    to_input = computation.input_gradient(*with_shared, to_pixels) if needed[0] else None
    return to_input, to_weight, *to_layers, None


def attention_by_torch(input: Tensor, branch: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return average (B, C), hidden units (B, U) and attention (B, K) by operations of torch."""
    squeeze, squeeze_bias, excite, excite_bias, temperature = branch
    average = average_pool(input)
    hidden = torch.relu(F.linear(average, squeeze, squeeze_bias))
    return average, hidden, torch.softmax(F.linear(hidden, excite, excite_bias) / temperature.detach(), 1)


def _layers(branch: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """Return weights and biases of a branch as the C code reads them, and its temperature."""
    *layers, temperature = branch
    return [layer.contiguous() for layer in layers], float(temperature)
