"""This module is the registry of layer kinds: each is a class of dynamic convolution under a name.

A kind is built in or a user's own; all come through `register_layer`. Networks are converted to a kind by its name
(`make_dynamic(model, layer="mine")`), and a study asks for it with `model.layer`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dyconv.errors import ArgumentError, unknown_name
from dyconv.layers.adopted import ADOPTED
from dyconv.layers.convolution import ConvolutionLayer

COMMON_SETTINGS = ("num_kernels", "reduction", "temperature", "normalization", "aggregation")
"""The settings that kinds share. A kind reads those that are keywords of its class."""

Value = bool | int | float | str
L = TypeVar("L", bound=ConvolutionLayer)


@dataclass(frozen=True)
class LayerOption:
    """An option of one layer kind, a keyword of its class: the type is that of `default`.

    A number lies between `low` and `high` (both may be left out), a text is one of `choices` if there are any.
    """

    name: str
    default: Value
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def checked(self, value: Value) -> Value:
        """Return `value` in the type of this option.

        Raises:
            ArgumentError: it is of another type, out of range, or none of the choices.
        """
        kind = type(self.default)
        # A whole number will do for a real one; but True, an int in Python, is no number here.
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ArgumentError(f"option {self.name!r} must be of type {kind.__name__}, got {value!r}")
        if isinstance(value, int | float) and not isinstance(value, bool) and not self.low <= value <= self.high:
            raise ArgumentError(f"option {self.name!r} must be between {self.low:g} and {self.high:g}, got {value!r}")
        if self.choices and value not in self.choices:
            raise ArgumentError(unknown_name(f"value of option {self.name!r}", str(value), self.choices))
        return value


@dataclass(frozen=True)
class LayerKind:
    """A kind of dynamic layer: its class, and which settings that reads.

    `reads` are some of `COMMON_SETTINGS`; `options` are the kind's own. `title` stands in front of the name of a
    network in tables ("DY-"). Results belong to the code of the class, or to `version` if there is one.
    """

    name: str
    layer: type[ConvolutionLayer]
    reads: frozenset[str]
    options: tuple[LayerOption, ...] = ()
    title: str = ""
    version: str | int | None = None

    def build(
        self, geometry: Iterable[Any], common: Mapping[str, Any], options: Mapping[str, Value]
    ) -> ConvolutionLayer:
        """Return a new layer of this kind.

        `geometry` is the positional arguments of `nn.Conv2d`; of the `common` settings, those that the kind does not
        read are left out.
        """
        keywords = {name: value for name, value in common.items() if name in self.reads}
        keywords |= options
        # Which keywords a class takes was checked when it was registered.
        build: Callable[..., ConvolutionLayer] = self.layer
        return build(*geometry, **keywords)

    def checked_options(self, options: Mapping[str, Value]) -> dict[str, Value]:
        """Return all options of this kind: the values of `options`, and the default of each other one.

        Raises:
            ArgumentError: an unknown option, or a value that it cannot have.
        """
        by_name = {option.name: option for option in self.options}
        for name in options:
            if name not in by_name:
                raise ArgumentError(unknown_name(f"option of layer {self.name!r}", name, by_name))
        return {name: option.checked(options.get(name, option.default)) for name, option in by_name.items()}


_KINDS: dict[str, LayerKind] = {}
_RESERVED = ("static", ADOPTED)
"""Names that stand in place of a kind: nothing is converted."""


def register_layer(
    name: str,
    *,
    options: Iterable[LayerOption] = (),
    title: str | None = None,
    version: str | int | None = None,
) -> Callable[[type[L]], type[L]]:
    """Return a decorator that makes a subclass of `ConvolutionLayer` available as the layer kind `name`.

    The class takes the arguments of `nn.Conv2d` in their order and its settings by keyword. Keywords that are called as
    one of `COMMON_SETTINGS` are read from the settings that kinds share; each other one is one of the `options`, which
    say its type and range. A class with `attention(x) -> (B, K)` is enough:

        @register_layer("tanh", options=[LayerOption("sharpness", 1.0, low=0.1, high=10.0)])
        class TanhConv2d(ConvolutionLayer):
            def __init__(self, *geometry, num_kernels=4, aggregation="attention", sharpness=1.0):
                super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation)
                self.routing, self.sharpness = nn.Linear(self.in_channels, num_kernels), sharpness
                self.reset_parameters()

            def attention(self, input):
                return torch.tanh(self.sharpness * self.routing(dyconv.average_pool(input)))

    Raises:
        ArgumentError: `name` is taken, the class is no `ConvolutionLayer`, or an option and the keywords differ.
    """
    listed = tuple(options)

    def register(layer: type[L]) -> type[L]:
        if name in (*_KINDS, *_RESERVED):
            raise ArgumentError(f"layer {name!r} is registered already: choose another name")
        if not (isinstance(layer, type) and issubclass(layer, ConvolutionLayer)):
            raise ArgumentError(f"layer {name!r} must be a subclass of dyconv.ConvolutionLayer, got {layer!r}")
        reads = _common_keywords(name, layer, listed)
        _KINDS[name] = LayerKind(name, layer, reads, listed, title or f"{name}-", version)
        return layer

    return register


def _common_keywords(name: str, layer: type[ConvolutionLayer], options: tuple[LayerOption, ...]) -> frozenset[str]:
    """Return the common settings that a class takes by keyword; check that all other keywords are its options."""
    keywords: dict[str, Any] = {}
    for parameter in inspect.signature(layer).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = parameter.default
    for option in options:
        if option.name not in keywords or option.name in COMMON_SETTINGS:
            raise ArgumentError(
                f"option {option.name!r} of layer {name!r} is no keyword of {layer.__name__}: add it to __init__, "
                "after a *"
            )
        # A default that its own range excludes would fail only in the first network that is built.
        option.checked(option.default)
    listed = {option.name for option in options}
    reads = frozenset(keywords) & frozenset(COMMON_SETTINGS)
    unlisted = sorted(frozenset(keywords) - reads - listed)
    if unlisted:
        raise ArgumentError(
            f"keyword {unlisted[0]!r} of layer {name!r} is neither a setting that kinds share "
            f"({', '.join(COMMON_SETTINGS)}) nor among its options: give a LayerOption({unlisted[0]!r}, …)"
        )
    return reads


def layer_kind(name: str) -> LayerKind:
    """Return the kind called `name`.

    Raises:
        ArgumentError: there is none; the message names the nearest.
    """
    if name not in _KINDS:
        raise ArgumentError(unknown_name("layer", name, _KINDS))
    return _KINDS[name]


def available_layers() -> list[str]:
    """Return the names of all registered layer kinds, in the order of their registration."""
    return list(_KINDS)
