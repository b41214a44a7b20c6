"""This module describes the convolutions and dynamic layers of a network: name, role, input resolution, depth.

`placement` selects by these. Describing a network runs it once at most and leaves no trace in it: training mode,
batch-norm statistics, the global generator and the count of forward passes are as before.

Roles are the paper's words for the convolutions of a block. They follow from the position of a convolution (next to a
depthwise one, under an attribute of a residual block), not from the class of the network. So networks of torchvision,
of timm and of a user are read alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from dyconv.base import DynamicLayer, dynamic_layers
from dyconv.errors import ShapeError
from dyconv.layers import ConvolutionLayer, DynamicLinear
from dyconv.networks.gates import gate_layers

RoleName = Literal[
    "stem",
    "head",
    "expansion",
    "depthwise",
    "projection",
    "conv1",
    "conv2",
    "conv3",
    "downsample",
    "squeeze_excitation",
    "other",
]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

Convolution = nn.Conv2d | ConvolutionLayer

_RESIDUAL: tuple[RoleName, ...] = ("conv1", "conv2", "conv3")


def convolutions(model: nn.Module) -> dict[str, Convolution]:
    """Return the 2-d convolutions of `model` by name, static and dynamic, in the order of their definition."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Convolution)}


def find_roles(model: nn.Module) -> dict[str, RoleName]:
    """Return the role of each 2-d convolution of `model`, by name.

    The first convolution is the stem; a last 1 x 1 convolution outside any block is the head. In a block with one
    depthwise convolution, a 1 x 1 before it is the expansion and after it the projection. In a residual block,
    attribute names decide. Convolutions of squeeze-and-excitation gates have a role of their own, found by behaviour.
    """
    layers = convolutions(model)
    gates = gate_layers(model, layers)
    roles: dict[str, RoleName] = {}
    for name, layer in layers.items():
        if name in gates:
            roles[name] = "squeeze_excitation"
        else:
            roles[name] = "depthwise" if _is_depthwise(layer) else _role_by_name(name)
    for name in [n for n, role in roles.items() if role == "depthwise"]:
        _mark_neighbours(name, layers, roles)
    # After the neighbours: the head takes only a role that is left over, the stem overrides any.
    names = list(layers)
    if names and roles[names[-1]] == "other" and _is_pointwise(layers[names[-1]]):
        roles[names[-1]] = "head"
    if names:
        roles[names[0]] = "stem"
    return roles


def _is_depthwise(layer: Convolution) -> bool:
    return layer.groups == layer.in_channels > 1


def _is_pointwise(layer: Convolution) -> bool:
    return layer.kernel_size == (1, 1) and layer.groups == 1


def _role_by_name(name: str) -> RoleName:
    """Return the role by the attribute names on the path to a convolution, or 'other'."""
    attributes = name.split(".")
    if "downsample" in attributes or "shortcut" in attributes:
        return "downsample"
    if len(attributes) > 1 and attributes[-1] in _RESIDUAL:
        return _RESIDUAL[_RESIDUAL.index(attributes[-1])]
    return "other"


def _mark_neighbours(depthwise: str, layers: Mapping[str, Convolution], roles: dict[str, RoleName]) -> None:
    """Name the 1 x 1 convolutions around a depthwise one, if their smallest common module has no second one."""
    block = _block_around(depthwise, [n for n in layers if roles[n] != "squeeze_excitation"])
    if sum(roles[name] == "depthwise" for name in block) != 1:
        return
    # In the order of definition: pointwise layers before the depthwise one expand, those after it project.
    position = block.index(depthwise)
    for i, name in enumerate(block):
        if roles[name] == "other" and _is_pointwise(layers[name]):
            roles[name] = "expansion" if i < position else "projection"


def _block_around(name: str, names: list[str]) -> list[str]:
    """Return the convolutions in the smallest module that holds `name` and at least one more."""
    attributes = name.split(".")
    for depth in range(len(attributes) - 1, 0, -1):
        prefix = ".".join(attributes[:depth]) + "."
        block = [n for n in names if n.startswith(prefix)]
        if len(block) > 1:
            return block
    return [name]


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
        pixels = "" if self.input_size is None else f", input {self.input_size[0]}x{self.input_size[1]}"
        shape = f"{self.in_channels}->{self.out_channels} {self.kernel_size[0]}x{self.kernel_size[1]}"
        return f"{self.name}: {self.role}, {shape}{pixels}, depth {self.depth:.2f}"


def describe_layers(model: nn.Module, input_size: tuple[int, int, int] | None = None) -> list[LayerInfo]:
    """Return a description of each 2-d convolution and dynamic linear layer of `model`, in the order of definition.

    With `input_size` (C, H, W) of one image, the network runs once on zeros, in evaluation mode and without
    gradient, to learn each convolution's input resolution.

    Raises:
        ShapeError: the network cannot run on an image of this size.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Described)}
    roles = find_roles(model)
    sizes = {} if input_size is None else _measure(model, layers, input_size)
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
    return LayerInfo(
        name=name,
        role=role,
        resolution=None if size is None else size[0],
        depth=depth,
        dynamic=isinstance(layer, DynamicLayer),
        input_size=size,
        **shape,
    )


def _measure(model: nn.Module, layers: dict[str, Described], input_size: tuple[int, int, int]) -> dict[str, Size]:
    """Run `model` once on a pair of zero images and return the input size of each layer that was reached."""
    sizes: dict[str, Size] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            pixels = (1, 1) if isinstance(module, DynamicLinear) else (args[0].shape[-2], args[0].shape[-1])
            # The first call counts for a layer that is called several times.
            sizes.setdefault(name, pixels)

        return hook

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(note(name)).remove)
        run_on_zeros(model, input_size)
    return sizes


def run_on_zeros(model: nn.Module, input_size: tuple[int, int, int]) -> None:
    """Run `model` once on a pair of zero images of `input_size` (C, H, W), without a trace in it.

    Two images, because a strategy that shuffles across images needs a second one.

    Raises:
        ShapeError: the network cannot run on an image of this size.
    """
    images = zero_images(model, input_size, 2)
    with undisturbed(model):
        try:
            model(images)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ShapeError(f"the network does not run on images of input_size={input_size}: {error}") from error


def zero_images(model: nn.Module, input_size: tuple[int, int, int], batch: int) -> torch.Tensor:
    """Return (B, C, H, W) zeros of the dtype and on the device of the parameters of `model`.

    Raises:
        ShapeError: `input_size` is not three positive numbers.
    """
    if len(input_size) != 3 or any(n < 1 for n in input_size):
        raise ShapeError(f"input_size must be (C, H, W) of one image, all positive, got {input_size!r}")
    like = next(model.parameters(), torch.zeros(()))
    return torch.zeros(batch, *input_size, device=like.device, dtype=like.dtype)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode without gradient; restore mode, random state and pass counts at the end."""
    training = [(module, module.training) for module in model.modules()]
    # A set: usually all layers share one count.
    passes = {layer.aggregator.context.forward_pass for _, layer in dynamic_layers(model)}
    counts = [(p, p.step, p.next_step) for p in passes]
    try:
        # In evaluation mode batch norms keep their statistics; a layer of a plug-in may still draw.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()
            yield
    finally:
        for module, mode in training:
            module.training = mode
        for forward_pass, step, next_step in counts:
            forward_pass.step, forward_pass.next_step = step, next_step
