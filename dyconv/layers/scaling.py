"""This module convolves with one kernel per image, whose channels and positions are scaled for that image.

Scaling the images costs passes over their maps, scaling the kernels one kernel per image. Which is done depends on the
sizes of both. The K kernels of a layer are mixed in `functional` where possible, else here.

Dimensions: B images, C input and O output channels, G groups, I = C / G, K kernels of h x w, T = h w positions,
P output pixels.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.functional import IntOrPair, dynamic_conv2d, explicit_padding
from dyconv.kernels import depthwise, native
from dyconv.kernels.folding import Folding, format_of, is_channels_last
from dyconv.kernels.geometry import Geometry, Pair
from dyconv.kernels.tracing import is_autocast, without_autocast


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
    if is_autocast(device) and input.dtype != torch.float64:
        input = input.to(torch.get_autocast_dtype(device))
    # Factors and mixtures keep their own precision until they meet the images.
    with without_autocast(device):
        memory_format = format_of(is_channels_last(input))
        geometry, input = _geometry(input, weight, steps)
        if _scales_kernels(geometry, scales):
            output = _by_kernels(input, weight, attention, scales, geometry)
        elif scales.positions is None:
            output = _by_maps(input, weight, attention, scales, geometry)
        else:
            output = _by_patches(input, weight, attention, scales, geometry)
        if bias is not None:
            mixed = bias if attention is None else attention.to(bias.dtype) @ bias
            if scales.outputs is not None:
                mixed = mixed * scales.outputs
            output = output + mixed.to(output.dtype)[:, :, None, None]
        return output.contiguous(memory_format=memory_format)


def _geometry(input: Tensor, weight: Tensor, steps: Steps) -> tuple[Geometry, Tensor]:
    """Return the geometry with its padding in pixels, and the input with an odd pixel of padding added."""
    kernel_size = (weight.shape[3], weight.shape[4])
    input, padding = explicit_padding(input, steps.padding, kernel_size, steps.stride, steps.dilation)
    batch, channels, height, width = input.shape
    shape = batch, weight.shape[0], channels, weight.shape[1], (height, width), kernel_size
    return Geometry(*shape, steps.stride, padding, steps.dilation, steps.groups), input


def _scales_kernels(g: Geometry, scales: Scales) -> bool:
    """Return True if kernels are scaled, False if maps or patches are."""
    if g.groups > 1:
        return True
    maps = g.in_channels * prod(g.kernel_size) * prod(g.output_size)
    return scales.positions is not None and g.kernel_elements <= maps


def _by_maps(input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, g: Geometry) -> Tensor:
    """Scale the maps before and after the convolution."""
    if scales.inputs is not None:
        input = input * _over_pixels(scales.inputs, input)
    output = _mixed(input, weight, attention, g)
    return output if scales.outputs is None else output * _over_pixels(scales.outputs, output)


def _by_patches(input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, g: Geometry) -> Tensor:
    """Scale the patches that the kernels see, and multiply them as if each number were a channel; for one group."""
    patches = F.unfold(input, g.kernel_size, g.dilation, g.padding, g.stride)  # (B, C T, P)
    assert scales.positions is not None
    factors_BCT = scales.positions[:, None, :]
    if scales.inputs is not None:
        factors_BCT = factors_BCT * scales.inputs[:, :, None]
    factors_BJ = factors_BCT.expand(-1, g.in_channels, -1).flatten(1)
    patches = patches * factors_BJ.to(patches.dtype)[:, :, None]
    maps = torch.unflatten(patches, 2, g.output_size)
    channels = maps.shape[1]
    as_pointwise = g._replace(
        in_channels=channels, input_size=g.output_size, kernel_size=(1, 1), stride=(1, 1), padding=(0, 0)
    )
    output = _mixed(maps, weight.flatten(2)[:, :, :, None, None], attention, as_pointwise)
    return output if scales.outputs is None else output * _over_pixels(scales.outputs, output)


def _by_kernels(input: Tensor, weight: Tensor, attention: Tensor | None, scales: Scales, g: Geometry) -> Tensor:
    """Mix and scale the kernels of all images, and convolve each image with its own."""
    per_group = g.out_channels // g.groups
    kernels = weight if attention is None else attention.to(weight.dtype) @ weight.flatten(1)
    kernels = kernels.reshape(-1, g.groups, per_group, g.per_group, prod(g.kernel_size))
    # Small factors meet each other first: in a depthwise layer, all of them are as small as a kernel.
    factors = []
    if scales.positions is not None:
        factors.append(scales.positions[:, None, None, None, :])
    if scales.inputs is not None:
        factors.append(scales.inputs.unflatten(1, (g.groups, 1, g.per_group, 1)))
    if scales.outputs is not None:
        factors.append(scales.outputs.unflatten(1, (g.groups, per_group, 1, 1)))
    for factor in factors:
        kernels = kernels * factor.to(kernels.dtype)
    kernels = kernels.expand(g.batch, -1, -1, -1, -1).to(input.dtype)
    return _each(input, kernels, g)


def _each(input: Tensor, kernels_BGOIT: Tensor, g: Geometry) -> Tensor:
    """Convolve image b with its own kernels."""
    kernels = kernels_BGOIT.reshape(g.batch, g.out_channels, g.per_group, *g.kernel_size)
    if g.depthwise and g.kernel_size[0] <= native.MOST_ROWS and native.can_read(input, kernels):
        folding = Folding(g.stride, g.padding, g.dilation, g.groups, 1)
        return depthwise.convolve_each(input, kernels, depthwise.Direct(folding, g.output_size))
    # A batch size that is left open cannot be a number of groups.
    if not isinstance(g.batch, int) or g.batch == 0:
        patches = F.unfold(input, g.kernel_size, g.dilation, g.padding, g.stride)
        by_group = torch.unflatten(patches, 1, (g.groups, g.per_group * prod(g.kernel_size)))
        maps = kernels_BGOIT.flatten(3) @ by_group
        return torch.unflatten(maps.flatten(1, 2), 2, g.output_size)
    folded = input.reshape(1, g.batch * g.in_channels, *g.input_size)
    groups = g.batch * g.groups
    output = F.conv2d(folded, kernels.flatten(0, 1), None, g.stride, g.padding, g.dilation, groups)
    return output.reshape(g.batch, g.out_channels, *output.shape[2:])


def _mixed(input: Tensor, weight: Tensor, attention: Tensor | None, g: Geometry) -> Tensor:
    """Convolve without scaling: with the mixture of K kernels, or with the only one."""
    if attention is None:
        return F.conv2d(input, weight[0], None, g.stride, g.padding, g.dilation, g.groups)
    return dynamic_conv2d(input, weight, attention, None, g.stride, g.padding, g.dilation, g.groups)


def _over_pixels(scales: Tensor, maps: Tensor) -> Tensor:
    """Return (B, C) factors of maps, in their dtype."""
    return scales.to(maps.dtype)[:, :, None, None]
