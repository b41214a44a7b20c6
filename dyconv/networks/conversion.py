"""`make_dynamic` makes any network of `nn.Conv2d` layers dynamic, at the layers that a placement selects.

It swaps layers in place, so static and dynamic networks share one definition of the backbone. `placement` selects the
layers, `layers` defines the new ones.

`obstacles` tells which layers cannot be swapped, and a kind which of the others it cannot replace. `initialisation`
fills the new ones.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import nn

from dyconv.aggregation import BeginForwardPass, ForwardPass
from dyconv.base import DEFAULT_TEMPERATURE, dynamic_layers
from dyconv.errors import ArgumentError, ConversionError
from dyconv.layers import Convolution, ConvolutionLayer
from dyconv.layers.adopted import ADOPTED
from dyconv.layers.kinds import LayerKind, layer_kind
from dyconv.networks.description import LayerInfo, describe_layers
from dyconv.networks.initialisation import Initialiser, InitName, Start, choose_start
from dyconv.networks.obstacles import is_dynamically_padded, listing, obstacle, refuse_foreign_layers
from dyconv.networks.placement import Placement, Role, select_layers
from dyconv.networks.roles import RoleName, residual_blocks
from dyconv.randomness import seeded

DEFAULT_PLACEMENT = ~Role("stem", "squeeze_excitation")
_logger = logging.getLogger(__name__)


def make_dynamic(
    model: nn.Module,
    *,
    num_kernels: int = 4,
    where: Placement | Mapping[str, Any] | None = None,
    layer: str = "dynamic",
    options: Mapping[str, Any] | None = None,
    reduction: int = 4,
    temperature: float = DEFAULT_TEMPERATURE,
    normalization: str = "softmax",
    aggregation: str = "attention",
    start: Literal["scratch", "static"] | str = "scratch",
    init: InitName | Initialiser = "auto",
    noise: float | None = None,
    input_size: tuple[int, int, int] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Replace the convolutions of `model` that `where` selects by `layer`s of K kernels, in place; return `model`.

    `layer` is a layer kind, one of `available_layers()`: "dynamic" (`DynamicConv2d`), "condconv" (`CondConv2d`; its
    paper has K = 8), "odconv" (`ODConv2d`), … or a user's own (`register_layer`); `options` are those of the kind.
    `where` is a placement or its form as data; None selects every convolution but the stem, those inside
    squeeze-and-excitation gates, and those with a forward of their own that no dynamic layer computes. A placement by
    resolution needs `input_size`. Selected layers that the kind cannot replace ("dcd" none with groups) stay static.

    `start` "scratch" draws each kernel as the static one was: `init` "kaiming_fan_out" is what torchvision's MobileNets
    and ResNets do (normal, fan out, bias zero), "like_static" a normal as wide as the static kernel, and "default" what
    `nn.Conv2d` does; "auto" is the first for those networks, the second for timm's and the third for all others; a
    callable gets each kernel (O, C / groups, h, w) and bias (O) to fill. "static" copies the present weights into each
    kernel, plus `noise` (default 0.01) of their standard deviation so that the kernels can diverge; without noise the
    network computes what it did. With `seed` the draws leave the global generator alone; random aggregation strategies
    use it too (else 0).

    Frozen layers stay frozen. `conversion_report(model)` says which layers were left static and why; it is logged too,
    at level INFO.

    Raises:
        ConversionError: the network is dynamic already, or a selected layer cannot be swapped.
        PlacementError: `where` is malformed or selects no layer; the message lists the layers.
        ArgumentError, AggregationError: a setting that cannot work, or that nothing would read.
    """
    # All checks come first: a network is changed wholly or not at all.
    common = {
        "num_kernels": num_kernels,
        "reduction": reduction,
        "temperature": temperature,
        "normalization": normalization,
        "aggregation": aggregation,
    }
    if layer == ADOPTED:
        raise ArgumentError("layer='adopted' keeps the layers that a network has: call dyconv.adopt(model) instead")
    settings = _Settings(layer_kind(layer), common, options or {})
    if any(dynamic_layers(model)):
        raise ConversionError("this network has dynamic layers already: convert a static one")
    refuse_foreign_layers(model)
    fill = choose_start(model, start, init, noise)
    infos = describe_layers(model, input_size)
    static, left_static = _select(model, infos, where, settings.kind)
    forward_pass = ForwardPass(seed or 0)
    with seeded(seed, "kernels"):
        dynamic = {conv: _dynamic_like(conv, settings, fill) for conv in static.values()}
    # One count of passes for all layers, so that a shuffle across images takes the same partners in each.
    for name, conv in static.items():
        dynamic[conv].draw_from(forward_pass, name)
    _swap(model, dynamic)
    layers = {name: dynamic[conv] for name, conv in static.items()}
    with seeded(seed, "connections"):
        settings.kind.layer.connect(model, layers)
        _connect_blocks(model, {info.name: info.role for info in infos}, settings.kind, layers)
    model.register_forward_pre_hook(BeginForwardPass(forward_pass))
    report = ConversionReport(tuple(static), left_static)
    model.conversion_report = report  # type: ignore[assignment]
    _logger.info("%s", report)
    return model


@dataclass(frozen=True)
class ConversionReport:
    """The convolutions of a network that became dynamic, and the reason why each of the others did not, by name."""

    dynamic: tuple[str, ...]
    left_static: Mapping[str, str]

    def __str__(self) -> str:
        total = len(self.dynamic) + len(self.left_static)
        lines = [f"{len(self.dynamic)} of {total} convolutions are dynamic."]
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_static.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            lines.append(f"Left static ({len(names)}): {listing(names)}: {reason}.")
        return "\n".join(lines)


def conversion_report(model: nn.Module) -> ConversionReport | None:
    """Return the report of `make_dynamic` on `model`; None if that was not called on it."""
    report = model.__dict__.get("conversion_report")
    return report if isinstance(report, ConversionReport) else None


_COMMON_DEFAULTS = {
    "num_kernels": 4,
    "reduction": 4,
    "temperature": DEFAULT_TEMPERATURE,
    "normalization": "softmax",
    "aggregation": "attention",
}


@dataclass(frozen=True)
class _Settings:
    """The kind of all dynamic layers of a network, and the settings that they share."""

    kind: LayerKind
    common: Mapping[str, Any]
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, default in _COMMON_DEFAULTS.items():
            value = self.common[name]
            # A default cannot be told from what was not given, so that only other values are refused.
            if name not in self.kind.reads and value != default:
                raise ArgumentError(f"layer={self.kind.name!r} has no {name}, got {value!r}: leave it out")
        # Checked before the network is touched; a frozen dataclass is filled this way.
        object.__setattr__(self, "options", self.kind.checked_options(self.options))

    def build(self, *geometry: Any) -> ConvolutionLayer:
        """Return a new layer; `geometry` is the positional arguments of `nn.Conv2d`."""
        return self.kind.build(geometry, self.common, self.options)


def _select(
    model: nn.Module, infos: list[LayerInfo], where: Placement | Mapping[str, Any] | None, kind: LayerKind
) -> tuple[dict[str, nn.Conv2d], dict[str, str]]:
    """Return the convolutions to swap by name, and the reason why each of the others stays.

    Without a placement, layers that cannot be swapped are left out; with one, they are an error. Layers that this kind
    cannot replace are left out in any case, so that one placement serves all kinds.
    """
    static: dict[str, nn.Conv2d] = {}
    obstacles: dict[str, str] = {}
    unsuited: dict[str, str] = {}
    for info in select_layers(infos, DEFAULT_PLACEMENT if where is None else where):
        conv = cast(nn.Conv2d, model.get_submodule(info.name))
        reason = obstacle(model, info.name)
        if reason is not None:
            obstacles[info.name] = reason
            continue
        reason = kind.layer.obstacle(conv)
        if reason is None:
            static[info.name] = conv
        else:
            unsuited[info.name] = reason
    if not static and unsuited and not obstacles:
        name, reason = next(iter(unsuited.items()))
        raise ConversionError(
            f"layer {name!r} {reason}: layer={kind.name!r} can replace none of the {len(unsuited)} convolutions that "
            "are meant; choose others with where=…"
        )
    if not static or (where is not None and obstacles):
        name, reason = next(iter(obstacles.items()))
        raise ConversionError(
            f"layer {name!r} {reason}: only convolutions inside a model that compute what nn.Conv2d does can be made "
            "dynamic; leave it out with where=~Name(...), or wrap the model"
        )
    left_static: dict[str, str] = {}
    for info in infos:
        if info.name not in static:
            reason = obstacles.get(info.name) or unsuited.get(info.name)
            left_static[info.name] = reason or _not_selected(info.role, where is None)
    return static, left_static


def _not_selected(role: str, by_default: bool) -> str:
    """Return the reason why a layer that could be swapped stays static."""
    if not by_default:
        return f"is not meant by `where` (role {role})"
    return "is the stem" if role == "stem" else "is part of a squeeze-and-excitation gate"


def _dynamic_like(conv: nn.Conv2d, settings: _Settings, fill: Start) -> ConvolutionLayer:
    """Return a new dynamic layer with the shape, device, dtype and mode of `conv`."""
    padding = "tf_same" if is_dynamically_padded(conv) else conv.padding
    layer = settings.build(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        padding,
        conv.dilation,
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
    )
    layer = fill(layer, conv).train(conv.training)
    # Frozen kernels stay frozen; the new attention branch is trained only where the kernels are.
    layer.requires_grad_(conv.weight.requires_grad)
    if layer.bias is not None and conv.bias is not None:
        layer.bias.requires_grad_(conv.bias.requires_grad)
    return layer


def _connect_blocks(
    model: nn.Module, roles: Mapping[str, RoleName], kind: LayerKind, layers: Mapping[str, ConvolutionLayer]
) -> None:
    """Let a kind join its layers in each residual block of a converted model."""
    uses = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    for name, members in residual_blocks(roles).items():
        # A layer that is used twice would have to follow the inputs of two places.
        in_block = {member: layers[member] for member in members if member in layers and uses[layers[member]] == 1}
        if in_block:
            first = cast(Convolution, model.get_submodule(members[0]))
            kind.layer.connect_block(model.get_submodule(name), first.in_channels, in_block)


def _swap(model: nn.Module, dynamic: Mapping[nn.Conv2d, ConvolutionLayer]) -> None:
    """Replace each convolution everywhere it is used; a layer used in two places stays one layer."""
    # `_modules` rather than `named_children`, which names a shared layer only once.
    for parent in list(model.modules()):
        for attribute, child in list(parent._modules.items()):
            if isinstance(child, nn.Conv2d) and child in dynamic:
                setattr(parent, attribute, dynamic[child])
