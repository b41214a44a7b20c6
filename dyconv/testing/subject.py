"""This module builds the layers that are checked: one kind in several geometries, always with the same numbers.

Dimensions: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from dyconv.aggregation import BeginForwardPass, ForwardPass
from dyconv.base import set_temperature
from dyconv.functional import IntOrPair
from dyconv.layers import ConvolutionLayer
from dyconv.randomness import seeded

_BATCH, _HEIGHT, _WIDTH = 5, 9, 8
"""Another number of images than there usually are kernels, and an odd and an even number of pixels."""
_SPREAD = 0.1
"""The standard deviation of what is added to the parameters of attention: a new branch may give all images the same."""


@dataclass(frozen=True)
class Geometry:
    """The arguments of `nn.Conv2d`, in its order."""

    in_channels: int
    out_channels: int
    kernel_size: IntOrPair
    stride: IntOrPair = 1
    padding: IntOrPair | str = 0
    dilation: IntOrPair = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"

    def arguments(self) -> tuple[Any, ...]:
        channels = (self.in_channels, self.out_channels)
        steps = (self.kernel_size, self.stride, self.padding, self.dilation)
        return (*channels, *steps, self.groups, self.bias, self.padding_mode)

    def static(self) -> nn.Conv2d:
        """Return a new static layer of this geometry."""
        return nn.Conv2d(*self.arguments())


GEOMETRIES: Mapping[str, Geometry] = {
    "1x1": Geometry(16, 24, 1),
    "1x1 without bias": Geometry(16, 24, 1, bias=False),
    "3x3": Geometry(16, 24, 3, padding=1),
    "3x3 with stride 2 without bias": Geometry(16, 24, 3, 2, 1, bias=False),
    "3x3 with dilation 2, padded 'same'": Geometry(16, 16, 3, 1, "same", 2),
    "3x1 with padding of its own": Geometry(16, 16, (3, 1), (2, 1), (1, 0), padding_mode="reflect"),
    "depthwise 3x3": Geometry(16, 16, 3, 1, 1, groups=16),
    "depthwise 3x3 with stride 2 without bias": Geometry(16, 16, 3, 2, 1, groups=16, bias=False),
    "3x3 in 2 groups": Geometry(16, 24, 3, 1, 1, groups=2),
    "3x3 in 2 groups with dilation 2 without bias": Geometry(16, 24, 3, 1, 2, 2, groups=2, bias=False),
}
"""The geometries of the checks: dense, depthwise and grouped layers, with and without bias, stride and dilation."""


@dataclass(frozen=True)
class Subject:
    """A layer kind in one geometry.

    `keywords` are the settings of the class, `takes` the names of all its keywords. `mixes` is true if the layer is
    known to compute sum_k pi_k conv(x, W_k) with its `attention`.
    """

    layer: type[ConvolutionLayer]
    geometry: Geometry
    keywords: Mapping[str, Any]
    takes: frozenset[str]
    mixes: bool
    images: Tensor = field(init=False)

    def __post_init__(self) -> None:
        with seeded(0, "images of a layer check"):
            pixels = torch.randn(_BATCH, self.geometry.in_channels, _HEIGHT, _WIDTH)
            # Averages that differ from image to image, so that their attention does.
            offsets = 2 * torch.randn(_BATCH, self.geometry.in_channels, 1, 1)
        # A frozen dataclass is filled this way.
        object.__setattr__(self, "images", pixels + offsets)

    @property
    def size(self) -> tuple[int, int, int]:
        """The size (C, H, W) of one image."""
        return (self.geometry.in_channels, _HEIGHT, _WIDTH)

    def build(self, seed: int = 0, **keywords: Any) -> ConvolutionLayer:
        """Return a new layer in evaluation mode, as its class draws it from a seed; `keywords` change its settings."""
        # Which keywords a class takes depends on the class.
        build: Callable[..., ConvolutionLayer] = self.layer
        with seeded(seed, "a layer check"):
            return build(*self.geometry.arguments(), **{**self.keywords, **keywords}).eval()

    def network(self, seed: int = 0, **keywords: Any) -> nn.Sequential:
        """Return a new network of one layer, in evaluation mode, whose attention differs from image to image.

        A softmax has the temperature 1. Two networks of one seed have the same numbers.
        """
        layer = self.build(seed, **keywords)
        kernels = {id(layer.weight), id(layer.bias)}
        with seeded(seed, "attention of a layer check"), torch.no_grad():
            for parameter in layer.parameters():
                if id(parameter) not in kernels and parameter.requires_grad:
                    parameter.add_(_SPREAD * torch.randn(parameter.shape))
        network = nn.Sequential(layer)
        forward_pass = ForwardPass()
        layer.draw_from(forward_pass, "0")
        # The same steps as in a conversion.
        self.layer.connect(network, {"0": layer})
        network.register_forward_pre_hook(BeginForwardPass(forward_pass))
        # A setting that is under test, such as a temperature, stays as it was given.
        if not keywords:
            set_temperature(network, 1.0)
        return network.eval()


def layer_of(network: nn.Sequential) -> ConvolutionLayer:
    """Return the one layer of a network."""
    return cast(ConvolutionLayer, network[0])


def run(network: nn.Module, images: Tensor) -> Tensor:
    """Return the output of a network on (B, C, H, W) images, without a gradient."""
    with torch.no_grad():
        output: Tensor = network(images)
    return output


class InapplicableError(Exception):
    """A check does not apply to a layer; the message says why."""


def difference(result: Tensor, expected: Tensor) -> float:
    """Return the largest difference of two tensors, as a share of the largest expected number; NaN if one is NaN."""
    if expected.numel() == 0:
        return 0.0
    scale = float(expected.double().abs().max())
    # Two tensors of zeros do not differ.
    largest = float((result.double() - expected.double()).abs().max())
    return largest / scale if scale else largest


def unlike(result: Tensor, expected: Tensor, tolerance: float) -> str:
    """Return a phrase on the difference of two tensors that are not alike, or an empty text.

    They are alike if they have one shape and differ by at most `tolerance`, a share of the largest expected number.
    """
    if result.shape != expected.shape:
        return f"has shape {tuple(result.shape)} instead of {tuple(expected.shape)}"
    share = difference(result, expected)
    # A NaN is not within any tolerance.
    if share <= tolerance:
        return ""
    return f"differs by {share:.2g} of the largest number, expected at most {tolerance:g}"
