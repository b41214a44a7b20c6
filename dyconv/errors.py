"""This module defines the exceptions of the package, and the sentence that they share for an unknown name.

Every error says what was wrong, what was found and what to do. All derive from `DyconvError`, itself a
`ValueError`, so that a caller can catch the package's errors with one clause. Nothing else lives here.
"""

import difflib
from collections.abc import Iterable


class DyconvError(ValueError):
    """Base of every error that this package raises on purpose."""


class ArgumentError(DyconvError):
    """An argument has a value that cannot work with any tensors."""


class ShapeError(DyconvError):
    """Tensors, or a network and its input, do not fit together."""


class AggregationError(DyconvError):
    """An aggregation strategy is unknown, defined twice, or cannot work on this batch."""


class PlacementError(DyconvError):
    """A placement is malformed, needs an input size that was not given, or selects nothing."""


class ConversionError(DyconvError):
    """A network cannot be made dynamic or constant, or an intervention has nothing to act on."""


class ModelError(DyconvError):
    """A backbone is unknown, defined twice, or cannot use an option that was given."""


class LayerCheckError(DyconvError, AssertionError):
    """A layer kind does not do what kinds promise. `report` has all results of its checks as data.

    An AssertionError too, so that a test that checks a layer fails rather than breaks.
    """

    def __init__(self, message: str, report: object) -> None:
        super().__init__(message)
        self.report = report


class CheckpointError(DyconvError):
    """A weight file cannot be read, is of an unknown layout, or does not fit the network; or a layout is malformed."""


def unknown_name(kind: str, name: object, valid_names: Iterable[str]) -> str:
    """Return the message for an unknown `name`: similar valid names first, then all of them."""
    names = sorted(valid_names)
    similar_names = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = ""
    if similar_names:
        hint = f" Did you mean {' or '.join(map(repr, similar_names))}?"
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}."
