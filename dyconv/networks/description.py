"""This module describes the convolutions and dynamic layers of a network: name, role, input resolution, depth.

`placement` selects by these. Describing a network runs it once at most and leaves no trace in it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dyconv.base import DynamicLayer, outermost
from dyconv.layers import Convolution, ConvolutionLayer, DynamicLinear
from dyconv.networks.dry_run import run_on_zeros
from dyconv.networks.roles import RoleName, find_roles

Size = tuple[int, int]
# Convolutions of any kind, and the only linear layer that a placement can select: a dynamic one.
Described = Convolution | DynamicLinear


@dataclass(frozen=True)
class LayerInfo:
    """One 2-d convolution of a network, or a dynamic linear layer, which counts as 1 x 1 on one pixel.

    `name` is its path among the modules, `role` its function in its block, `resolution` the height of its input in
    pixels and `input_size` its height and width (None if not measured), `depth` its position among the convolutions
    from 0 (first) to 1 (last), `dynamic` whether it is a dynamic layer.
    """

    name: str
    role: RoleName
    resolution: int | None
    depth: float
    dynamic: bool
    in_channels: int
    out_channels: int
    kernel_size: Size
    stride: Size
    groups: int
    input_size: Size | None = None

    def __str__(self) -> str:
        pixels = ""
        if self.input_size is not None:
            pixels = f", input {self.input_size[0]}x{self.input_size[1]}"
        shape = f"{self.in_channels}->{self.out_channels} {self.kernel_size[0]}x{self.kernel_size[1]}"
        return f"{self.name}: {self.role}, {shape}{pixels}, depth {self.depth:.2f}"


def describe_layers(model: nn.Module, input_size: tuple[int, int, int] | None = None) -> list[LayerInfo]:
    """Return a description of each 2-d convolution and dynamic linear layer of `model`, in the order of definition.

    With `input_size` (C, H, W) of one image, the network runs once on zeros, in evaluation mode and without
    gradient, to learn each convolution's input resolution.

    Raises:
        ShapeError: the network cannot run on an image of this size.
    """
    # Not the convolutions inside a dynamic layer, such as those of an attention branch: they are parts of that.
    layers: dict[str, Described] = dict(outermost(model, (nn.Conv2d, ConvolutionLayer, DynamicLinear), "", set()))
    roles = find_roles(model)
    sizes: dict[str, Size] = {}
    if input_size is not None:
        sizes = _measure(model, layers, input_size)
    # At least one, for a network of a single layer, which has depth 0.
    last_index = max(1, len(layers) - 1)
    return [
        _describe(name, layer, roles.get(name, "other"), i / last_index, sizes.get(name))
        for i, (name, layer) in enumerate(layers.items())
    ]


def _describe(name: str, layer: Described, role: RoleName, depth: float, size: Size | None) -> LayerInfo:
    shape: dict[str, Any]
    if isinstance(layer, DynamicLinear):
        shape = {"in_channels": layer.in_features, "out_channels": layer.out_features, "groups": 1}
        shape |= {"kernel_size": (1, 1), "stride": (1, 1)}
    else:
        shape = {"in_channels": layer.in_channels, "out_channels": layer.out_channels, "groups": layer.groups}
        shape |= {"kernel_size": tuple(layer.kernel_size), "stride": tuple(layer.stride)}
    height = None if size is None else size[0]
    return LayerInfo(
        name=name,
        role=role,
        resolution=height,
        depth=depth,
        dynamic=isinstance(layer, DynamicLayer),
        input_size=size,
        **shape,
    )


def _measure(model: nn.Module, layers: dict[str, Described], input_size: tuple[int, int, int]) -> dict[str, Size]:
    """Run `model` once on a pair of zero images and return the input size of each layer that was reached."""
    sizes: dict[str, Size] = {}

    def recorder(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            height, width = (1, 1) if isinstance(module, DynamicLinear) else args[0].shape[-2:]
            # The first call counts for a layer that is called several times.
            sizes.setdefault(name, (height, width))

        return hook

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(recorder(name)).remove)
        run_on_zeros(model, input_size)
    return sizes
