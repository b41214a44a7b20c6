"""This module tells why a layer cannot be made dynamic, and refuses networks with dynamic layers of another project."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from dyconv.base import DynamicLayer
from dyconv.errors import ConversionError

_STATIC = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# By name, so as not to import timm.
_DYNAMICALLY_PADDED = ("timm.layers.conv2d_same.Conv2dSame",)
_ADOPTABLE = ("timm.layers.cond_conv2d.CondConv2d",)


def obstacle(model: nn.Module, name: str) -> str | None:
    """Return the reason why the convolution called `name` cannot be swapped, or None if it can."""
    layer = cast(nn.Conv2d, model.get_submodule(name))
    kind = type(layer).__name__
    # In place of the whole model there is nothing to put the new layer into.
    if not name:
        return "is the whole model"
    if isinstance(layer, LazyModuleMixin):
        return f"is a {kind} that has seen no input yet"
    if parametrize.is_parametrized(layer) or _has_hooks(layer):
        return f"is a {kind} with a parametrisation or hooks, which would be lost"
    extra = [key for key in layer.state_dict() if key not in ("weight", "bias")]
    if extra:
        return f"is a {kind} with state of its own ({', '.join(extra)}), which would be lost"
    # The other module would keep the static weight, and the two would part in training.
    partners = _modules_sharing_weights(model, name)
    if partners:
        return f"shares its weight with {', '.join(map(repr, partners))}, which would be torn apart"
    has_custom_forward = (
        # A patched instance, a subclass, or a subclass that changes the convolution alone.
        "forward" in layer.__dict__
        or type(layer).forward is not nn.Conv2d.forward
        or type(layer)._conv_forward is not nn.Conv2d._conv_forward
    )
    if has_custom_forward and not is_dynamically_padded(layer):
        return f"is a {kind}, whose own forward would be lost"
    return None


def _has_hooks(layer: nn.Module) -> bool:
    """Return True if hooks on the layer or on its parameters would be lost with it."""
    tables = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return any(tables) or any(parameter._backward_hooks for parameter in layer.parameters())


def _modules_sharing_weights(model: nn.Module, name: str) -> list[str]:
    """Return the names of other modules that hold a parameter of the layer called `name`."""
    layer = model.get_submodule(name)
    # By identity: the comparison of tensors is by value, and elementwise.
    parameters = {id(parameter) for parameter in layer.parameters()}
    partners = []
    for partner, module in model.named_modules():
        shared = parameters & {id(parameter) for parameter in module._parameters.values()}
        if shared and module is not layer:
            partners.append(partner)
    return partners


def refuse_foreign_layers(model: nn.Module, *, except_adoptable: bool = False) -> None:
    """Refuse a network with foreign dynamic layers, which nothing here would mix, count or change.

    Such a layer has a weight with an axis of kernels, as timm's CondConv2d: five dimensions where a 2-d convolution has
    four, or one flat row per kernel. `except_adoptable` lets those pass that `dyconv.adopt` can replace.

    Raises:
        ConversionError: there are such layers; the message names them.
    """
    adoptable = adoptable_layers(model)
    foreign: list[str] = []
    can_adopt = True
    for name, module in model.named_modules():
        if _is_foreign(module) and not (except_adoptable and name in adoptable):
            foreign.append(f"{name!r} ({type(module).__name__})")
            can_adopt = can_adopt and name in adoptable
    if not foreign:
        return
    advice = "choose a network without them"
    if can_adopt:
        advice += ", or adopt them: dyconv.adopt(model), or layer='adopted' where it is built"
    raise ConversionError(
        f"this network has {len(foreign)} dynamic layers of its own, {listing(foreign)}: they would stay as they "
        f"are in every variant, static ones too; {advice}"
    )


def adoptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers inside `model` that `dyconv.adopt` can replace, by name: those of timm's CondConv class."""
    layers: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if name and _qualified_name(module) in _ADOPTABLE:
            layers[name] = module
    return layers


def _is_foreign(module: nn.Module) -> bool:
    """Return True if a module is a dynamic convolution but none of ours; see `refuse_foreign_layers`."""
    # Torch's own 3-d convolutions have five dimensions, too.
    if isinstance(module, (DynamicLayer, *_STATIC)):
        return False
    size = getattr(module, "kernel_size", None)
    if isinstance(size, (tuple, list)):
        area = prod(size)
    elif isinstance(size, int):
        area = size * size
    else:
        return False
    numbers = _numbers_in_a_kernel(module, area)
    for parameter in module._parameters.values():
        if parameter is None or isinstance(parameter, UninitializedParameter):
            continue
        # (K, O, C, h, w): an axis of kernels before the weight of a 2-d convolution.
        if parameter.dim() == 5 and parameter.shape[3:].numel() == area:
            return True
        # (K, O C h w): a row per kernel, as in timm's CondConv2d.
        if parameter.dim() == 2 and parameter.shape[1] == numbers:
            return True
    return False


def _numbers_in_a_kernel(module: nn.Module, area: int) -> int | None:
    """Return the length of a flat kernel of a convolution, None if a matrix of its channels could be as long."""
    in_channels, out_channels = getattr(module, "in_channels", 0), getattr(module, "out_channels", 0)
    groups = getattr(module, "groups", 1)
    if not all(isinstance(count, int) and count > 0 for count in (in_channels, out_channels, groups)):
        return None
    numbers: int = in_channels * out_channels // groups * area
    return numbers if numbers > max(in_channels, out_channels) else None


def is_dynamically_padded(conv: nn.Conv2d) -> bool:
    """Return True if this is timm's convolution with TensorFlow's 'same' padding."""
    return _qualified_name(conv) in _DYNAMICALLY_PADDED


def _qualified_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


_LISTED = 5
"""Number of layers that a message names before it leaves the others out."""


def listing(layers: Sequence[str]) -> str:
    """Return the first few of some layers as text."""
    text = ", ".join(layers[:_LISTED])
    return text if len(layers) <= _LISTED else f"{text}, …"
