"""This module names objects that are not the user's: those of libraries, and of this project by their original name."""

from __future__ import annotations

import sys
from typing import Any

_COMMON_HOMES = ("builtins", "torch", "torch.nn.functional", "numpy", "math", "operator")
"""Modules in which a function without a usable `__module__` is looked for."""

_ORIGINAL_PREFIXES = {
    "ablations.datasets.builtin.": "ablations.dataset_entries.",
    "ablations.datasets.facts.": "ablations.facts.",
    "ablations.datasets.registry.": "ablations.datasets.",
    "ablations.spec.parts.": "ablations.spec.",
    "ablations.spec.trial.": "ablations.spec.",
    "ablations.stores.": "ablations.",
    "ablations.variants.": "ablations.study.",
    "dyconv.kernels.": "dyconv.",
    "dyconv.layers.condconv.": "dyconv.layers.",
    "dyconv.layers.convolution.": "dyconv.layers.",
    "dyconv.layers.dynamic.": "dyconv.layers.",
    "dyconv.layers.linear.": "dyconv.layers.",
    "dyconv.networks.dry_run.": "dyconv.description.",
    "dyconv.networks.initialisation.": "dyconv.conversion.",
    "dyconv.networks.obstacles.": "dyconv.conversion.",
    "dyconv.networks.roles.": "dyconv.description.",
    "dyconv.networks.": "dyconv.",
    "runners.data.readers.": "runners.data.",
    "runners.data.transforms.Augmentation": "runners.data.batches.Augmentation",
}
"""Present → original prefix of names of the project; the first that fits counts.

Digests use the original name: a move of our code is no change of a user's.
"""


def importable_name(value: Any) -> str:
    """Return the dotted name under which an object of a library can be imported; empty if there is none."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        return ""
    for home in (getattr(value, "__module__", None), *_COMMON_HOMES):
        candidate: Any = sys.modules.get(home) if isinstance(home, str) else None
        if candidate is None:
            continue
        attributes = name.split(".")
        # `torch.relu` calls itself `_VariableFunctionsClass.relu`, but lies in `torch` directly.
        if home in _COMMON_HOMES:
            attributes = attributes[-1:]
        for attribute in attributes:
            candidate = getattr(candidate, attribute, None)
        # The name must lead back to the object: a wrapper may carry the name of what it wraps.
        if candidate is value:
            return original_name(f"{home}.{name}")
    return ""


def original_name(name: str) -> str:
    """Return a dotted name as it was when plug-ins were first identified."""
    for present, original in _ORIGINAL_PREFIXES.items():
        if name.startswith(present):
            return original + name.removeprefix(present)
    return name
