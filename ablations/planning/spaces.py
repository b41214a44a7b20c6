"""The trainings that factors can propose: whether they can be counted, and each of them once.

Two proposals may be one training, where a value of one factor leaves another one unread. Pure.
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
    """Whether the values of all factors can be listed: choices, options and ranges of whole numbers."""
    return all(factor.labels is not None or factor.is_whole(name) for name, factor in factors.items())


def training_of(general: Settings, own: Settings, factors: Mapping[str, Factor], values: Values) -> str | None:
    """Return the fingerprint of what is trained with proposed values, whatever the seed; `None` if they do not fit."""
    try:
        return trial_fingerprint(resolve_proposed(general, own, settings_of(factors, values), seed=0))
    except SpecError:
        return None


def every_training(
    general: Settings, own: Settings, factors: Mapping[str, Factor], most: int
) -> Iterator[tuple[Values, str]]:
    """Yield values of countable factors, and the fingerprint of what they train, each distinct training once.

    Args:
        general: General settings over the defaults.
        own: What is set over these.
        factors: What is proposed.
        most: How many combinations are looked at; there may be more than can be.
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
    """Return how many distinct trainings there are if they are fewer than `budget`, otherwise `None`.

    `None` too if combinations are so many that they were not all looked at.
    """
    if not is_countable(factors):
        return None
    most = max(_LOOKED_AT_LEAST, _LOOKED_AT_PER_TRIAL * budget)
    if _combinations(factors, most) > most:
        return None
    count = sum(1 for _ in itertools.islice(every_training(general, own, factors, most), budget))
    # Where nothing fits together the first trial is made all the same, and says why.
    return max(1, count) if count < budget else None


def _combinations(factors: Mapping[str, Factor], most: int) -> int:
    count = 1
    for name, factor in factors.items():
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
        for rest in _product(ranges[1:]):
            yield (value, *rest)
