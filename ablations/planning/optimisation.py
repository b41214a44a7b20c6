"""An optimisation is a group of trainings for which an optimiser proposes values of the same factors.

There are two kinds: the `tuning` of the nuisance factors of a variant, and the `search` over the parts of a network.
Everything is computed from its arguments; `runners` asks Optuna for the values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ablations.errors import SpecError
from ablations.spec.factors import Factor, proposed_settings, resolve_proposed
from ablations.spec.fingerprint import digest, trial_fingerprint
from ablations.spec.settings import DEFAULTS, Settings, merge, unread
from ablations.spec.trial import TrialSpec

OptimisationKind = Literal["tuning", "search"]

TUNING_SEED = 20_000
"""The seed of all tuning. No variant's repeat and no canary has it, so that no training counts that was chosen by."""

SEARCH_SEED = 30_000
"""The trial in slot s of a search has this seed plus s, so that no seed favours some settings."""

_FIRST_SEEDS: Mapping[OptimisationKind, int] = {"tuning": TUNING_SEED, "search": SEARCH_SEED}

_REPEAT_SEEDS = 1_000_000
"""The r-th repeat of a trial has its seed plus r times this."""

_VERSION = 1
"""Part of every group's fingerprint: raised when trials are proposed or stopped by other rules."""

_LOOKED_AT_PER_TRIAL = 10
_LOOKED_AT_LEAST = 1000


@dataclass(frozen=True)
class Optimisation:
    """The trainings that differ only in the proposed values of some factors.

    Attributes:
        fingerprint: Its fingerprint; rows of tables with the same training and the same factors share one.
        spec: The training without a proposal, with the seed of any of its trials.
        general: General settings over the defaults, also those that only a proposal makes read.
        changes: Settings of a row over these.
    """

    kind: OptimisationKind
    fingerprint: str
    # Not compared: a worker knows only the spec of its own trial. The fingerprint tells other trainings apart.
    spec: TrialSpec = field(compare=False)
    general: Settings
    changes: Settings
    factors: Mapping[str, Factor]

    @classmethod
    def make(
        cls,
        kind: OptimisationKind,
        spec: TrialSpec,
        general: Settings,
        changes: Settings,
        factors: Mapping[str, Factor],
    ) -> Optimisation:
        """Return an optimisation with its fingerprint: of its factors, and of the training before and at each end.

        Each choice is tried, as it may bring in settings that nothing reads without it.

        Raises:
            SpecError: If a choice does not fit together with the rest.
        """
        spec = spec.model_copy(update={"seed": _FIRST_SEEDS[kind]})
        unnamed = cls(kind, "", spec, general, changes, factors)
        choices: dict[str, list[str]] = {}
        for name, specs in unnamed.ends().items():
            choices[name] = [trial_fingerprint(end) for end in specs]
        described = {name: factor.model_dump(mode="json") for name, factor in factors.items()}
        basis = {"version": _VERSION, "kind": kind, "trial": trial_fingerprint(spec), "factors": described}
        if kind == "tuning" and unnamed.is_countable:
            # Before, a trial could be spent on settings that had been tried. In a search it had another seed at least.
            basis["each"] = "once"
        return cls(kind, digest({**basis, "choices": choices}), spec, general, changes, factors)

    def resolve(self, values: Mapping[str, Any], seed: int) -> TrialSpec:
        """Return the spec of the training with proposed `values`.

        Raises:
            SpecError: If they do not fit together with the rest.
        """
        return resolve_proposed(self.general, self.changes, proposed_settings(self.factors, values), seed)

    def ends(self) -> dict[str, list[TrialSpec]]:
        """Return the training with each choice of a factor, or with each end of its range, by factor.

        Raises:
            SpecError: If one of these values does not fit together with the rest.
        """
        ends: dict[str, list[TrialSpec]] = {}
        for name, factor in self.factors.items():
            for value in factor.ends:
                try:
                    ends.setdefault(name, []).append(self.resolve({name: value}, self.spec.seed))
                except SpecError as error:
                    settings = ", ".join(map(str, factor.settings(name, value).values()))
                    raise SpecError(f"factor {name}, at {settings}: {error}") from None
        return ends

    def seed_of(self, slot: int, repeat: int = 0) -> int:
        """Return the seed of the trial in a slot, or of a repeat (from 1) of it."""
        # Trials of a tuning share their seed, as they are compared with each other alone.
        if self.kind == "tuning":
            slot = 0
        return _FIRST_SEEDS[self.kind] + slot + repeat * _REPEAT_SEEDS

    @cached_property
    def resolved_settings(self) -> dict[str, Any]:
        """The settings before any proposal, those that nothing reads left out."""
        values = merge([self.general, self.changes])
        reasons = unread(values)
        return {key: value for key, value in values.items() if key not in reasons and value is not None}

    @property
    def base(self) -> dict[str, Any]:
        """The values that the factors have before any proposal."""
        return {name: self.resolved_settings[name] for name in self.factors}

    @property
    def is_countable(self) -> bool:
        """True if the values of all factors can be listed: choices, options and ranges of whole numbers."""
        return all(factor.labels is not None or factor.is_whole(name) for name, factor in self.factors.items())

    def training_of(self, values: Mapping[str, Any]) -> str | None:
        """Return the fingerprint of the training with `values` and seed 0; `None` if they do not fit together."""
        try:
            return trial_fingerprint(self.resolve(values, seed=0))
        except SpecError:
            return None

    def distinct_trainings(self, limit: int) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Yield values of countable factors and the fingerprint of their training, each distinct training once.

        Two combinations may be one training, if a value of one factor leaves another factor unread.

        Args:
            limit: Number of combinations that are looked at; there may be far too many for all.
        """
        seen: set[str] = set()
        ranges = [_listed(name, factor) for name, factor in self.factors.items()]
        for combination in itertools.islice(_product(ranges), limit):
            values = dict(zip(self.factors, combination, strict=True))
            training = self.training_of(values)
            if training is not None and training not in seen:
                seen.add(training)
                yield values, training

    def distinct(self, budget: int) -> int | None:
        """Return the number of distinct trainings if it is less than `budget`, otherwise `None`.

        It is `None` too if there are so many combinations that not all were looked at.
        """
        if not self.is_countable:
            return None
        limit = max(_LOOKED_AT_LEAST, _LOOKED_AT_PER_TRIAL * budget)
        combinations = 1
        for name, factor in self.factors.items():
            # Capped, as a product of many ranges has no use beyond "too many".
            combinations = min(combinations * len(_listed(name, factor)), limit + 1)
        if combinations > limit:
            return None
        count = len(list(itertools.islice(self.distinct_trainings(limit), budget)))
        if count == budget:
            return None
        # Where nothing fits together the first trial is made all the same, and says why.
        return max(1, count)


def slot_fingerprint(group: str, slot: int, repeat: int = 0) -> str:
    """Return the fingerprint of the trial in a slot of a group, or of its `repeat`-th repeat (from 1)."""
    basis: dict[str, Any] = {"kind": "proposed", "group": group, "slot": slot}
    if repeat:
        basis["repeat"] = repeat
    return digest(basis)


def over_defaults(layers: list[Settings]) -> dict[str, Any]:
    """Return the settings of merged layers that differ from the defaults."""
    return {key: value for key, value in merge(layers).items() if value != DEFAULTS[key]}


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
