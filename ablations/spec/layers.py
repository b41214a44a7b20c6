"""This module lists the layer kinds that a spec may mention, and the settings that each kind reads.

`ablations` imports no torch, so it cannot ask `dyconv`. A test compares this list with the registry there; a plug-in's
kinds are added when it is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ablations.errors import UnknownNameError

Value = bool | int | float | str


@dataclass(frozen=True)
class LayerOption:
    """An option of one layer kind, the setting `model.options.<name>`; its type is that of `default`.

    Attributes:
        low, high: The range of a number, both ends included.
        choices: The values of a text; empty if any will do.
    """

    name: str
    default: Value
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def checked(self, value: Value) -> Value:
        """Return `value` in the type of this option.

        Raises:
            ValueError: If this option cannot have it.
        """
        kind = type(self.default)
        # A whole number will do for a real one; but True, an int in Python, is no number here.
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"must be of type {kind.__name__}, found {value!r}")
        if isinstance(value, int | float) and not isinstance(value, bool) and not self.low <= value <= self.high:
            raise ValueError(f"must be between {self.low:g} and {self.high:g}, found {value!r}")
        if self.choices and value not in self.choices:
            raise ValueError(str(UnknownNameError("value", str(value), self.choices)))
        # Adding 0.0 turns -0.0, which is another JSON text and so another fingerprint, into 0.0.
        return value + 0.0 if isinstance(value, float) else value


@dataclass(frozen=True)
class LayerKind:
    """The facts of a layer kind that planning needs.

    Attributes:
        title: Stands before the name of a network in tables: "DY-".
        reads: The settings that it reads, of those that kinds share: where, num_kernels, reduction, normalization,
            aggregation, temperature.
        options: Its own.
    """

    title: str
    reads: frozenset[str] = frozenset()
    options: tuple[LayerOption, ...] = ()


LAYERS: dict[str, LayerKind] = {
    "static": LayerKind(title=""),
    "dynamic": LayerKind(
        title="DY-",
        reads=frozenset({"where", "num_kernels", "reduction", "normalization", "aggregation", "temperature"}),
    ),
    # Its class takes another aggregation too, but no training of it has ever had one.
    "condconv": LayerKind(title="CondConv-", reads=frozenset({"where", "num_kernels"})),
    # A network that comes with dynamic layers of its own, such as timm's CondConv networks, is taken as it is.
    "adopted": LayerKind(title=""),
}
"""Layer kinds by name."""

BUILT_IN_LAYERS = frozenset(LAYERS)
"""The kinds that are the project's own, whatever plug-ins add."""


def layers_that_read(setting: str) -> tuple[str, ...]:
    """Return the kinds that read a shared setting."""
    return tuple(name for name, kind in LAYERS.items() if setting in kind.reads)


def kinds_by_option() -> Mapping[str, tuple[str, ...]]:
    """Return the names of all options, each with the kinds that have it."""
    kinds: dict[str, tuple[str, ...]] = {}
    for name, kind in LAYERS.items():
        for option in kind.options:
            kinds[option.name] = (*kinds.get(option.name, ()), name)
    return kinds


def option_of(layer: str, name: str) -> LayerOption | None:
    """Return an option of a layer kind; None if the kind has none of that name."""
    for option in LAYERS[layer].options:
        if option.name == name:
            return option
    return None
