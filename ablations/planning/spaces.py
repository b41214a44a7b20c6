"""This module lists and counts the distinct trainings that factors can propose.

Two proposals may be one training if a value of one factor leaves another one unread. Everything is computed from its
arguments. Tuning and searches use it to stop when all settings have been tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ablations.errors import SpecError
from ablations.spec.factors import Factor, resolve_proposed, settings_of
from ablations.spec.fingerprint import trial_fingerprint
from ablations.spec.settings import Settings

Values = Mapping[str, Any]

_LOOKED_AT_PER_TRIAL = 10
_LOOKED_AT_LEAST = 1000


def is_countable(factors: Mapping[str, Factor]) -> bool:
    """Return True if the values of all factors can be listed: choices, options and ranges of whole numbers."""
    return all(factor.labels is not None or factor.is_whole(name) for name, factor in factors.items())


def training_of(general: Settings, own: Settings, factors: Mapping[str, Factor], values: Values) -> str | None:
    """Return the fingerprint of the training with proposed values and seed 0; `None` if they do not fit together."""
    try:
        return trial_fingerprint(resolve_proposed(general, own, settings_of(factors, values), seed=0))
    except SpecError:
        return None


def every_training(
    general: Settings, own: Settings, factors: Mapping[str, Factor], most: int
) -> Iterator[tuple[Values, str]]:
    """Yield values of countable factors and the fingerprint of their training, each distinct training once.

    Args:
        general: General settings over the defaults.
        own: Settings over these.
        factors: The factors whose values are combined.
        most: Number of combinations that are looked at; there may be far too many for all.
    """
    seen: set[str] = set()
    ranges = [_listed(name, factor) for name, factor in factors.items()]
    for combination in itertools.islice(_product(ranges), most):
        values = dict(zip(factors, combination, strict=True))
        training = training_of(general, own, factors, values)
        if training is not None and training not in seen:
            seen.add(training)
            yield values, training


def trials_there_are(general: Settings, own: Settings, factors: Mapping[str, Factor], budget: int) -> int | None:
    """Return the number of distinct trainings if it is less than `budget`, otherwise `None`.

    It is `None` too if there are so many combinations that not all were looked at.
    """
    if not is_countable(factors):
        return None
    limit = max(_LOOKED_AT_LEAST, _LOOKED_AT_PER_TRIAL * budget)
    if _combinations(factors, limit) > limit:
        return None
    count = sum(1 for _ in itertools.islice(every_training(general, own, factors, limit), budget))
    # Where nothing fits together the first trial is made all the same, and says why.
    return max(1, count) if count < budget else None


def _combinations(factors: Mapping[str, Factor], most: int) -> int:
    count = 1
    for name, factor in factors.items():
        # Capped, as a product of many ranges has no use beyond "too many".
        count = min(count * len(_listed(name, factor)), most + 1)
    return count


def _listed(name: str, factor: Factor) -> tuple[Any, ...] | range:
    if factor.labels is not None:
        return factor.labels
    low, high = factor.ends
    return range(int(low), int(high) + 1)


def _product(ranges: list[tuple[Any, ...] | range]) -> Iterator[tuple[Any, ...]]:
    """Yield all combinations as `itertools.product` does, which would hold every range in memory first."""
    if not ranges:
        yield ()
        return
    for value in ranges[0]:
        for tail in _product(ranges[1:]):
            yield (value, *tail)
