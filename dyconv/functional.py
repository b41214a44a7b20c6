"""`dynamic_conv2d` and `dynamic_linear` compute one convolution or product per image, with a kernel mixed from K.

They are pure functions, which layers call. They check the arguments, bring padding to one form, honour autocast, and
let `algorithms` choose the computation. Neither knows a source of attention.

Dimensions: B images, C input and O output channels, G groups, I = C / G, H x W input pixels, K kernels,
h x w kernel size, P positions of a linear layer.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.errors import ArgumentError, ShapeError
from dyconv.kernels import algorithms, evaluating, native, operators
from dyconv.kernels.compiled import Branch
from dyconv.kernels.cuda.choices import target_of
from dyconv.kernels.folding import format_of, is_channels_last
from dyconv.kernels.geometry import Geometry, Pair
from dyconv.kernels.tracing import is_autocast, is_known, is_ordinary

IntOrPair = int | tuple[int, int]


def dynamic_conv2d(  # noqa: PLR0917 - the order of F.conv2d
    input: Tensor,
    weight: Tensor,
    attention: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
) -> Tensor:
    """Convolve image b with the kernel sum_k attention[b, k] weight[k] and the bias mixed likewise.

    `input` is (B, C, H, W), `weight` (K, O, C / groups, h, w), `attention` (B, K), `bias` (K, O) or None; the result is
    (B, O, H', W') as from `F.conv2d`, channels-last if the input is. The floating dtype of attention may differ from
    that of the others, and its rows need not sum to one. `padding` is in pixels, "same", "valid", or "tf_same":
    TensorFlow's, ceil(H / stride) pixels out, the odd pixel at the bottom right. `algorithm` forces one of
    `algorithms.available_algorithms()`; None leaves the choice to the documented cost model there, which depends on
    shapes alone (and on whether the compiled kernels are there), or on a CUDA device to a table of times; without a
    gradient the CPU's is in `evaluating`. One row of attention that is expanded over the batch gives an ordinary
    convolution. All algorithms agree within rounding.

    Raises:
        ShapeError: the tensors do not fit together.
        ArgumentError: a stride, padding, dilation, group count or algorithm that cannot work.

    Source: Chen et al. 2020, section 3.1: y = g(W(x)^T x + b(x)), W(x) = sum_k pi_k(x) W_k.
    """
    _check_shapes(input, weight, attention, bias, groups)
    kernel_size = (weight.shape[3], weight.shape[4])
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    input, paddings = explicit_padding(input, padding, kernel_size, strides, dilations)
    geometry = Geometry(
        batch=input.shape[0],
        num_kernels=weight.shape[0],
        # Of the kernels, whose sizes a tracer knows.
        in_channels=weight.shape[2] * groups,
        out_channels=weight.shape[1],
        input_size=(input.shape[2], input.shape[3]),
        kernel_size=kernel_size,
        stride=strides,
        padding=paddings,
        dilation=dilations,
        groups=groups,
    )
    height, width = geometry.output_size
    if is_known(height, width) and (height < 1 or width < 1):
        raise ShapeError(
            f"a {kernel_size} kernel with dilation {dilations} does not fit an input of {geometry.input_size} pixels "
            f"padded by {paddings}: enlarge the input or the padding"
        )
    return _under_autocast(input, weight, attention, bias, geometry, algorithm)


def attended_conv2d(  # noqa: PLR0917 - the order of F.conv2d
    input: Tensor, weight: Tensor, branch: Branch, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor | None:
    """Convolve with the mixture by an attention branch, in one step; return None where compiled kernels cannot.

    `input` is (B, C, H, W), the rest as a layer holds it: `weight` (K, O, C / groups, h, w). It computes, within
    rounding, what the branch and `dynamic_conv2d` do one after the other, and takes the same algorithm. Without a
    gradient it is the same to the bit.

    Source: Chen et al. 2020, section 3.
    """
    if input.dim() != 4 or torch.is_autocast_enabled("cpu"):
        return None
    is_readable = native.can_read(input, weight, *branch)
    if not (is_readable or native.computes(input, weight, *branch)):
        return None
    if is_readable and not torch.is_grad_enabled():
        output = evaluating.attended(input, weight, branch, (stride, padding, dilation, groups))
        if output is not None:
            return output
    (batch, channels, height, width), kernels = input.shape, weight.shape
    if channels != kernels[2] * groups or not branch.fits(channels, kernels[0]):
        return None
    # The compiled kernels read one pixel's channels after the other's.
    if not is_channels_last(input):
        return None
    sizes = (height, width), (kernels[3], kernels[4]), stride, padding, dilation, groups
    # Channels of the kernels, whose sizes a tracer knows.
    geometry = Geometry(batch, kernels[0], kernels[2] * groups, kernels[1], *sizes)
    if is_known(batch, height, width) and (batch < 1 or min(geometry.output_size) < 1):
        return None
    algorithm = algorithms.choose(geometry)
    # Not every algorithm has a form that takes the attention branch along.
    if not algorithm.is_operator:
        return None
    return operators.attend_and_convolve(input, weight, branch, geometry, is_readable)


def dynamic_linear(input: Tensor, weight: Tensor, attention: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply input b by the matrix sum_k attention[b, k] weight[k] and add the bias mixed likewise.

    `input` is (B, I) or (B, ..., I), `weight` (K, O, I), `attention` (B, K), `bias` (K, O) or None; the result is
    (B, O) or (B, ..., O). It is a 1 x 1 convolution of P pixels, and computed as one.

    Raises:
        ShapeError: the tensors do not fit together.

    Source: Chen et al. 2020, section 3.1.
    """
    if weight.dim() != 3:
        raise ShapeError(f"weight must be (K, O, I), got {tuple(weight.shape)}")
    if input.dim() > 2 and not input.shape[1:-1].numel():
        return _on_no_positions(input, weight, attention, bias)
    output_BOP1 = dynamic_conv2d(as_image(input), weight[:, :, :, None, None], attention, bias)
    return output_BOP1.permute(0, 2, 3, 1).reshape(*input.shape[:-1], weight.shape[1])


def _on_no_positions(input: Tensor, weight: Tensor, attention: Tensor, bias: Tensor | None) -> Tensor:
    """Return an empty (B, ..., O) whose gradients are zeros, as those of `F.linear` are."""
    # Computed rather than created, so that autograd reaches every argument.
    attention = attention.to(input.dtype)
    matrices = (attention @ weight.flatten(1)).reshape(input.shape[0], *weight.shape[1:])
    output = torch.bmm(input.flatten(1, -2), matrices.transpose(1, 2))
    if bias is not None:
        output = output + (attention @ bias)[:, None]
    return output.reshape(*input.shape[:-1], weight.shape[1])


def as_image(input: Tensor) -> Tensor:
    """Return (B, ..., I) as the channels-last image (B, I, P, 1), without a copy where the positions allow it.

    Raises:
        ShapeError: fewer than two dimensions.
    """
    if input.dim() < 2:
        raise ShapeError(f"the input of a dynamic linear layer must be (B, ..., I), got {tuple(input.shape)}")
    middle = input.shape[1:-1].numel()
    return input.reshape(input.shape[0], middle, 1, input.shape[-1]).permute(0, 3, 1, 2)


def _under_autocast(
    input: Tensor, weight: Tensor, attention: Tensor, bias: Tensor | None, geometry: Geometry, algorithm: str | None
) -> Tensor:
    """Convolve in the dtype that autocast would give `F.conv2d`; float64 stays as it is."""
    # Attention stays in its own precision here; `_convolve` rounds it once, to the dtype of the images.
    device = input.device.type
    if not is_autocast(device) or input.dtype == torch.float64:
        return _convolve(input, weight, attention, bias, geometry, algorithm)
    dtype = torch.get_autocast_dtype(device)
    if bias is not None:
        bias = bias.to(dtype)
    with torch.autocast(device, enabled=False):
        return _convolve(input.to(dtype), weight.to(dtype), attention, bias, geometry, algorithm)


def _convolve(
    input: Tensor, weight: Tensor, attention: Tensor, bias: Tensor | None, geometry: Geometry, algorithm: str | None
) -> Tensor:
    """Choose an algorithm, run it, add the bias, and return the result in the memory format of the input."""
    if algorithm is None and attention.shape[0] > 1 and attention.stride(0) == 0:
        # A stride of zero: `expand` made all rows from one, so one kernel does.
        attention, algorithm = attention[:1], "shared"
    attention = attention.to(input.dtype)
    is_last = is_channels_last(input)
    memory_format, output = format_of(is_last), None
    if algorithm is None and not torch.is_grad_enabled() and native.can_read(input, weight, attention):
        settings = geometry.stride, geometry.padding, geometry.dilation, geometry.groups
        output = evaluating.convolved(input, weight, attention, settings)
    if output is None:
        computation = algorithms.choose(geometry, algorithm, input.device.type == "cpu", target_of(input))
        if not (computation.keeps_format and is_last):
            input = with_gradient_format(input, memory_format)
        output = computation.run(input, weight, attention, geometry)
    if bias is not None:
        output = output + (attention @ bias)[:, :, None, None]
    return output.contiguous(memory_format=memory_format)


def with_gradient_format(input: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return the input, whose gradient will be stored in this format, its own.

    Folding permutes dimensions, and a gradient that stays permuted sends the batch norm before this layer down a
    path ten times slower.
    """
    if input.requires_grad and is_ordinary(input):
        return _GradientFormat.apply(input, memory_format)  # type: ignore[no-any-return]
    return input


class _GradientFormat(torch.autograd.Function):
    """The function of `with_gradient_format`."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, memory_format: torch.memory_format) -> Tensor:
        ctx.memory_format = memory_format
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0]
        if is_ordinary(grad):
            grad = grad.contiguous(memory_format=ctx.memory_format)
        return grad, None


def pair(value: IntOrPair, name: str, least: int) -> Pair:
    """Return `value` as two integers, or raise ArgumentError if it is not one or two integers >= `least`."""
    # The usual case first and without a loop: this runs at every forward pass.
    if type(value) is tuple and len(value) == 2:
        first, second = value
        if type(first) is int and type(second) is int and first >= least and second >= least:
            return value
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or any(not isinstance(v, int) or isinstance(v, bool) or v < least for v in values):
        raise ArgumentError(f"{name} must be one or two integers of at least {least}, got {value!r}")
    return values[0], values[1]


def explicit_padding(
    input: Tensor, padding: IntOrPair | str, kernel_size: Pair, stride: Pair, dilation: Pair
) -> tuple[Tensor, Pair]:
    """Return input and padding in pixels for any padding; an odd pixel is padded onto the input itself."""
    if padding == "valid":
        return input, (0, 0)
    if not isinstance(padding, str):
        return input, pair(padding, "padding", 0)
    if padding not in ("same", "tf_same"):
        raise ArgumentError(f"padding must be 'same', 'valid', 'tf_same' or integers, got {padding!r}")
    if padding == "same" and stride != (1, 1):
        raise ArgumentError(f"padding='same' needs stride 1, got {stride}: give the padding in pixels")
    # TensorFlow's rule: ceil(n / s) pixels out; -(-n // s) is that ceiling. With stride 1 it is "same".
    rows, columns = (
        max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        for n, s, d, k in zip(input.shape[2:], stride, dilation, kernel_size, strict=True)
    )
    if rows % 2 or columns % 2:
        input = F.pad(input, (0, columns % 2, 0, rows % 2))
    return input, (rows // 2, columns // 2)


def _check_shapes(input: Tensor, weight: Tensor, attention: Tensor, bias: Tensor | None, groups: int) -> None:
    if input.dim() != 4 or weight.dim() != 5:
        raise ShapeError(
            "input must be (B, C, H, W) and weight (K, O, C / groups, h, w), "
            f"got {tuple(input.shape)} and {tuple(weight.shape)}"
        )
    batch, channels = input.shape[:2]
    num_kernels, out_channels, per_group = weight.shape[:3]
    if groups < 1 or channels != per_group * groups or out_channels % groups:
        raise ShapeError(
            f"{channels} input channels, {out_channels} output channels and kernels that see {per_group} channels "
            f"do not fit groups={groups}: C must be groups x {per_group} and O a multiple of groups"
        )
    if attention.shape != (batch, num_kernels):
        raise ShapeError(
            f"attention must be (B, K) = {(batch, num_kernels)}, one weight per image and kernel, "
            f"got {tuple(attention.shape)}"
        )
    if bias is not None and bias.shape != (num_kernels, out_channels):
        raise ShapeError(
            f"bias must be (K, O) = {(num_kernels, out_channels)}, one row per kernel, got {tuple(bias.shape)}"
        )
