"""This module convolves with one kernel per image, whose channels and positions are scaled for that image.

Scaling the images costs passes over their maps, scaling the kernels one kernel per image. Which is done depends on the
sizes of both. The K kernels of a layer are mixed in `functional` where possible, else here.

Dimensions: B images, C input and O output channels, G groups, I = C / G, K kernels of h x w, T = h w positions,
P output pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.functional import IntOrPair, dynamic_conv2d, explicit_padding, with_gradient_format
from dyconv.kernels import depthwise, native, operators
from dyconv.kernels.folding import Folding, format_of, is_channels_last
from dyconv.kernels.geometry import Geometry, Pair
from dyconv.kernels.pooling import at_least_float32
from dyconv.kernels.tracing import is_autocast, is_known, without_autocast


class Scales(NamedTuple):
    """The factors of each image: of its input channels (B, C), kernel positions (B, T) and output channels (B, O).

    None stands for factors of one.
    """

    inputs: Tensor | None = None
    positions: Tensor | None = None
    outputs: Tensor | None = None


class Steps(NamedTuple):
    """The stride, padding, dilation and group count of a convolution, as `nn.Conv2d` takes them."""

    stride: Pair
    padding: IntOrPair | str
    dilation: Pair
    groups: int


def scaled_conv2d(
    input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, bias: Tensor | None, steps: Steps
) -> Tensor:
    """Return outputs * conv(inputs * input, positions * sum_k attention[:, k] weight[k]), image by image.

    `input` is (B, C, H, W), `weight` (K, O, I, h, w), `attention` (B, K), or None for one kernel that counts as it is,
    `bias` (K, O) or None: it is mixed likewise and scaled with the output. The result is (B, O, H', W'), channels-last
    if the input is.

    Raises:
        ShapeError: the tensors do not fit together.

    Source: Li, Zhou, Yao 2022, ODConv, equation 3.
    """
    device = input.device.type
    # Autocast leaves float64 as it is, and so must this.
    if is_autocast(device) and input.dtype != torch.float64:
        input = input.to(torch.get_autocast_dtype(device))
    memory_format = format_of(is_channels_last(input))
    # Factors and mixed kernels keep their own precision until they meet the images.
    with without_autocast(device):
        geometry, input = _geometry(with_gradient_format(input, memory_format), weight, steps)
        output = _computation(geometry, scales)(input, weight, attention, scales, geometry)
        # Added after every other factor: a bias is scaled by those of the outputs alone.
        if bias is not None:
            mixed_BO = _mixed(bias, attention)
            if scales.outputs is not None:
                mixed_BO = mixed_BO * scales.outputs
            output = output + mixed_BO.to(output.dtype)[:, :, None, None]
        return output.contiguous(memory_format=memory_format)


def _geometry(input: Tensor, weight: Tensor, steps: Steps) -> tuple[Geometry, Tensor]:
    """Return the geometry with its padding in pixels, and the input with an odd pixel of padding added."""
    kernel_size = (weight.shape[3], weight.shape[4])
    input, padding = explicit_padding(input, steps.padding, kernel_size, steps.stride, steps.dilation)
    batch, channels, height, width = input.shape
    shape = batch, weight.shape[0], channels, weight.shape[1], (height, width), kernel_size
    return Geometry(*shape, steps.stride, padding, steps.dilation, steps.groups), input


def _computation(g: Geometry, scales: Scales) -> Callable[..., Tensor]:
    """Return the function that computes a convolution of this geometry in the least time.

    Maps are scaled before and after a convolution by kernels that are never written to memory. Factors of positions
    need the kernels, or the patches that these see: those of which there are fewer numbers, P for O. Measured forward
    and backward at T = 9, kernels took 1.0 times as long as patches at P = O = 64, 10 times at P = 16, O = 128, and a
    third at P = 784, O = 128.
    """
    if g.depthwise:
        return _depthwise
    if scales.positions is None:
        return _by_maps
    # A map whose size is left open has more pixels than a layer has outputs, as far as anybody knows.
    is_small = is_known(*g.input_size) and prod(g.output_size) <= g.out_channels
    return _by_patches if g.groups == 1 and is_small else _by_kernels


def _depthwise(input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, g: Geometry) -> Tensor:
    """Scale the kernels of a depthwise convolution by everything; a kernel is small."""
    # Tap by tap, the order in which the compiled kernels read.
    kernels_BTC = _mixed(weight.flatten(2).transpose(1, 2), attention)
    for factors, dim in ((scales.inputs, 1), (scales.outputs, 1), (scales.positions, 2)):
        if factors is not None:
            kernels_BTC = kernels_BTC * factors.unsqueeze(dim)
    kernels_BTC = kernels_BTC.expand(g.batch, -1, -1).to(input.dtype)
    folding = Folding(g.stride, g.padding, g.dilation, g.groups, 1)
    # Compiled kernels first. Folding needs the number of images; products do where an export leaves that open.
    has_images = not is_known(g.batch) or g.batch > 0
    if g.kernel_size[0] <= native.MOST_ROWS and has_images and operators.is_computed(input, kernels_BTC):
        return operators.convolve_each(input, kernels_BTC, g)
    if _is_foldable(g):
        return depthwise.each_by_torch(input, kernels_BTC, g.kernel_size, folding)
    return _by_products(input, kernels_BTC.transpose(1, 2)[:, :, None], g)


def _by_maps(input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, g: Geometry) -> Tensor:
    """Scale the maps before and after the convolution."""
    output = _unscaled(_scaled(input, scales.inputs), weight, attention, g)
    return _scaled(output, scales.outputs)


def _by_patches(input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, g: Geometry) -> Tensor:
    """Scale the patches that the kernels see, and multiply them as if each number were a channel; for one group."""
    # All positions of a channel lie side by side, as in the kernels that are flattened below.
    patches = F.unfold(input, g.kernel_size, g.dilation, g.padding, g.stride)  # (B, C T, P)
    assert scales.positions is not None
    factors_BCT = scales.positions[:, None, :]
    if scales.inputs is not None:
        factors_BCT = factors_BCT * scales.inputs[:, :, None]
    factors = factors_BCT.expand(-1, g.in_channels, -1).flatten(1)
    maps = _scaled(torch.unflatten(patches, 2, g.output_size), factors)
    size = g.output_size
    # Dilation stays as it is, since a 1 x 1 kernel has nothing to dilate.
    pointwise = g._replace(kernel_size=(1, 1), stride=(1, 1), padding=(0, 0), input_size=size)
    output = _unscaled(maps, weight.flatten(2)[:, :, :, None, None], attention, pointwise)
    return _scaled(output, scales.outputs)


def _by_kernels(input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, g: Geometry) -> Tensor:
    """Mix and scale the kernels of all images, and convolve each image with its own."""
    per_group = g.out_channels // g.groups
    kernels = _mixed(weight, attention).reshape(-1, g.groups, per_group, g.per_group, prod(g.kernel_size))
    factors = []
    if scales.positions is not None:
        factors.append(scales.positions[:, None, None, None, :])
    if scales.inputs is not None:
        factors.append(torch.unflatten(scales.inputs, 1, (g.groups, 1, g.per_group, 1)))
    if scales.outputs is not None:
        factors.append(torch.unflatten(scales.outputs, 1, (g.groups, per_group, 1, 1)))
    for factor in factors:
        kernels = kernels * factor
    kernels_BGOIT = kernels.expand(g.batch, -1, -1, -1, -1).to(input.dtype)
    if not _is_foldable(g):
        return _by_products(input, kernels_BGOIT, g)
    # Images are folded into the channels of one.
    flat = kernels_BGOIT.reshape(g.batch * g.out_channels, g.per_group, *g.kernel_size)
    folded = input.reshape(1, g.batch * g.in_channels, *g.input_size)
    output = F.conv2d(folded, flat, None, g.stride, g.padding, g.dilation, g.batch * g.groups)
    return output.reshape(g.batch, g.out_channels, *output.shape[2:])


def _by_products(input: Tensor, kernels_BGOIT: Tensor, g: Geometry) -> Tensor:
    """Multiply the patches of each image with its own kernels."""
    kernels = kernels_BGOIT.flatten(3)
    patches = F.unfold(input, g.kernel_size, g.dilation, g.padding, g.stride)
    maps = kernels @ torch.unflatten(patches, 1, (g.groups, kernels.shape[3]))
    return torch.unflatten(maps.flatten(1, 2), 2, g.output_size)


def _is_foldable(g: Geometry) -> bool:
    """Return True if images can be folded: a batch size that is left open cannot be a number of groups."""
    return is_known(g.batch) and g.batch > 0


def _mixed(shared: Tensor, attention: Tensor | None) -> Tensor:
    """Return (B, …) mixtures of (K, …) kernels or biases, or (1, …) if there is but one; in float32 at least."""
    shared = at_least_float32(shared)
    if attention is None:
        return shared
    return torch.unflatten(attention.to(shared.dtype) @ shared.flatten(1), 1, shared.shape[1:])


def _unscaled(input: Tensor, weight: Tensor, attention: Tensor | None, g: Geometry) -> Tensor:
    """Convolve without scaling: with the mixture of K kernels, or with the only one."""
    weight = weight.to(input.dtype)
    if attention is not None:
        return dynamic_conv2d(input, weight, attention, None, g.stride, g.padding, g.dilation, g.groups)
    return F.conv2d(input, weight[0], None, g.stride, g.padding, g.dilation, g.groups)


def _scaled(maps: Tensor, factors: Tensor | None) -> Tensor:
    """Return (B, C, H, W) maps times (B, C) factors, in the dtype of the maps."""
    if factors is None:
        return maps
    return maps * factors.to(maps.dtype)[:, :, None, None]
