"""`make_dynamic` makes any network of `nn.Conv2d` layers dynamic, at the layers that a placement selects.

It swaps layers in place, so static and dynamic networks share one definition of the backbone. `placement` selects the
layers, `layers` defines the new ones.

A start fills a new layer, given the static convolution that it replaces: the K kernels are drawn anew as the static one
was, or are copies of a trained one.

Dimensions: C input and O output channels, K kernels, h x w kernel size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from dyconv.aggregation import AggregationContext, BeginForwardPass, ForwardPass
from dyconv.base import DEFAULT_TEMPERATURE, DynamicLayer, dynamic_layers
from dyconv.errors import ArgumentError, ConversionError, unknown_name
from dyconv.layers import CondConv2d, ConvolutionLayer, DynamicConv2d
from dyconv.networks.description import describe_layers
from dyconv.networks.placement import Placement, Role, select_layers
from dyconv.randomness import seeded

LayerName = Literal["dynamic", "condconv"]

DEFAULT_PLACEMENT = ~Role("stem", "squeeze_excitation")
_logger = logging.getLogger(__name__)
_DYNAMICALLY_PADDED = ("timm.layers.conv2d_same.Conv2dSame",)


def make_dynamic(
    model: nn.Module,
    *,
    num_kernels: int = 4,
    where: Placement | Mapping[str, Any] | None = None,
    layer: LayerName | str = "dynamic",
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

    `layer` is "dynamic" (`DynamicConv2d`) or "condconv" (`CondConv2d`; its paper has K = 8). `where` is a placement or
    its form as data; None selects every convolution but the stem, those inside squeeze-and-excitation gates, and those
    with a forward of their own that no dynamic layer computes. A placement by resolution needs `input_size`.

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
    settings = _Settings(layer, num_kernels, reduction, temperature, normalization, aggregation)
    if any(True for _ in dynamic_layers(model)):
        raise ConversionError("this network has dynamic layers already: convert a static one")
    refuse_foreign_layers(model)
    begin = choose_start(model, start, init, noise)
    static, left_static = _select(model, where, input_size)
    forward_pass = ForwardPass(0 if seed is None else seed)
    with seeded(seed, "kernels"):
        dynamic = {conv: _dynamic_like(conv, settings, begin) for conv in static.values()}
    # One count of passes for all layers, so that a shuffle across images takes the same partners in each.
    for name, conv in static.items():
        dynamic[conv].aggregator.context = AggregationContext(forward_pass, name)
    _swap(model, dynamic)
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
            listing = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
            lines.append(f"Left static ({len(names)}): {listing}: {reason}.")
        return "\n".join(lines)


def conversion_report(model: nn.Module) -> ConversionReport | None:
    """Return the report of `make_dynamic` on `model`; None if that was not called on it."""
    report = model.__dict__.get("conversion_report")
    return report if isinstance(report, ConversionReport) else None


@dataclass(frozen=True)
class _Settings:
    """The settings that all dynamic layers of a network share."""

    layer: str
    num_kernels: int
    reduction: int
    temperature: float
    normalization: str
    aggregation: str

    def __post_init__(self) -> None:
        if self.layer not in ("dynamic", "condconv"):
            raise ArgumentError(unknown_name("layer", self.layer, ("dynamic", "condconv")))
        if self.layer == "dynamic":
            return
        defaults = {"reduction": 4, "temperature": DEFAULT_TEMPERATURE, "normalization": "softmax"}
        for option, default in defaults.items():
            if getattr(self, option) != default:
                raise ArgumentError(f"layer='condconv' has no {option}, got {getattr(self, option)!r}: leave it out")

    def build(self, *geometry: Any) -> ConvolutionLayer:
        """Return a new layer; `geometry` is the positional arguments of `nn.Conv2d`."""
        if self.layer == "condconv":
            return CondConv2d(*geometry, num_kernels=self.num_kernels, aggregation=self.aggregation)
        return DynamicConv2d(
            *geometry,
            num_kernels=self.num_kernels,
            reduction=self.reduction,
            temperature=self.temperature,
            aggregation=self.aggregation,
            normalization=self.normalization,
        )


def _select(
    model: nn.Module, where: Placement | Mapping[str, Any] | None, input_size: tuple[int, int, int] | None
) -> tuple[dict[str, nn.Conv2d], dict[str, str]]:
    """Return the convolutions to swap by name, and the reason why each of the others stays.

    Without a placement, layers that cannot be swapped are left out; with one, they are an error.
    """
    infos = describe_layers(model, input_size)
    names = [info.name for info in select_layers(infos, DEFAULT_PLACEMENT if where is None else where)]
    obstacles = {name: _obstacle(model, name) for name in names}
    able = [name for name in names if obstacles[name] is None]
    if not able or (where is not None and len(able) < len(names)):
        name, reason = next((n, r) for n, r in obstacles.items() if r is not None)
        raise ConversionError(
            f"layer {name!r} {reason}: only convolutions inside a model that compute what nn.Conv2d does can be made "
            "dynamic; leave it out with where=~Name(...), or wrap the model"
        )
    left_static = {}
    for info in infos:
        if info.name not in able:
            left_static[info.name] = obstacles.get(info.name) or _not_meant(info.role, where is None)
    return {name: cast(nn.Conv2d, model.get_submodule(name)) for name in able}, left_static


def _not_meant(role: str, by_default: bool) -> str:
    """Return the reason why a layer that could be swapped stays static."""
    if not by_default:
        return f"is not meant by `where` (role {role})"
    return "is the stem" if role == "stem" else "is part of a squeeze-and-excitation gate"


def _obstacle(model: nn.Module, name: str) -> str | None:
    """Return the reason why the convolution called `name` cannot be swapped, or None if it can."""
    layer = cast(nn.Conv2d, model.get_submodule(name))
    kind = type(layer).__name__
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
    partners = _sharing(model, name)
    if partners:
        return f"shares its weight with {', '.join(map(repr, partners))}, which would be torn apart"
    has_custom_forward = (
        "forward" in layer.__dict__
        or type(layer).forward is not nn.Conv2d.forward
        or type(layer)._conv_forward is not nn.Conv2d._conv_forward
    )
    if has_custom_forward and not _dynamically_padded(layer):
        return f"is a {kind}, whose own forward would be lost"
    return None


def _has_hooks(layer: nn.Module) -> bool:
    """Return True if hooks on the layer or on its parameters would be lost with it."""
    tables = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return any(tables) or any(parameter._backward_hooks for parameter in layer.parameters())


def _sharing(model: nn.Module, name: str) -> list[str]:
    """Return the names of other modules that hold a parameter of the layer called `name`."""
    layer = model.get_submodule(name)
    parameters = {id(parameter) for parameter in layer.parameters()}
    return [
        other_name
        for other_name, module in model.named_modules()
        if module is not layer and parameters & {id(parameter) for parameter in module._parameters.values()}
    ]


def refuse_foreign_layers(model: nn.Module) -> None:
    """Refuse a network with foreign dynamic layers, which nothing here would mix, count or change.

    Such a layer has a weight with an axis of kernels, as timm's CondConv2d: five dimensions where a 2-d convolution has
    four, or one flat row per kernel.

    Raises:
        ConversionError: there are such layers; the message names them.
    """
    foreign = [f"{name!r} ({type(module).__name__})" for name, module in model.named_modules() if _is_foreign(module)]
    if foreign:
        listing = ", ".join(foreign[:_LISTED]) + (", …" if len(foreign) > _LISTED else "")
        raise ConversionError(
            f"this network has {len(foreign)} dynamic layers of its own, {listing}: they would stay as they are in "
            "every variant, static ones too; choose a network without them"
        )


def _is_foreign(module: nn.Module) -> bool:
    """Return True if a module is a dynamic convolution but none of ours; see `refuse_foreign_layers`."""
    # Torch's own 3-d convolutions have five dimensions, too.
    if isinstance(module, (DynamicLayer, _ConvNd)):
        return False
    size = getattr(module, "kernel_size", None)
    if size is None:
        return False
    area = prod(size) if isinstance(size, (tuple, list)) else size * size if isinstance(size, int) else 0
    for parameter in module._parameters.values():
        if parameter is None or parameter.dim() < 2 or isinstance(parameter, UninitializedParameter):
            continue
        if parameter.dim() == 5 and parameter.shape[3:].numel() == area:
            return True
        channels = getattr(module, "in_channels", 0), getattr(module, "out_channels", 0), getattr(module, "groups", 1)
        if parameter.dim() == 2 and all(isinstance(n, int) and n > 0 for n in channels):
            numbers = channels[0] * channels[1] // channels[2] * area
            # More than one number per kernel and channel, or a matrix for channels alone would look the same.
            if parameter.shape[1] == numbers and numbers > max(channels[:2]):
                return True
    return False


_LISTED = 5
"""Number of layers that a message names before it leaves the others out."""


def _dynamically_padded(conv: nn.Conv2d) -> bool:
    """Return True if this is timm's convolution with TensorFlow's 'same' padding, by name so as not to import timm."""
    return f"{type(conv).__module__}.{type(conv).__qualname__}" in _DYNAMICALLY_PADDED


def _dynamic_like(conv: nn.Conv2d, settings: _Settings, begin: Start) -> ConvolutionLayer:
    """Return a new dynamic layer with the shape, device, dtype and mode of `conv`."""
    layer = settings.build(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        "tf_same" if _dynamically_padded(conv) else conv.padding,
        conv.dilation,
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
    )
    layer = begin(layer, conv).train(conv.training)
    # Frozen kernels stay frozen; the new attention branch is trained only where the kernels are.
    layer.requires_grad_(conv.weight.requires_grad)
    if layer.bias is not None and conv.bias is not None:
        layer.bias.requires_grad_(conv.bias.requires_grad)
    return layer


def _swap(model: nn.Module, dynamic: Mapping[nn.Conv2d, ConvolutionLayer]) -> None:
    """Replace each convolution everywhere it is used; a layer used in two places stays one layer."""
    # `_modules` rather than `named_children`, which names a shared layer only once.
    for parent in list(model.modules()):
        for attribute, child in list(parent._modules.items()):
            if isinstance(child, nn.Conv2d) and child in dynamic:
                setattr(parent, attribute, dynamic[child])


Initialiser = Callable[[Tensor, Tensor | None], None]
InitName = Literal["auto", "default", "kaiming_fan_out", "like_static"]
Start = Callable[[ConvolutionLayer, nn.Conv2d], ConvolutionLayer]

DEFAULT_NOISE = 0.01
_KAIMING = ("torchvision.models.mobilenetv2", "torchvision.models.mobilenetv3", "torchvision.models.resnet")


def choose_start(model: nn.Module, start: str, init: InitName | Initialiser, noise: float | None) -> Start:
    """Return the start of a conversion of `model`: "scratch" uses `init`, "static" uses `noise`.

    Raises:
        ArgumentError: an unknown name, a noise that is not a number from 0, or a setting that this start ignores.
    """
    if start == "scratch":
        if noise is not None:
            raise ArgumentError(f"noise is for start='static', which copies trained kernels, got noise={noise!r}")
        return _from_scratch(_initialiser(model, init))
    if start != "static":
        raise ArgumentError(unknown_name("start", start, ("scratch", "static")))
    if init != "auto":
        raise ArgumentError(f"init is for start='scratch': kernels that are copied are not drawn, got init={init!r}")
    level = DEFAULT_NOISE if noise is None else noise
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 <= level < float("inf"):
        raise ArgumentError(f"noise must be a number from 0, in standard deviations of a kernel, got {noise!r}")
    return _from_static(level)


def kaiming_fan_out(weight: Tensor, bias: Tensor | None) -> None:
    """Fill one kernel as torchvision's MobileNets and ResNets do: normal with variance 2 / fan out, bias zero."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    if bias is not None:
        nn.init.zeros_(bias)


def _initialiser(model: nn.Module, init: InitName | Initialiser) -> Initialiser | str:
    """Return the function that fills one kernel, or "default" or "like_static", which need no function."""
    if callable(init):
        return init
    family = type(model).__module__
    if init == "auto":
        init = "kaiming_fan_out" if family in _KAIMING else "like_static" if family.startswith("timm.") else "default"
    if init not in ("default", "kaiming_fan_out", "like_static"):
        raise ArgumentError(unknown_name("init", init, ("auto", "default", "kaiming_fan_out", "like_static")))
    return kaiming_fan_out if init == "kaiming_fan_out" else init


def _from_scratch(initialise: Initialiser | str) -> Start:
    """Return a start that draws each kernel anew; "default" leaves the draws of the new layer."""

    def fill(layer: ConvolutionLayer, conv: nn.Conv2d) -> ConvolutionLayer:
        with torch.no_grad():
            for k, kernel in enumerate(layer.weight):
                bias = None if layer.bias is None else layer.bias[k]
                if callable(initialise):
                    initialise(kernel, bias)
                elif initialise == "like_static":
                    _fill_like(conv, kernel, bias)
        # Moved after the draws, which are made on the CPU in float32 for every device.
        return layer.to(device=conv.weight.device, dtype=conv.weight.dtype)

    return fill


def _fill_like(conv: nn.Conv2d, kernel: Tensor, bias: Tensor | None) -> None:
    """Draw from a normal distribution as wide as the static kernel, and copy the static bias."""
    nn.init.normal_(kernel, std=_spread(conv.weight))
    if bias is not None and conv.bias is not None and not conv.bias.is_meta:
        bias.copy_(conv.bias)


def _spread(kernel: Tensor) -> float:
    """Return the standard deviation of the numbers of a kernel, 0 without numbers."""
    if kernel.is_meta:  # there are no numbers, and none will be filled in
        return 0.0
    return float(kernel.detach().float().std(correction=0))


def _from_static(noise: float) -> Start:
    """Return a start that copies the static kernel, with `noise` in units of its standard deviation."""

    def fill(layer: ConvolutionLayer, conv: nn.Conv2d) -> ConvolutionLayer:
        # Moved first, because the copies below are made in the dtype of the static kernel.
        layer = layer.to(device=conv.weight.device, dtype=conv.weight.dtype)
        scale = _half_open(layer)
        with torch.no_grad():
            spread = _spread(conv.weight)
            for k, kernel in enumerate(layer.weight):
                # Drawn on the CPU, so that every device gets the same noise.
                drawn = noise * spread * torch.randn(kernel.shape)
                kernel.copy_(scale * (conv.weight + drawn.to(conv.weight)))
                if layer.bias is not None and conv.bias is not None:
                    layer.bias[k].copy_(scale * conv.bias)
        return layer

    return fill


def _half_open(layer: ConvolutionLayer) -> float:
    """Return the factor on each copy with which the new layer computes the same as the static one.

    Weights that sum to one need no factor. Sigmoids begin at one half each for every input (their last Linear is set to
    zero and learns from there), so that K of them sum to K / 2.
    """
    linear = _last_of_sigmoid(layer)
    if linear is None:
        return 1.0
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return 2.0 / layer.num_kernels


def _last_of_sigmoid(layer: ConvolutionLayer) -> nn.Linear | None:
    """Return the last Linear in front of a sigmoid, None if the weights sum to one."""
    if isinstance(layer, CondConv2d):
        return layer.routing
    if isinstance(layer, DynamicConv2d) and layer.attention_branch.normalization == "sigmoid":
        return layer.attention_branch.excite
    return None
