"""This module lists the layer kinds that a spec may mention, and the settings that each kind reads.

`ablations` imports no torch, so it cannot ask `dyconv`. A test compares this list with the registry there; a plug-in's
kinds are added when it is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ablations.errors import UnknownNameError

Value = bool | int | float | str


@dataclass(frozen=True)
class LayerOption:
    """An option of one layer kind, the setting `model.options.<name>`; its type is that of `default`.

    Attributes:
        low, high: The range of a number, both ends included.
        choices: The values of a text; empty if any will do.
        added_later: Whether the kind had results before it had this option. A spec leaves the option out at its
            default, so that the fingerprints of those results hold.
    """

    name: str
    default: Value
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    added_later: bool = False

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
        cannot_replace: Convolutions that stay static wherever `model.where` means them, in words; empty if none.
    """

    title: str
    reads: frozenset[str] = frozenset()
    options: tuple[LayerOption, ...] = ()
    cannot_replace: str = ""


_ALL_SHARED = frozenset({"where", "num_kernels", "reduction", "normalization", "aggregation", "temperature"})

LAYERS: dict[str, LayerKind] = {
    "static": LayerKind(title=""),
    "dynamic": LayerKind(title="DY-", reads=_ALL_SHARED),
    # Its class takes another aggregation too, but no training of it has ever had one.
    "condconv": LayerKind(
        title="CondConv-",
        reads=frozenset({"where", "num_kernels"}),
        options=(LayerOption("share_routing", False, added_later=True),),
    ),
    "odconv": LayerKind(
        title="OD-",
        reads=frozenset({"where", "num_kernels", "aggregation", "temperature"}),
        options=(
            LayerOption("hidden_ratio", 0.0625, low=0.0, high=1.0),
            LayerOption("least_hidden", 16, low=1, high=4096),
        ),
    ),
    "dcd": LayerKind(
        title="DCD-",
        reads=frozenset({"where", "aggregation"}),
        cannot_replace="convolutions with groups (depthwise ones)",
    ),
    "partly_dynamic": LayerKind(
        title="Part-DY-", reads=_ALL_SHARED, options=(LayerOption("share", 0.5, low=0.001, high=1.0),)
    ),
    # A network that comes with dynamic layers of its own, such as timm's CondConv networks, is taken as it is.
    "adopted": LayerKind(title=""),
}
"""Layer kinds by name."""

BUILT_IN_LAYERS = frozenset(LAYERS)
"""The kinds that are the project's own, whatever plug-ins add."""


@dataclass(frozen=True)
class LayersThatRead:
    """The layer kinds that read a shared setting, also those that plug-ins add later."""

    setting: str

    def __contains__(self, layer: object) -> bool:
        # Asked for every row of a plan, so without a list of all kinds. A file may name a list as its layer.
        kind = LAYERS.get(layer) if isinstance(layer, str) else None
        return kind is not None and self.setting in kind.reads

    def __iter__(self) -> Iterator[str]:
        return (name for name, kind in LAYERS.items() if self.setting in kind.reads)


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
