"""This module gives each convolution of a network its role: the paper's word for its function in a block.

Roles follow from the position of a convolution (next to a depthwise one, under an attribute of a residual block), not
from the class of the network. So networks of torchvision, of timm and of a user are read alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from dyconv.base import outermost
from dyconv.layers import Convolution, ConvolutionLayer
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

_RESIDUAL: tuple[RoleName, ...] = ("conv1", "conv2", "conv3")


def convolutions(model: nn.Module) -> dict[str, Convolution]:
    """Return the 2-d convolutions of `model` by name, static and dynamic, in the order of their definition.

    Those inside a dynamic layer, such as the convolutions of an attention branch, are parts of that and left out.
    """
    return dict(outermost(model, (nn.Conv2d, ConvolutionLayer), "", set()))


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
        elif _is_depthwise(layer):
            roles[name] = "depthwise"
        else:
            roles[name] = _role_by_name(name)
    # A list made before, as the loop changes roles.
    for name in [n for n, role in roles.items() if role == "depthwise"]:
        _mark_neighbours(name, layers, roles)
    # After the neighbours: the head takes only a role that is left over, the stem overrides any.
    names = list(layers)
    if names and roles[names[-1]] == "other" and _is_pointwise(layers[names[-1]]):
        roles[names[-1]] = "head"
    if names:
        roles[names[0]] = "stem"
    return roles


_OF_A_BLOCK = frozenset(("expansion", "depthwise", "projection", *_RESIDUAL, "downsample"))


def residual_blocks(roles: Mapping[str, RoleName]) -> dict[str, tuple[str, ...]]:
    """Return the convolutions of each residual block by the name of its module, given the roles of all convolutions.

    A block is the smallest module around several convolutions, its gates left out, that all have roles of a block.
    Both are in the order of their definition; a convolution outside any block is in none.
    """
    names = [name for name, role in roles.items() if role != "squeeze_excitation"]
    around = {name: tuple(_block_around(name, names)) for name in names}
    blocks: dict[str, tuple[str, ...]] = {}
    for members in dict.fromkeys(around.values()):
        # A stage holds blocks, for whose convolutions it is not the smallest module.
        is_smallest = all(around[member] == members for member in members)
        if len(members) > 1 and is_smallest and all(roles[member] in _OF_A_BLOCK for member in members):
            blocks[_common_module(members)] = members
    return blocks


def _common_module(names: tuple[str, ...]) -> str:
    """Return the name of the smallest module that holds all of some layers."""
    paths = [name.split(".")[:-1] for name in names]
    common = []
    for attributes in zip(*paths, strict=False):
        if len(set(attributes)) > 1:
            break
        common.append(attributes[0])
    return ".".join(common)


def _is_depthwise(layer: Convolution) -> bool:
    # A convolution of one channel has one group like any dense one.
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
    # With two of them the module is more than a block, and which neighbour belongs to which is not known.
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
