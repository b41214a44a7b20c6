"""This module evaluates a layer without gradient in one compiled call: attention, mixing and convolution.

It is for few images, where each call of torch takes longer than what it computes, and for images that are stored
channel by channel (NCHW), for which there is no other compiled convolution. What is planned once is a function of
shapes; addresses of tensors are read at each call, so that nothing here knows a layer or outlives it. Sums are those of
`tiling` and `depthwise`, to the bit. `functional` calls this module.

Dimensions: B images, C input and O output channels, K kernels, U hidden units of the attention branch, h x w kernel
size.
"""

from collections.abc import Sequence
from ctypes import pointer
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels import native
from dyconv.kernels.compiled import Branch
from dyconv.kernels.depthwise import axes_between
from dyconv.kernels.geometry import Geometry, Pair

_LAST = torch.channels_last
# The sizes of the buffers in the C code.
_MOST_CHANNELS, _MOST_NUMBERS, _MOST_TAPS, _MOST_PADDED = 2048, 2**15, 256, 2**15
_FEWEST_ACROSS = 8
"""The least numbers side by side that fill a vector on every processor; torch does what is narrower."""
_MOST_IMAGES = 32
"""The most channels-last images: for more, tiles are faster, which put the kernels into order once for all images."""

Settings = tuple[Pair, Pair, Pair, int]
"""Stride, padding, dilation and groups of a convolution."""


class Plan(NamedTuple):
    """What a call needs to know, from shapes alone: layer, branch, and the size and strides of the result."""

    settings: Settings
    layer: native.Layer
    branch: native.Sizes
    result: tuple[int, ...]
    strides: tuple[int, ...]


def attended(input: Tensor, weight: Tensor, branch: Branch, settings: Settings) -> Tensor | None:
    """Return the convolution of (B, C, H, W) images by the attention of a branch; None where that cannot be.

    `weight` is (K, O, C / groups, h, w). The caller must have asked `native.can_read` of all tensors, and have seen
    that no gradient is recorded.

    Source: Chen et al. 2020, section 3, figure 3.
    """
    squeeze, squeeze_bias, excite, excite_bias, _ = branch
    plan = _plan_for(input, weight, squeeze.shape[0], settings)
    if plan is None or not branch.fits(input.shape[1], weight.shape[0]):
        return None
    if not (squeeze.is_contiguous() and squeeze_bias.is_contiguous()):
        return None
    if not (excite.is_contiguous() and excite_bias.is_contiguous()):
        return None
    return _evaluate(plan, plan.branch, (input, weight, *branch), None)


def convolved(input: Tensor, weight: Tensor, attention: Tensor, settings: Settings) -> Tensor | None:
    """Return the same convolution by given (B, K) attention, to the same bits; None where that cannot be.

    The caller must have asked `native.can_read` of all tensors, and have seen that no gradient is recorded.
    """
    plan = _plan_for(input, weight, 0, settings)
    if plan is None:
        return None
    return _evaluate(plan, None, (input, weight), attention.contiguous())


def _evaluate(plan: Plan, branch: native.Sizes | None, tensors: Sequence[Tensor], attention: Tensor | None) -> Tensor:
    # Faster than by a memory format, which torch turns into strides each time.
    result = tensors[0].new_empty_strided(plan.result, plan.strides)
    native.evaluate(plan.layer, branch, tensors, attention, result)
    if plan.layer.kind == native.MIXED:
        return F.conv2d(tensors[0], result, None, *plan.settings)
    return result


def _plan_for(input: Tensor, weight: Tensor, hidden: int, settings: Settings) -> Plan | None:
    is_last = input.is_contiguous(memory_format=_LAST) and input.stride(1) == 1
    if not (weight.is_contiguous() and (is_last or input.is_contiguous())):
        return None
    return _plan(input.shape, weight.shape, hidden, is_last, settings)


# Not `remembered`, which asks whether a compiler traces the call: no tensor comes here then, and this runs in every
# layer.
@lru_cache(maxsize=4096)
def _plan(size: Sequence[int], kernels: Sequence[int], hidden: int, is_last: bool, settings: Settings) -> Plan | None:
    """Return how to convolve images of a size with K kernels, by U hidden units; None if that is left to others."""
    (batch, channels, height, width), (num_kernels, out_channels, per_group, h, w) = size, kernels
    stride, padding, dilation, groups = settings
    sizes = (height, width), (h, w), stride, padding, dilation, groups
    g = Geometry(batch, num_kernels, per_group * groups, out_channels, *sizes)
    # A map without pixels, of which padding makes one, has no average here.
    if channels != g.in_channels or min(batch, height, width, *g.output_size) < 1 or num_kernels > native.MOST_KERNELS:
        return None
    kind = _kind(g, is_last)
    # Torch convolves one image with its one kernel; how it is to convolve more is a matter of `algorithms`.
    if (kind == native.MIXED and batch > 1) or (is_last and batch > _MOST_IMAGES):
        return None
    rows, columns = g.output_size
    result: tuple[int, ...] = (batch, out_channels, rows, columns)
    strides: tuple[int, ...] = (out_channels * rows * columns, rows * columns, columns, 1)
    if kind == native.MIXED:
        result, strides = tuple(kernels[1:]), (per_group * h * w, h * w, w, 1)
    elif is_last:
        strides = (out_channels * rows * columns, 1, columns * out_channels, out_channels)
    # The temperature is read where it lies, at each call.
    branch = native.Sizes(batch, height * width, channels, hidden, num_kernels, not is_last, 0.0)
    return Plan(settings, _layer(g, kind, is_last), branch, result, strides)


def _kind(g: Geometry, is_last: bool) -> int:
    """Return what the C code can make of a layer: its convolution, or the mixed kernels alone."""
    if g.pointwise and g.in_channels <= _MOST_CHANNELS:
        across = g.out_channels if is_last else prod(g.output_size)
        # Stored channel by channel, pixels that a stride leaves out would lie between those that fill a vector.
        if across >= _FEWEST_ACROSS and (is_last or g.stride == (1, 1)):
            return native.POINTWISE
    if g.depthwise:
        if is_last:
            fits = g.kernel_size[0] <= native.MOST_ROWS and g.kernel_elements <= _MOST_NUMBERS
        else:
            fits = prod(g.kernel_size) <= _MOST_TAPS and _padded_row(g) <= _MOST_PADDED
        if fits:
            return native.DEPTHWISE
    return native.MIXED


def _padded_row(g: Geometry) -> int:
    """Return the numbers of a padded plane that one row of the result needs."""
    below, beside = ((k - 1) * d // s for k, d, s in zip(g.kernel_size, g.dilation, g.stride, strict=True))
    return prod(g.stride) * (1 + below) * (g.output_size[1] + beside)


def _layer(g: Geometry, kind: int, is_last: bool) -> native.Layer:
    (height, width), (rows, columns) = g.input_size, g.output_size
    layer = native.Layer(kind, not is_last, g.batch, g.num_kernels, g.in_channels, g.out_channels, g.kernel_elements)
    layer.source, layer.result = g.in_channels * height * width, g.out_channels * rows * columns
    layer.apart_lines, layer.apart_pixels = g.stride[0] * width * g.in_channels, g.stride[1] * g.in_channels
    layer.lines, layer.line = rows, columns
    if g.stride == (1, 1):  # the image as one long line
        layer.lines, layer.line = 1, rows * columns
    layer.work = g.batch * (g.multiply_adds + g.num_kernels * g.kernel_elements)
    pairs = g.input_size, g.output_size, g.kernel_size, g.stride, g.padding, g.dilation
    for name, pair in zip(("size", "output", "kernel", "stride", "padding", "dilation"), pairs, strict=True):
        getattr(layer, name)[:] = pair
    if kind == native.DEPTHWISE and is_last:
        rows_met, columns_met = axes_between(*pairs).forward
        # The structure keeps what it points to alive.
        layer.rows, layer.columns = pointer(rows_met), pointer(columns_met)
    return layer
