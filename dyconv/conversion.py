"""`make_dynamic`: any network of `nn.Conv2d` layers becomes dynamic, where a placement says so.

Layers are swapped in place, so static and dynamic networks share one definition of the backbone. Which layers
are meant is `placement`'s, how a dynamic layer works `layers`'s business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from dyconv.aggregation import AggregationContext, BeginForwardPass, ForwardPass
from dyconv.description import describe_layers
from dyconv.errors import ArgumentError, ConversionError, unknown_name
from dyconv.layers import DynamicConv2d, dynamic_layers
from dyconv.placement import Placement, Role, select_layers
from dyconv.randomness import seeded

Initialiser = Callable[[Tensor, Tensor | None], None]
InitName = Literal["auto", "default", "kaiming_fan_out"]

DEFAULT_PLACEMENT = ~Role("stem", "squeeze_excitation")
_KAIMING = ("torchvision.models.mobilenetv2", "torchvision.models.mobilenetv3", "torchvision.models.resnet")


def make_dynamic(
    model: nn.Module,
    *,
    num_kernels: int = 4,
    where: Placement | Mapping[str, Any] | None = None,
    reduction: int = 4,
    temperature: float = 30.0,
    aggregation: str = "attention",
    init: InitName | Initialiser = "auto",
    input_size: tuple[int, int, int] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Swap the `nn.Conv2d` layers of `model` that `where` means for `DynamicConv2d`, in place; return `model`.

    `where` is a placement or its form as data; None means every convolution but the stem and those inside
    squeeze-and-excitation gates. A placement by resolution needs `input_size` (C, H, W). Each of the K kernels
    is drawn anew, as the static one was: `init` "kaiming_fan_out" is what torchvision's MobileNets and ResNets
    do (normal, fan out, bias zero), "default" what `nn.Conv2d` does, "auto" the former for those networks and
    the latter for all others, and a callable is handed each kernel (O, C / groups, h, w) and bias (O) to fill.
    With `seed` the draws leave the global generator alone; random aggregation strategies use it too (else 0).

    Raises:
        ConversionError: the network is dynamic already, or a layer that is meant cannot be swapped.
        PlacementError: `where` is malformed or means no layer; the message lists the layers.
        ArgumentError, AggregationError: a setting that cannot work.
    """
    if any(True for _ in dynamic_layers(model)):
        raise ConversionError("this network has dynamic layers already: convert a static one")
    initialise = _initialiser(model, init)
    infos = describe_layers(model, input_size)
    names = [info.name for info in select_layers(infos, DEFAULT_PLACEMENT if where is None else where)]
    static = {name: _swappable(model, name) for name in names}
    forward_pass = ForwardPass(0 if seed is None else seed)
    settings = _Settings(num_kernels, reduction, temperature, aggregation)
    with seeded(seed, "kernels"):
        dynamic = {conv: _dynamic_like(conv, settings, initialise) for conv in static.values()}
    for name, conv in static.items():
        dynamic[conv].aggregator.context = AggregationContext(forward_pass, name)
    _swap(model, dynamic)
    model.register_forward_pre_hook(BeginForwardPass(forward_pass))
    return model


@dataclass(frozen=True)
class _Settings:
    """What every dynamic layer of a network has in common."""

    num_kernels: int
    reduction: int
    temperature: float
    aggregation: str


def kaiming_fan_out(weight: Tensor, bias: Tensor | None) -> None:
    """Fill one kernel as torchvision's MobileNets and ResNets do: normal with variance 2 / fan out, bias zero."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    if bias is not None:
        nn.init.zeros_(bias)


def _initialiser(model: nn.Module, init: InitName | Initialiser) -> Initialiser | None:
    if callable(init):
        return init
    if init == "auto":
        init = "kaiming_fan_out" if type(model).__module__ in _KAIMING else "default"
    named: dict[str, Initialiser | None] = {"default": None, "kaiming_fan_out": kaiming_fan_out}
    if init not in named:
        raise ArgumentError(unknown_name("init", init, ["auto", *named]))
    return named[init]


def _swappable(model: nn.Module, name: str) -> nn.Conv2d:
    """Return the convolution called `name`, or raise ConversionError if another layer cannot stand in for it."""
    layer = model.get_submodule(name)
    if name and type(layer) is nn.Conv2d:
        return layer
    reason = "is the whole model" if not name else f"is a {type(layer).__name__}, whose own forward would be lost"
    raise ConversionError(
        f"layer {name!r} {reason}: only plain nn.Conv2d layers inside a model can be made dynamic; leave it out with "
        "where=~Name(...), or wrap the model"
    )


def _dynamic_like(conv: nn.Conv2d, settings: _Settings, initialise: Initialiser | None) -> DynamicConv2d:
    """Return a new dynamic layer with the shape, device, dtype and mode of `conv`."""
    layer = DynamicConv2d(
        conv.in_channels,
        conv.out_channels,
        cast(tuple[int, int], conv.kernel_size),
        stride=cast(tuple[int, int], conv.stride),
        padding=cast(tuple[int, int], conv.padding),
        dilation=cast(tuple[int, int], conv.dilation),
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
        num_kernels=settings.num_kernels,
        reduction=settings.reduction,
        temperature=settings.temperature,
        aggregation=settings.aggregation,
    )
    if initialise is not None:
        with torch.no_grad():
            for k, kernel in enumerate(layer.weight):
                initialise(kernel, None if layer.bias is None else layer.bias[k])
    return layer.to(device=conv.weight.device, dtype=conv.weight.dtype).train(conv.training)


def _swap(model: nn.Module, dynamic: Mapping[nn.Conv2d, DynamicConv2d]) -> None:
    """Replace each convolution everywhere it is used; a layer used in two places stays one layer."""
    for parent in list(model.modules()):
        for attribute, child in list(parent._modules.items()):
            if isinstance(child, nn.Conv2d) and child in dynamic:
                setattr(parent, attribute, dynamic[child])
