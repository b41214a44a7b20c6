"""This module defines the windows of a convolution: which pixels its kernels read, and how they are gathered.

Sizes of maps may be open: what depends on them is computed from shapes, in operators that an exporter can write down.

Dimensions: B images, C channels, G groups, I = C / G, T = h w positions of a kernel, H' x W' output pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.kernels.geometry import Pair
from dyconv.layers.convolution import ConvolutionLayer


@dataclass(frozen=True)
class Windows:
    """The geometry of a convolution, in the terms of `nn.Conv2d`, with TensorFlow's padding "tf_same" as well."""

    kernel_size: Pair
    stride: Pair
    padding: Pair | str
    dilation: Pair
    padding_mode: str
    groups: int

    @classmethod
    def of(cls, layer: ConvolutionLayer) -> Windows:
        """Return the windows of a layer."""
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return cls(*geometry, layer.padding_mode, layer.groups)

    @property
    def positions(self) -> int:
        """The number of pixels that a kernel reads, T."""
        return prod(self.kernel_size)

    @property
    def reach(self) -> Pair:
        """The rows and columns that a kernel spans beyond its first."""
        rows, columns = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
        return rows, columns

    def of_groups(self, groups: int) -> Windows:
        """Return the same windows for another number of groups."""
        return replace(self, groups=groups)

    def constant_convolution(self, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
        """Return an `nn.Conv2d` with (O, I, h, w) weights and (O,) biases, for images that `Padding` has padded."""
        own_padding = _own_padding(self)
        return constant_conv2d(weight, bias, self.stride, own_padding or (0, 0), self.dilation, self.groups)


def _own_padding(windows: Windows) -> Pair | None:
    """Return the zeros that a convolution can add itself on both sides; None if its padding is of another form."""
    if windows.padding in ("valid", (0, 0)):
        return 0, 0
    if windows.padding_mode != "zeros":
        return None
    if not isinstance(windows.padding, str):
        return windows.padding
    rows, columns = windows.reach
    # With stride 1 the image keeps its size by as many zeros as the kernel reaches, whatever that size is.
    if windows.stride == (1, 1) and rows % 2 == 0 and columns % 2 == 0:
        return rows // 2, columns // 2
    return None


class Padding(nn.Module):
    """Pads images where a convolution cannot do so itself: by other pixels than zeros, or by an odd number of them."""

    def __init__(self, windows: Windows) -> None:
        super().__init__()
        self.windows = windows
        self.mode = "constant" if windows.padding_mode == "zeros" else windows.padding_mode
        self.is_needed = _own_padding(windows) is None

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C, H, W) images with their padding, if a convolution leaves it to this module."""
        if not self.is_needed:
            return input
        rows, columns = (self._sides(input, axis) for axis in (0, 1))
        return F.pad(input, (*columns, *rows), mode=self.mode)

    def _sides(self, input: Tensor, axis: int) -> Pair:
        """Return the pixels before and after the image along its rows (axis 0) or columns (axis 1)."""
        if not isinstance(self.windows.padding, str):
            pixels = self.windows.padding[axis]
            return pixels, pixels
        reach, stride = self.windows.reach[axis], self.windows.stride[axis]
        total = reach
        if stride > 1:
            # TensorFlow's rule: ceil(n / s) pixels out. Of positive numbers, since a runtime may round towards zero.
            size = input.shape[axis - 2]
            total = (size + stride - 1) // stride * stride - stride + reach + 1 - size
        if stride > reach + 1:
            # `max` would fix a size that is left open.
            total = cast(int, torch.sym_max(0, total))
        return total // 2, total - total // 2


class Patches(nn.Module):
    """Gathers the pixels that each window sees: (B, C, H, W) to (B, C T, H', W'), the positions of a channel together.

    Larger kernels are gathered by a convolution with ones and zeros, which is exact. Runtimes have a fast convolution;
    what exporters make of `F.unfold` took them 10 to 40 times as long.
    """

    def __init__(self, in_channels: int, windows: Windows, like: Tensor) -> None:
        super().__init__()
        self.padding = Padding(windows)
        self.stride = windows.stride
        self.gather: nn.Conv2d | None = None
        if windows.positions > 1 or _own_padding(windows) not in (None, (0, 0)):
            one_hot = torch.eye(windows.positions, device=like.device, dtype=like.dtype)
            weight = one_hot.reshape(windows.positions, 1, *windows.kernel_size).repeat(in_channels, 1, 1, 1)
            self.gather = windows.of_groups(in_channels).constant_convolution(weight, None)

    def forward(self, input: Tensor) -> Tensor:
        """Return the patches of images, one number per channel and position."""
        input = self.padding(input)
        if self.gather is not None:
            return self.gather(input)  # type: ignore[no-any-return]
        if self.stride != (1, 1):
            # Every s-th pixel. A slice has the same size, but an exporter that keeps it open could not tell.
            input = F.max_pool2d(input, 1, self.stride)
        return input


def constant_conv2d(
    weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> nn.Conv2d:
    """Return an `nn.Conv2d` that holds these (O, I, h, w) weights and (O,) biases."""
    out_channels, per_group, height, width = weight.shape
    geometry = (per_group * groups, out_channels, (height, width), stride, padding, dilation, groups, bias is not None)
    # On this device the first weights cost neither memory nor random numbers.
    convolution = nn.Conv2d(*geometry, device="meta")
    _hold(convolution, weight, bias)
    return convolution


def constant_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return an `nn.Linear` that holds this (O, I) weight and (O,) bias."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    _hold(linear, weight, bias)
    return linear


def constant(tensor: Tensor) -> nn.Parameter:
    """Return a copy of a tensor as a parameter that is not trained."""
    return nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format), requires_grad=False)


def _hold(module: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    module.weight = constant(weight)
    if bias is not None:
        module.bias = constant(bias)
