"""This module defines the two forms of a convolution with constant weights that is mixed from K kernels.

"branches" convolves with all K kernels and mixes their maps: K times the work of a static convolution, by weights that
a quantiser sees. "matmul" mixes the kernels and multiplies patches of the image by the mixture: about the work of one
convolution, where the mixed kernels are activations. Both are exact: convolution is linear in its kernel.

Dimensions: B images, C input and O output channels, G groups, I = C / G, K kernels, T positions of a kernel,
H' x W' = P output pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dyconv.deployment.windows import Padding, Patches, Windows, constant

Form = Literal["branches", "matmul"]


@dataclass(frozen=True)
class Scales:
    """The factors of each image: of its input channels (B, C), kernel positions (B, T), output channels (B, O)."""

    inputs: Tensor | None = None
    positions: Tensor | None = None
    outputs: Tensor | None = None


NO_SCALES = Scales()


class Branches(nn.Module):
    """Convolves with K kernels as one convolution of K O output channels, and mixes the maps.

    `weight` is (K, O, I, h, w), `bias` (K, O) or None. With `by_position`, factors of kernel positions are applied to
    patches of the image, which a 1 x 1 convolution multiplies.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, windows: Windows, *, by_position: bool = False) -> None:
        super().__init__()
        self.groups = windows.groups
        self.mixing = Mixing(windows.groups, weight.shape[0])
        self.in_channels = weight.shape[2] * windows.groups
        # A group of a convolution has its output channels side by side, here those of all K kernels.
        by_group = torch.unflatten(weight, 1, (self.groups, -1)).transpose(0, 1).flatten(0, 2)
        flat_bias = None
        if bias is not None:
            flat_bias = torch.unflatten(bias, 1, (self.groups, -1)).transpose(0, 1).flatten()
        if by_position:
            self.gather: nn.Module = Patches(self.in_channels, windows, weight)
            pointwise = Windows((1, 1), (1, 1), (0, 0), (1, 1), "zeros", windows.groups)
            self.branches = pointwise.constant_convolution(by_group.flatten(1)[:, :, None, None], flat_bias)
        else:
            self.gather = Padding(windows)
            self.branches = windows.constant_convolution(by_group, flat_bias)

    def forward(self, input: Tensor, mixture: Tensor | None, scales: Scales = NO_SCALES) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images with (B, K) weights; None for one kernel."""
        if scales.inputs is not None:
            input = input * as_map(scales.inputs, input)
        maps: Tensor = self.gather(input)
        if scales.positions is not None:
            maps = maps * as_map(scales.positions.repeat(1, self.in_channels), maps)
        maps = self.branches(maps)
        if mixture is not None:
            maps = self.mixing(maps, mixture)
        if scales.outputs is not None:
            maps = maps * as_map(scales.outputs, maps)
        return maps


class MixedKernels(nn.Module):
    """Mixes K kernels into one per image and multiplies the patches of the image by it.

    `weight` is (K, O, I, h, w), `bias` (K, O) or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, windows: Windows) -> None:
        super().__init__()
        self.groups = windows.groups
        self.shape = (self.groups, weight.shape[1] // self.groups, weight.shape[2], windows.positions)
        self.weight = constant(weight.flatten(1))
        self.bias = None if bias is None else constant(bias)
        self.patches = Patches(weight.shape[2] * self.groups, windows, weight)

    def forward(self, input: Tensor, mixture: Tensor | None, scales: Scales = NO_SCALES) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images with (B, K) weights; None for one kernel."""
        groups, outputs, inputs, _ = self.shape
        kernels = torch.unflatten(self._mixed(self.weight, mixture), 1, self.shape)
        if scales.positions is not None:
            kernels = kernels * scales.positions.to(kernels.dtype)[:, None, None, None, :]
        if scales.inputs is not None:
            kernels = kernels * torch.unflatten(scales.inputs.to(kernels.dtype), 1, (groups, 1, inputs, 1))
        if scales.outputs is not None:
            kernels = kernels * torch.unflatten(scales.outputs.to(kernels.dtype), 1, (groups, outputs, 1, 1))
        patches = self.patches(input)
        columns = torch.unflatten(patches.flatten(2), 1, (groups, -1))
        maps = (kernels.flatten(3) @ columns).flatten(1, 2)
        if self.bias is not None:
            bias = self._mixed(self.bias, mixture)
            if scales.outputs is not None:
                bias = bias * scales.outputs.to(bias.dtype)
            maps = maps + bias[:, :, None]
        return torch.unflatten(maps, 2, patches.shape[2:])

    def _mixed(self, shared: Tensor, mixture: Tensor | None) -> Tensor:
        """Return the (B, N) mixtures of (K, N) numbers; (1, N) where there is one kernel."""
        if mixture is None:
            return shared
        return mixture.to(shared.dtype) @ shared


class Mixing(nn.Module):
    """Mixes the maps of K kernels with the weights of each image. A module, so that a quantiser can see its inputs."""

    def __init__(self, groups: int, num_kernels: int) -> None:
        super().__init__()
        self.groups, self.num_kernels = groups, num_kernels

    def forward(self, maps: Tensor, mixture: Tensor) -> Tensor:
        """Return the (B, O, H', W') mixtures of (B, G K O / G, H', W') maps with (B, K) weights."""
        size = maps.shape[2:]
        by_kernel = torch.unflatten(maps, 1, (self.groups, self.num_kernels, -1))
        # As a product of matrices, which runtimes do in one pass over the maps.
        mixed = mixture.to(maps.dtype)[:, None, None, :] @ by_kernel.flatten(3)
        return torch.unflatten(mixed[:, :, 0], 2, (-1, *size)).flatten(1, 2)


def as_map(factors: Tensor, maps: Tensor) -> Tensor:
    """Return (B, C) factors as (B, C, 1, 1) in the dtype of the maps."""
    return factors.to(maps.dtype)[:, :, None, None]
