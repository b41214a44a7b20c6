"""A placement selects convolutions of a network by role, input resolution, name or depth.

It is a predicate of a layer's description, such as `Role("projection") & ~Depth(0, 0.5)`; `placement_from_dict` gives
the same from data. Nothing here changes a network, or leaves a trace in one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, final

from dyconv.errors import PlacementError, unknown_name
from dyconv.networks.description import LayerInfo
from dyconv.networks.roles import ROLES


class Placement:
    """A set of layers, given by a predicate; combine with & | ~. Abstract: the subclasses here are all there are."""

    def __call__(self, layer: LayerInfo) -> bool:
        """Return True if `layer` belongs to the set."""
        raise NotImplementedError

    def __and__(self, other: "Placement") -> "Placement":
        return All((self, other))

    def __or__(self, other: "Placement") -> "Placement":
        return AnyOf((self, other))

    def __invert__(self) -> "Placement":
        return Not(self)


@final
@dataclass(frozen=True)
class All(Placement):
    """Layers in every one of `parts`; all layers if there are none."""

    parts: tuple[Placement, ...]

    def __call__(self, layer: LayerInfo) -> bool:
        return all(placement(layer) for placement in self.parts)


@final
@dataclass(frozen=True)
class AnyOf(Placement):
    """Layers in at least one of `parts`."""

    parts: tuple[Placement, ...]

    def __call__(self, layer: LayerInfo) -> bool:
        return any(placement(layer) for placement in self.parts)


@final
@dataclass(frozen=True)
class Not(Placement):
    """Layers that are not in `part`."""

    part: Placement

    def __call__(self, layer: LayerInfo) -> bool:
        return not self.part(layer)


@final
@dataclass(frozen=True, init=False)
class Role(Placement):
    """Layers with one of these roles, e.g. `Role("expansion", "projection")`.

    Raises:
        PlacementError: an unknown role; the message names the nearest.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        for name in names:
            if name not in ROLES:
                raise PlacementError(unknown_name("role", name, ROLES))
        # A frozen dataclass with a variadic constructor has to set its field this way.
        object.__setattr__(self, "names", names)

    def __call__(self, layer: LayerInfo) -> bool:
        return layer.role in self.names


@final
@dataclass(frozen=True, init=False)
class Resolution(Placement):
    """Layers whose input has one of these heights in pixels, e.g. `Resolution(14, 7)`.

    Raises:
        PlacementError: a size that is not a positive integer; or, when called, a layer of unknown resolution.
    """

    sizes: tuple[int, ...]

    def __init__(self, *sizes: int) -> None:
        for size in sizes:
            # `True` is an integer of value 1, and no size that anybody means.
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise PlacementError(f"a resolution is a height in pixels, at least 1, got {size!r}")
        object.__setattr__(self, "sizes", sizes)

    def __call__(self, layer: LayerInfo) -> bool:
        # An error and not False: the answer would depend on what was known, not on the network.
        if layer.resolution is None:
            raise PlacementError(
                f"the input resolution of {layer.name!r} is not known: give input_size=(C, H, W), the size of one image"
            )
        return layer.resolution in self.sizes


@final
@dataclass(frozen=True, init=False)
class Name(Placement):
    """Layers whose name fits one of these patterns (* ? [ab]), e.g. `Name("features.1?.*")`."""

    patterns: tuple[str, ...]

    def __init__(self, *patterns: str) -> None:
        for pattern in patterns:
            # A number would raise deep within the matching, without the pattern's name.
            if not isinstance(pattern, str):
                raise PlacementError(f"a name pattern is text, got {pattern!r}")
        object.__setattr__(self, "patterns", patterns)

    def __call__(self, layer: LayerInfo) -> bool:
        # The case counts on every system, unlike in `fnmatch`.
        return any(fnmatchcase(layer.name, pattern) for pattern in self.patterns)


@final
@dataclass(frozen=True)
class Depth(Placement):
    """Layers between two relative depths, both included: 0 is the first convolution, 1 the last.

    Raises:
        PlacementError: not 0 <= start <= end <= 1.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise PlacementError(f"depth needs 0 <= start <= end <= 1, got {self.start!r} and {self.end!r}")

    def __call__(self, layer: LayerInfo) -> bool:
        return self.start <= layer.depth <= self.end


def placement_from_dict(mapping: Mapping[str, Any]) -> Placement:
    """Return the placement that `mapping` describes; several keys must all hold, an empty mapping is every layer.

    Keys: `role`, `resolution`, `name` (a value or a list), `depth` ([start, end]), `any` and `all` (lists of
    mappings), `not` (a mapping).

    Raises:
        PlacementError: an unknown key or role (the message names the nearest), or a value of the wrong kind.
    """
    if not isinstance(mapping, Mapping):
        raise PlacementError(f"a placement is a mapping such as {{role: [projection]}}, got {mapping!r}")
    for key in mapping:
        if key not in _KEYS:
            raise PlacementError(unknown_name("placement key", key, _KEYS))
    # An empty mapping gives `All(())`, which holds for every layer.
    return All(tuple(_KEYS[key](value) for key, value in mapping.items()))


def _listed(value: Any) -> list[Any]:
    """Return a list of one value, or the list that was given."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _parts(value: Any) -> tuple[Placement, ...]:
    """Return the placements of a list of mappings."""
    if not isinstance(value, (list, tuple)):
        raise PlacementError(f"'any' and 'all' take a list of placements, got {value!r}")
    return tuple(placement_from_dict(mapping) for mapping in value)


def _depth(value: Any) -> Placement:
    """Return the placement of a pair [start, end]."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(v, (int, float)) for v in value):
        raise PlacementError(f"depth takes [start, end], two numbers from 0 to 1, got {value!r}")
    return Depth(*value)


_KEYS: dict[str, Callable[[Any], Placement]] = {
    "role": lambda value: Role(*_listed(value)),
    "resolution": lambda value: Resolution(*_listed(value)),
    "name": lambda value: Name(*_listed(value)),
    "depth": _depth,
    "any": lambda value: AnyOf(_parts(value)),
    "all": lambda value: All(_parts(value)),
    "not": lambda value: Not(placement_from_dict(value)),
}


def as_placement(where: Placement | Mapping[str, Any]) -> Placement:
    """Return `where` as a placement, from a placement or its form as data."""
    return where if isinstance(where, Placement) else placement_from_dict(where)


def select_layers(layers: Sequence[LayerInfo], where: Placement | Mapping[str, Any]) -> list[LayerInfo]:
    """Return those of `layers` that `where` selects.

    Raises:
        PlacementError: it selects none of them; the message lists the layers.
    """
    placement = as_placement(where)
    selected = [layer for layer in layers if placement(layer)]
    if not selected:
        listing = "\n".join(f"  {layer}" for layer in layers) or "  (none)"
        raise PlacementError(f"{placement} selects none of these layers:\n{listing}")
    return selected
