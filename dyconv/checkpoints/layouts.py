"""A layout says as data how a project names and shapes the weights of its layers; this module has the registry.

    register_layout(
        Layout(
            name="routers",
            title="layers with a router of two Linear layers",
            recognised_by=("{layer}.router.0.weight",),
            keys=(
                KeyRule("{layer}.router.0.{value}", "{layer}.attention_branch.squeeze.{value}"),
                KeyRule("{layer}.router.2.{value}", "{layer}.attention_branch.excite.{value}"),
                KeyRule("{layer}.experts", "{layer}.weight"),
            ),
        )
    )

In patterns, `{layer}` and `{rest}` stand for any path ("features.3.conv.0"), every other name in braces for one part of
a path ("weight", "3").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from dyconv.errors import CheckpointError, unknown_name

Reshape = Callable[[Tensor, tuple[int, ...]], Tensor]
"""Takes a tensor of a file and the shape that the network has; returns the tensor in that order of dimensions."""

_PATHS = ("layer", "rest")
_FIELD = re.compile(r"\{(\w+)\}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern; a name that occurs twice stands for the same text."""
    parts: list[str] = []
    names: set[str] = set()
    # The parts between fields are text, every second part is the name of a field.
    for index, part in enumerate(_FIELD.split(pattern)):
        if index % 2 == 0:
            parts.append(re.escape(part))
        elif part in names:
            parts.append(f"(?P={part})")
        else:
            names.add(part)
            parts.append(f"(?P<{part}>.+)" if part in _PATHS else f"(?P<{part}>[^.]+)")
    return re.compile("".join(parts))


def fits(pattern: str, key: str) -> bool:
    """Return True if a key fits a pattern, or one of several patterns with `|` between them."""
    return any(_compiled(alternative).fullmatch(key) for alternative in pattern.split("|"))


def renamed(source: str, target: str, key: str) -> str | None:
    """Return a key that fits the pattern `source` in the form `target`; None if it does not fit."""
    match = _compiled(source).fullmatch(key)
    if match is None:
        return None
    return target.format(**match.groupdict())


def _as_matrix(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the (O, C, 1, 1) weight of a pointwise convolution as that of a linear layer."""
    return tensor.flatten(1) if tensor.dim() == 4 and tensor.shape[2:] == (1, 1) else tensor


def _as_pointwise(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the (O, C) weight of a linear layer as that of a pointwise convolution."""
    return tensor[:, :, None, None] if tensor.dim() == 2 else tensor


def _as_stack(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return K kernels (K O, …) that lie one behind the other as (K, O, …)."""
    # Left unchanged where it is no stack: the comparison of shapes says it better.
    if len(shape) < 2 or tensor.dim() < 1 or tensor.shape[0] != shape[0] * shape[1]:
        return tensor
    return torch.unflatten(tensor, 0, shape[:2])


_RESHAPES: dict[str, Reshape] = {
    "none": lambda tensor, shape: tensor,
    "matrix": _as_matrix,
    "pointwise": _as_pointwise,
    "stack": _as_stack,
}


@dataclass(frozen=True)
class KeyRule:
    """The rule for keys that fit `source`: the network calls them `target`.

    `reshape` is "none", "matrix" ((O, C, 1, 1) to (O, C)), "pointwise" ((O, C) to (O, C, 1, 1)), "stack" ((K O, …) to
    (K, O, …)), or a function of a tensor and the network's shape.

    Raises:
        CheckpointError: an unknown reshape, or a target with a name in braces that the source lacks.
    """

    source: str
    target: str
    reshape: str | Reshape = "none"

    def __post_init__(self) -> None:
        if isinstance(self.reshape, str) and self.reshape not in _RESHAPES:
            raise CheckpointError(unknown_name("reshape of a key rule", self.reshape, _RESHAPES))
        _check_fields(self.source, self.target)

    def reshaped(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of a file in the network's order of dimensions; unchanged where the rule does not apply."""
        reshape = self.reshape if callable(self.reshape) else _RESHAPES[self.reshape]
        return reshape(tensor, shape)


@dataclass(frozen=True)
class Layout:
    """The names and shapes of one project's weights, and their places in a network of this package.

    A file has the layout if each pattern of `recognised_by` fits one of its keys (`a|b` is one of two), and none of
    `lacks` does. Each key is first renamed by the first of `paths` that fits it (pairs of patterns for the whole key,
    for networks whose modules have other names), then by the first of `keys`; others keep their names.

    `may_lack` are patterns of this package's keys that all layers may lack together, such as the bias of a squeeze.
    `adapts` lets a network take over what has no setting here: the hidden width of the attention branch and the biases
    of kernels. `is_dynamic` is False for files of static networks. `reads_temperature` says if the layers have a
    softmax, `saves_temperature` if files hold its temperature.

    Raises:
        CheckpointError: no name, or a pair of `paths` with a name in braces in the target that the source lacks.
    """

    name: str
    title: str
    recognised_by: tuple[str, ...]
    keys: tuple[KeyRule, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    lacks: tuple[str, ...] = ()
    may_lack: tuple[str, ...] = ()
    adapts: bool = False
    is_dynamic: bool = True
    reads_temperature: bool = True
    saves_temperature: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise CheckpointError("a layout needs a name")
        for source, target in self.paths:
            _check_fields(source, target)

    def recognises(self, keys: Collection[str]) -> bool:
        """Return True if a file with these keys has this layout."""
        for pattern in self.recognised_by:
            if not any(fits(pattern, key) for key in keys):
                return False
        for pattern in self.lacks:
            if any(fits(pattern, key) for key in keys):
                return False
        # Without patterns the loops above refuse nothing, and the layout would fit every file.
        return bool(self.recognised_by)

    def place_of(self, key: str) -> tuple[str, KeyRule | None]:
        """Return the network's name for a key of a file, and the rule that says so (None if the name stays)."""
        # The rules below read what the first fitting pair gives, so that they need not know other module names.
        for source, target in self.paths:
            path = renamed(source, target, key)
            if path is not None:
                key = path
                break
        for rule in self.keys:
            name = renamed(rule.source, rule.target, key)
            if name is not None:
                return name, rule
        return key, None


def _check_fields(source: str, target: str) -> None:
    missing = sorted(set(_FIELD.findall(target)) - set(_FIELD.findall(source)))
    if missing:
        raise CheckpointError(f"pattern {target!r} has {{{missing[0]}}}, which {source!r} lacks")


_LAYOUTS: dict[str, Layout] = {}


def register_layout(layout: Layout) -> Layout:
    """Make a layout known to `load_checkpoint` and return it. Later ones are tried before earlier ones.

    Raises:
        CheckpointError: there is one of this name.
    """
    if layout.name in _LAYOUTS:
        raise CheckpointError(f"layout {layout.name!r} is registered already: choose another name")
    _LAYOUTS[layout.name] = layout
    return layout


def available_layouts() -> list[str]:
    """Return the names of all registered layouts, in the order of their registration."""
    return list(_LAYOUTS)


def get_layout(name: str) -> Layout:
    """Return the layout called `name`.

    Raises:
        CheckpointError: there is none; the message names the nearest.
    """
    if name not in _LAYOUTS:
        raise CheckpointError(unknown_name("layout", name, _LAYOUTS))
    return _LAYOUTS[name]


def layouts() -> Iterator[Layout]:
    """Return the registered layouts in the order in which they are tried."""
    # The last first, so that a user's layout goes before those of this package.
    return reversed(_LAYOUTS.values())
