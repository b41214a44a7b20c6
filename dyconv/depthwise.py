"""A depthwise convolution with one kernel per image by compiled kernels, in channels-last as it lies.

No image is copied into the channels of another, as folding does; a training step keeps no kernel of an image. The
C code is `native`'s, folding `folding`'s. Used by `algorithms` only.

Dimensions: B images, C channels, H x W input and H' x W' output pixels, K kernels, T kernel taps (h x w).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dyconv import native
from dyconv.folding import Convolution, differentiable_folding
from dyconv.mixing import add_gradients, mix
from dyconv.native import Axis
from dyconv.remembering import remembered
from dyconv.tracing import is_traced

Pair = tuple[int, int]


class Axes(NamedTuple):
    """Rows and columns of a convolution, and of its transpose."""

    forward: tuple[Axis, Axis]
    backward: tuple[Axis, Axis]


def is_computable(input: Tensor, kernel_size: Pair) -> bool:
    """Whether the compiled kernels can convolve `input`."""
    if is_traced() or not native.available():
        return False
    return input.device.type == "cpu" and input.dtype == torch.float32 and kernel_size[0] <= native.MOST_ROWS


def direct_convolution(input: Tensor, weight: Tensor, attention: Tensor, how: Convolution, output_size: Pair) -> Tensor:
    """Return the channels-last (B, C, H', W') convolution of (B, C, H, W) images, each with its own (K, C, 1, h, w).

    A second derivative is taken through `differentiable_folding`.
    """
    images = input.permute(0, 2, 3, 1).contiguous()
    output: Tensor = _Direct.apply(images, weight, attention, how, output_size)
    return output.permute(0, 3, 1, 2)


class _Direct(torch.autograd.Function):
    """The convolution of (B, H, W, C) images."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, attention: Tensor, how: Convolution, output_size: Pair
    ) -> Tensor:
        ctx.how, ctx.output_size = how, output_size
        ctx.save_for_backward(images, weight, attention)
        axes = _axes_of(images, weight, how, output_size)
        output = images.new_empty(images.shape[0], *output_size, images.shape[3])
        native.gather(images, mix(attention, _by_taps(weight)), output, *axes.forward)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, attention = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (*_differentiable_gradients(ctx, grads[0]), None, None)
        axes = _axes_of(images, weight, ctx.how, ctx.output_size)
        grad, shared = grads[0].contiguous(), _by_taps(weight)
        to_images = None
        if ctx.needs_input_grad[0]:
            to_images = torch.empty_like(images)
            native.gather(grad, mix(attention, shared), to_images, *axes.backward)
        if not any(ctx.needs_input_grad[1:3]):
            return to_images, None, None, None, None
        to_kernels = images.new_empty(images.shape[0], shared.shape[1])
        native.kernel_gradient(images, to_kernels, grad, *axes.forward)
        to_attention, to_shared = torch.zeros_like(attention), torch.zeros_like(shared)
        add_gradients(attention, shared, to_kernels, to_attention, to_shared)
        to_weight = to_shared.view(len(weight), -1, images.shape[3]).transpose(1, 2).reshape(weight.shape)
        return to_images, to_weight, to_attention, None, None


def _by_taps(weight: Tensor) -> Tensor:
    """(K, C, 1, h, w) to (K, T C)."""
    return weight.flatten(2).transpose(1, 2).flatten(1)


def _differentiable_gradients(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    """The gradients as functions that can be differentiated again; taken when a graph of them is asked for."""
    images, weight, attention = ctx.saved_tensors
    wanted = [tensor for tensor in ctx.saved_tensors if tensor.requires_grad]
    output = differentiable_folding(images.permute(0, 3, 1, 2), weight, attention, ctx.how).permute(0, 2, 3, 1)
    found = iter(torch.autograd.grad(output, wanted, grad, create_graph=True))
    return [next(found) if tensor.requires_grad else None for tensor in ctx.saved_tensors]


def _axes_of(images: Tensor, weight: Tensor, how: Convolution, output_size: Pair) -> Axes:
    (height, width), (h, w) = images.shape[1:3], weight.shape[3:]
    return _axes((height, width), output_size, (h, w), how.stride, how.padding, how.dilation)


@remembered
def _axes(input_size: Pair, output_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Axes:
    along = zip(input_size, output_size, kernel_size, stride, padding, dilation, strict=True)
    (rows, rows_back), (columns, columns_back) = (_axis_and_transpose(*one) for one in along)
    return Axes((rows, columns), (rows_back, columns_back))


def _axis_and_transpose(
    n_in: int, n_out: int, taps: int, stride: int, padding: int, dilation: int
) -> tuple[Axis, Axis]:
    """Return which tap meets which input at each output, and which tap brings it to which output."""
    met = [(tap, y, y * stride + tap * dilation - padding) for y in range(n_out) for tap in range(taps)]
    met = [(tap, y, at) for tap, y, at in met if 0 <= at < n_in]
    forward: list[list[tuple[int, int]]] = [[] for _ in range(n_out)]
    backward: list[list[tuple[int, int]]] = [[] for _ in range(n_in)]
    for tap, y, at in met:
        forward[y].append((tap, at))
        backward[at].append((tap, y))
    return Axis.of(forward, n_in, taps), Axis.of(backward, n_out, taps)
