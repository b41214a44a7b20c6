"""`make_dynamic`: any network of `nn.Conv2d` layers becomes dynamic, where a placement says so.

Layers are swapped in place, so static and dynamic networks share one definition of the backbone. Which layers
are meant is `placement`'s, how a dynamic layer works `layers`'s, how its kernels begin `initialisation`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from dyconv.aggregation import AggregationContext, BeginForwardPass, ForwardPass
from dyconv.base import DEFAULT_TEMPERATURE, dynamic_layers
from dyconv.description import describe_layers
from dyconv.errors import ArgumentError, ConversionError, unknown_name
from dyconv.initialisation import Initialiser, InitName, Start, choose_start
from dyconv.layers import CondConv2d, ConvolutionLayer, DynamicConv2d
from dyconv.placement import Placement, Role, select_layers
from dyconv.randomness import seeded

LayerName = Literal["dynamic", "condconv"]

DEFAULT_PLACEMENT = ~Role("stem", "squeeze_excitation")
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
    """Swap the convolutions of `model` that `where` means for `layer`s of K kernels, in place; return `model`.

    `layer` is "dynamic" (`DynamicConv2d`) or "condconv" (`CondConv2d`; its paper has K = 8). `where` is a placement or
    its form as data; None means every convolution but the stem, those inside squeeze-and-excitation gates, and those
    with a forward of their own that no dynamic layer computes. A placement by resolution needs `input_size`.

    `start` "scratch" draws each kernel as the static one was: `init` "kaiming_fan_out" is what torchvision's
    MobileNets and ResNets do (normal, fan out, bias zero), "like_static" a normal as wide as the static kernel,
    "default" what `nn.Conv2d` does; "auto" is the first for those networks, the second for timm's and the third for
    all others, and a callable is handed each kernel (O, C / groups, h, w) and bias (O) to fill. "static" copies the
    weights that are there into each kernel, plus `noise` (default 0.01) of their standard deviation so that the
    kernels can part; with no noise the network computes what it did. With `seed` the draws leave the global
    generator alone; random aggregation strategies use it too (else 0).

    Raises:
        ConversionError: the network is dynamic already, or a layer that is meant cannot be swapped.
        PlacementError: `where` is malformed or means no layer; the message lists the layers.
        ArgumentError, AggregationError: a setting that cannot work, or that nothing would read.
    """
    settings = _Settings(layer, num_kernels, reduction, temperature, normalization, aggregation)
    if any(True for _ in dynamic_layers(model)):
        raise ConversionError("this network has dynamic layers already: convert a static one")
    begin = choose_start(model, start, init, noise)
    static = _select(model, where, input_size)
    forward_pass = ForwardPass(0 if seed is None else seed)
    with seeded(seed, "kernels"):
        dynamic = {conv: _dynamic_like(conv, settings, begin) for conv in static.values()}
    for name, conv in static.items():
        dynamic[conv].aggregator.context = AggregationContext(forward_pass, name)
    _swap(model, dynamic)
    model.register_forward_pre_hook(BeginForwardPass(forward_pass))
    return model


@dataclass(frozen=True)
class _Settings:
    """What every dynamic layer of a network has in common."""

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
        own = {"reduction": 4, "temperature": DEFAULT_TEMPERATURE, "normalization": "softmax"}
        for option, default in own.items():
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
) -> dict[str, nn.Conv2d]:
    """Return the convolutions to swap by name; what was not asked for by a placement may be left out."""
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
    return {name: cast(nn.Conv2d, model.get_submodule(name)) for name in able}


def _obstacle(model: nn.Module, name: str) -> str | None:
    """Return why the convolution called `name` cannot be swapped, or None: another layer can stand in for it."""
    layer = cast(nn.Conv2d, model.get_submodule(name))
    kind = type(layer).__name__
    if not name:
        return "is the whole model"
    if isinstance(layer, LazyModuleMixin):
        return f"is a {kind} that has seen no input yet"
    if parametrize.is_parametrized(layer) or layer._forward_pre_hooks or layer._forward_hooks:
        return f"is a {kind} with a parametrisation or hooks, which would be lost"
    own = type(layer).forward is not nn.Conv2d.forward or type(layer)._conv_forward is not nn.Conv2d._conv_forward
    if own and not _dynamically_padded(layer):
        return f"is a {kind}, whose own forward would be lost"
    return None


def _dynamically_padded(conv: nn.Conv2d) -> bool:
    """Whether this is timm's convolution with TensorFlow's 'same' padding, known by name so as not to import timm."""
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
    return begin(layer, conv).train(conv.training)


def _swap(model: nn.Module, dynamic: Mapping[nn.Conv2d, ConvolutionLayer]) -> None:
    """Replace each convolution everywhere it is used; a layer used in two places stays one layer."""
    for parent in list(model.modules()):
        for attribute, child in list(parent._modules.items()):
            if isinstance(child, nn.Conv2d) and child in dynamic:
                setattr(parent, attribute, dynamic[child])
