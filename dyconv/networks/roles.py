"""What part each convolution plays in its network, read off the structure around it.

Roles are the paper's words for the convolutions of a block; they are found by where a convolution stands (next
to a depthwise one, under which attribute of a residual block), not by a network's class, so that torchvision's,
timm's and a user's own networks are read alike. Used by `placement` only.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from dyconv.layers import ConvolutionLayer
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
    attribute names decide. Convolutions of squeeze-and-excitation gates are a role of their own, told by what they do.
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
    """The role that the attributes on the way to a convolution tell, or 'other'."""
    parts = name.split(".")
    if "downsample" in parts or "shortcut" in parts:
        return "downsample"
    if len(parts) > 1 and parts[-1] in _RESIDUAL:
        return _RESIDUAL[_RESIDUAL.index(parts[-1])]
    return "other"


def _mark_neighbours(depthwise: str, layers: Mapping[str, Convolution], roles: dict[str, RoleName]) -> None:
    """Name the 1 x 1 convolutions around a depthwise one, if their smallest common module has no second one."""
    block = _block_around(depthwise, [n for n in layers if roles[n] != "squeeze_excitation"])
    if sum(roles[name] == "depthwise" for name in block) != 1:
        return
    position = block.index(depthwise)
    for i, name in enumerate(block):
        if roles[name] == "other" and _is_pointwise(layers[name]):
            roles[name] = "expansion" if i < position else "projection"


def _block_around(name: str, names: list[str]) -> list[str]:
    """The convolutions in the smallest module that holds `name` and at least one other."""
    parts = name.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        prefix = ".".join(parts[:depth]) + "."
        block = [n for n in names if n.startswith(prefix)]
        if len(block) > 1:
            return block
    return [name]
