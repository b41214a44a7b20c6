"""This module holds the registry of named backbones, and builds them static or dynamic (`build_model`).

Plug-ins can add to the registry. A builder returns the static network, and `build_model` may make it dynamic, so both
have one definition.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from dyconv.base import DEFAULT_TEMPERATURE
from dyconv.errors import ConversionError, ModelError, unknown_name
from dyconv.layers.adopted import ADOPTED
from dyconv.layers.kinds import layer_kind
from dyconv.networks import backbones
from dyconv.networks.adoption import adopt
from dyconv.networks.backbones import BackboneSpec
from dyconv.networks.conversion import make_dynamic
from dyconv.networks.obstacles import refuse_foreign_layers
from dyconv.networks.placement import Placement
from dyconv.randomness import seeded

Builder = Callable[[BackboneSpec], nn.Module]

_OPTIONAL = ("width", "depth", "dropout", "squeeze_excitation", "stem_kernel", "stem_pool")
_TIMM = "timm/"
_DYNAMIC_DEFAULTS = {
    "layer": "dynamic",
    "options": None,
    "reduction": 4,
    "temperature": DEFAULT_TEMPERATURE,
    "normalization": "softmax",
    "aggregation": "attention",
    "where": None,
}
"""The settings of dynamic layers that a static network has no use for, with the defaults of `build_model`."""


@dataclass(frozen=True)
class _Registered:
    """A builder, the options that it uses, and the reasons why it refuses some others."""

    builder: Builder
    options: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    version: str | int | None = None


_BUILDERS: dict[str, _Registered] = {}


def register_model(
    name: str,
    *,
    options: Iterable[str] = (),
    refused: Mapping[str, str] | None = None,
    version: str | int | None = None,
) -> Callable[[Builder], Builder]:
    """Return a decorator that makes a builder of static networks available as `name`.

    `options` says which of width, depth, dropout, squeeze_excitation, stem_kernel and stem_pool the builder uses;
    another one is an error, and `refused` may say why. All builders use num_classes, in_channels and stem_stride.
    Results belong to the builder's code; with a `version` they belong to that instead, and it must change when a result
    would.

    Raises:
        ModelError: `name` is taken or begins with "timm/", or an option is unknown.
    """
    reasons = dict(refused or {})
    used_options = frozenset(options)
    for option in (*used_options, *reasons):
        if option not in _OPTIONAL:
            raise ModelError(unknown_name("model option", option, _OPTIONAL))
    if name.startswith(_TIMM):
        raise ModelError(f"model {name!r} would hide a network of timm's: choose another name")

    def register(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ModelError(f"model {name!r} is registered already: choose another name")
        _BUILDERS[name] = _Registered(builder, used_options, reasons, version)
        return builder

    return register


def available_models() -> list[str]:
    """Return the names of all registered backbones; besides these there is any network of timm, as "timm/<name>"."""
    return sorted(_BUILDERS)


def model_builder(name: str) -> Builder:
    """Return the builder that is registered as `name`.

    Raises:
        ModelError: an unknown name; the message names the nearest.
    """
    return _registered(name).builder


def model_version(name: str) -> str | int | None:
    """Return the version that was given when `name` was registered, or None.

    Raises:
        ModelError: an unknown name; the message names the nearest.
    """
    return _registered(name).version


def model_options(name: str) -> frozenset[str]:
    """Return the options of `register_model` that the backbone called `name` uses.

    Raises:
        ModelError: an unknown name; the message names the nearest.
    """
    return _registered(name).options


def build_model(
    name: str,
    num_classes: int,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    in_channels: int = 3,
    stem_stride: int = 2,
    stem_kernel: int | None = None,
    stem_pool: bool | None = None,
    dropout: float = 0.2,
    squeeze_excitation: bool = False,
    num_kernels: int | None = None,
    layer: str = "dynamic",
    options: Mapping[str, Any] | None = None,
    reduction: int = 4,
    temperature: float = DEFAULT_TEMPERATURE,
    normalization: str = "softmax",
    aggregation: str = "attention",
    where: Placement | Mapping[str, Any] | None = None,
    input_size: tuple[int, int, int] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Return a new network called `name`: static if `num_kernels` is None, else dynamic with K kernels per layer.

    A layer kind that holds no K kernels makes the network dynamic without `num_kernels`. `layer` "adopted" takes a
    network that has dynamic layers of its own, as timm's CondConv networks have, and adopts these (`dyconv.adopt`);
    nothing but `seed` is to be said about them.

    `width` multiplies channels, `depth` the blocks per stage. `stem_stride` 1 or 2 is the stride of the first
    convolution (2 leaves a timm network as it is), `stem_kernel` 3 or 7 its size, `stem_pool` whether a max pooling
    follows; None is the network's own. `squeeze_excitation` puts a gate into each block. From `layer` on, settings
    are `make_dynamic`'s. With `seed` the initialisation leaves the global generator alone, and the static parts of a
    dynamic network are those of the static one.

    Raises:
        ModelError: an unknown name, a value that cannot work, or an option that this network cannot use.
        PlacementError, ConversionError, ArgumentError, AggregationError: as from `make_dynamic`.
    """
    images = (in_channels, stem_stride, dropout, squeeze_excitation, stem_kernel, stem_pool)
    spec = BackboneSpec(num_classes, width, depth, *images)
    settings: dict[str, Any] = {
        "layer": layer,
        "options": options,
        "reduction": reduction,
        "temperature": temperature,
        "normalization": normalization,
        "aggregation": aggregation,
        "where": where,
    }
    if layer == ADOPTED:
        if num_kernels is not None:
            raise ModelError(f"an adopted network has its own num_kernels, got {num_kernels!r}: leave it out")
        # The layer is the one setting that was given, so that it passes as its default.
        _refuse_settings({**settings, "layer": "dynamic"}, "an adopted network reads no {}, got {!r}: leave it out")
        return _adopted(name, spec, seed)
    model = _static(name, spec, seed)
    # A kind without K kernels has no number of them by which it could be asked for.
    if num_kernels is None and layer != "dynamic" and "num_kernels" not in layer_kind(layer).reads:
        return make_dynamic(model, input_size=input_size, seed=seed, **settings)
    if num_kernels is not None:
        return make_dynamic(model, num_kernels=num_kernels, input_size=input_size, seed=seed, **settings)
    _refuse_settings(settings, "a static network has no {}, got {!r}: give num_kernels, or leave it out")
    return model


def _refuse_settings(settings: Mapping[str, Any], message: str) -> None:
    """Raise ModelError for the first setting that is not at its default; `message` has a place for name and value."""
    for option, value in settings.items():
        # A default cannot be told from what was not given, so it passes.
        if value != _DYNAMIC_DEFAULTS[option]:
            raise ModelError(message.format(option, value))


def _static(name: str, spec: BackboneSpec, seed: int | None) -> nn.Module:
    """Return the static network; refuse options that it cannot use, and foreign dynamic layers."""
    model = _built(name, spec, seed)
    try:
        refuse_foreign_layers(model)
    except ConversionError as error:
        raise ModelError(f"model {name!r}: {error}") from None
    return model


def _adopted(name: str, spec: BackboneSpec, seed: int | None) -> nn.Module:
    """Return the network with its own dynamic layers adopted."""
    model = _built(name, spec, seed)
    try:
        return adopt(model, seed=seed or 0)
    except ConversionError as error:
        raise ModelError(f"model {name!r}: {error}") from None


def _built(name: str, spec: BackboneSpec, seed: int | None) -> nn.Module:
    """Return the network as its builder makes it; refuse options that it cannot use."""
    registered = _registered(name)
    _check_options(name, spec, registered)
    # A purpose of its own, so that the kernels drawn later do not change the static parts.
    with seeded(seed, "network"):
        return registered.builder(spec)


def _registered(name: str) -> _Registered:
    """Return the entry of a name; any name of timm's has one without options."""
    if name.startswith(_TIMM):
        return _Registered(partial(backbones.timm_network, name.removeprefix(_TIMM)))
    if name not in _BUILDERS:
        raise ModelError(unknown_name("model", name, [*_BUILDERS, "timm/<name>"]))
    return _BUILDERS[name]


def _check_options(name: str, spec: BackboneSpec, registered: _Registered) -> None:
    """Raise ModelError if the spec changes an option that the builder does not use."""
    # An option at its default may pass: nobody asked for it.
    default = BackboneSpec(spec.num_classes)
    for option in _OPTIONAL:
        value = getattr(spec, option)
        if option not in registered.options and value != getattr(default, option):
            alternatives = ", ".join(model for model, entry in _BUILDERS.items() if option in entry.options)
            reason = f" ({registered.refused[option]})" if option in registered.refused else ""
            raise ModelError(
                f"model {name!r} has no {option}, got {option}={value!r}{reason}: leave it out, or use {alternatives}"
            )


_GATED = {"squeeze_excitation": "its blocks have squeeze-and-excitation of their own"}
_RESNET = ("squeeze_excitation", "stem_kernel", "stem_pool")

register_model("mobilenet_v2", options=("width", "depth", "dropout", "squeeze_excitation"))(backbones.mobilenet_v2)
register_model("mobilenet_v3_small", options=("width", "dropout"), refused=_GATED)(backbones.mobilenet_v3_small)
register_model("mobilenet_v3_large", options=("width", "dropout"), refused=_GATED)(backbones.mobilenet_v3_large)
register_model("resnet10", options=_RESNET)(backbones.resnet10)
register_model("resnet18", options=_RESNET)(backbones.resnet18)
register_model("resnet50", options=_RESNET)(backbones.resnet50)
