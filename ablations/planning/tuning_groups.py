"""This module finds the nuisance factors to tune for a row of a table; rows that train the same share one tuning.

The results of tuning are in `ablations.planning.tuned_values`, the plan of a tuning in
`ablations.planning.optimisation_plans`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablations.errors import SpecError, TuningError
from ablations.invocation import as_named, suggested_command
from ablations.planning.nodes import ProposedNode
from ablations.planning.request import Request
from ablations.planning.rows import Row, layers
from ablations.planning.spaces import is_countable, trials_there_are
from ablations.planning.tuned_values import TunedValues, TunedVariant
from ablations.spec.factors import Factor, default_nuisance, plain, resolve_proposed
from ablations.spec.fingerprint import digest, trial_fingerprint
from ablations.spec.settings import DEFAULTS, Settings, merge, unread
from ablations.spec.trial import TrialSpec

TUNING_SEED = 20_000
"""The seed of all tuning. No variant's repeat and no canary has it, so that no training counts that was chosen by."""

_VERSION = 1
"""Part of every group's fingerprint: raised when trials are proposed or stopped by other rules."""

_SHOWN = 3
"""Number of changed settings that a message names."""


@dataclass(frozen=True)
class Tuning:
    """One group of a tuning: a training without its seed, the factors proposed for it, and the rows that share it.

    Attributes:
        fingerprint: Fingerprint of the group; rows with the same training and the same factors have the same.
        spec: The training before it is tuned, with the seed of tuning.
        general: General settings over the defaults.
        own: Settings of the row itself.
        factors: The factors that are tuned.
        serves: The keys of the rows that share it, by study.
    """

    fingerprint: str
    spec: TrialSpec
    general: Settings
    own: Settings
    factors: Mapping[str, Factor]
    serves: dict[str, list[str]] = field(default_factory=dict, compare=False)

    @property
    def base(self) -> dict[str, Any]:
        """The values that the factors have before they are tuned."""
        values = self.resolved_settings
        return {name: values[name] for name in self.factors}

    @property
    def resolved_settings(self) -> dict[str, Any]:
        """The settings before tuning, those that nothing reads left out."""
        values = merge([self.general, self.own])
        reasons = unread(values)
        return {key: value for key, value in values.items() if key not in reasons and value is not None}

    def distinct(self, budget: int) -> int | None:
        """Return the number of distinct settings to try, or `None` if that is not less than the budget."""
        return trials_there_are(self.general, self.own, self.factors, budget)

    def nodes(self, budget: int) -> Iterator[ProposedNode]:
        """Yield the trainings of the group, one per trial of the budget, and no more than there are distinct ones."""
        for slot in range(self.distinct(budget) or budget):
            key = slot_fingerprint(self.fingerprint, slot)
            yield ProposedNode(key, self.spec, self.fingerprint, slot, self.general, self.own, self.factors)


def slot_fingerprint(group: str, slot: int) -> str:
    """Return the fingerprint of one trial of a group."""
    return digest({"kind": "proposed", "group": group, "slot": slot})


def tuning_of(row: Row, request: Request, spec: TrialSpec) -> Tuning | None:
    """Return the tuning of a row that resolves to `spec`, or `None` if it trains nothing or has no factor.

    Raises:
        SpecError: If a choice of a factor does not fit together with the rest.
    """
    if row.study.is_about_cost:
        return None
    general = {key: value for key, value in merge(layers(row, request)).items() if value != DEFAULTS[key]}
    factors = _factors(row, request, spec)
    if not factors:
        return None
    spec = spec.model_copy(update={"seed": TUNING_SEED})
    group = group_fingerprint("tuning", spec, general, row.own, factors)
    return Tuning(group, spec, general, row.own, factors, {row.study.name: [row.key]})


def _factors(row: Row, request: Request, spec: TrialSpec) -> dict[str, Factor]:
    declared = row.study.nuisance
    if declared is None:
        # The settings that variants set are the question; to tune them would answer another one.
        return {key: f for key, f in default_nuisance(spec).items() if key not in row.study.scientific}
    # A factor counts only for the rows that read it: a static network has no temperature to tune.
    reasons = unread(merge([*layers(row, request), row.own]))
    return {key: factor for key, factor in declared.items() if key not in reasons}


def check_nuisance(rows: Sequence[Row], request: Request) -> None:
    """Raise `SpecError` for a nuisance factor that no row of its study reads."""
    by_study: dict[str, list[Row]] = {}
    for row in rows:
        if row.study.nuisance:
            by_study.setdefault(row.study.name, []).append(row)
    for own_rows in by_study.values():
        study = own_rows[0].study
        values = [merge([*layers(row, request), row.own]) for row in own_rows]
        for key in study.nuisance or {}:
            reasons = [unread(of_row).get(key) for of_row in values]
            if all(reasons):
                raise SpecError(f"study {study.name!r}: nothing reads the nuisance factor {key}: {reasons[0]}.")


def group_fingerprint(
    kind: str, spec: TrialSpec, general: Settings, own: Settings, factors: Mapping[str, Factor]
) -> str:
    """Return the fingerprint of an optimisation: of its factors, and of the training before and under each choice.

    Each choice is tried, as it may bring in settings that nothing reads without it.

    Raises:
        SpecError: If a choice does not fit together with the rest.
    """
    chosen = {
        name: [trial_fingerprint(_chosen(name, general, own, values, spec.seed)) for values in factor.every(name)]
        for name, factor in factors.items()
    }
    described = {name: factor.model_dump(mode="json") for name, factor in factors.items()}
    basis: dict[str, Any] = {"version": _VERSION, "kind": kind, "trial": trial_fingerprint(spec), "factors": described}
    if kind == "tuning" and is_countable(factors):
        # Before, a trial could be spent on settings that had been tried. In a search it had another seed at least.
        basis["each"] = "once"
    return digest({**basis, "choices": chosen})


def _chosen(name: str, general: Settings, own: Settings, values: Settings, seed: int) -> TrialSpec:
    try:
        return resolve_proposed(general, own, values, seed)
    except SpecError as error:
        raise SpecError(f"factor {name}, at {', '.join(map(str, values.values()))}: {error}") from None


def find_tuned(values: TunedValues, tuning: Tuning, preset: str) -> TunedVariant:
    """Return the result of tuning the training of a row.

    Raises:
        TuningError: If it has not been tuned, or its settings have changed since; with what to do.
    """
    entry = values.get(tuning.fingerprint)
    if entry is not None:
        return entry
    # `tuning` was made for one row, so it serves one study and one key.
    (study, (variant, *_)), *_ = tuning.serves.items()
    earlier = values.of_variant(study, preset, variant)
    tune = f"Tune it: {suggested_command('tune', [as_named(study)], preset=preset)}"
    location = f"study {study!r}, variant {variant!r}"
    if not earlier:
        raise TuningError(f"{location} has not been tuned at preset {preset} (looked in {values.folder}). {tune}")
    changed = _changes(earlier[-1], tuning)
    raise TuningError(f"{location} has been tuned before its settings changed: {changed}. {tune}")


def _changes(entry: TunedVariant, tuning: Tuning) -> str:
    settings = plain(tuning.resolved_settings)
    keys = [key for key in sorted({*settings, *entry.settings}) if settings.get(key) != entry.settings.get(key)]
    listed = [f"{key} was {entry.settings.get(key)!r:.40} and is {settings.get(key)!r:.40}" for key in keys[:_SHOWN]]
    if len(keys) > _SHOWN:
        listed.append(f"and {len(keys) - _SHOWN} more")
    if listed:
        return "; ".join(listed)
    # No setting differs, yet the fingerprint does, so something else in it has changed.
    if entry.factors != tuning.factors:
        return "its nuisance factors or their ranges are others"
    return "the data, a plug-in or the code's results have"


def apply(entry: TunedVariant, tuning: Tuning) -> TrialSpec:
    """Return the spec of a row's training with its tuned values, with seed 0.

    Raises:
        TuningError: If the values are not those of the factors that are tuned.
    """
    values = entry.values
    wrong = [key for key in {*values, *tuning.factors} if key not in values or key not in tuning.factors]
    outside = [key for key in values if key in tuning.factors and not tuning.factors[key].contains(values[key])]
    if wrong or outside:
        rule = f"values of {', '.join(tuning.factors)}" if wrong else f"{outside[0]} within its range"
        raise TuningError(f"the tuned values of {entry.variant!r} are {values!r:.200}, expected {rule}. Tune it again.")
    try:
        return resolve_proposed(tuning.general, tuning.own, values, seed=0)
    except SpecError as error:
        raise TuningError(f"the tuned values of {entry.variant!r} do not fit: {error}. Tune it again.") from None
