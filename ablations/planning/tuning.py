"""This module finds the tuning of a row of a table, and applies its result to the row's training.

The results are read by `ablations.planning.tuned_values`; `ablations.planning.optimisation_plans` plans a tuning.
"""

from __future__ import annotations

from collections.abc import Sequence

from ablations.errors import SpecError, TuningError
from ablations.invocation import as_named, suggested_command
from ablations.planning.optimisation import Optimisation, over_defaults
from ablations.planning.request import Request
from ablations.planning.rows import Row, layers, unread_settings
from ablations.planning.tuned_values import TunedValues, TunedVariant
from ablations.spec.factors import Factor, default_nuisance, plain
from ablations.spec.trial import TrialSpec

_SHOWN = 3
"""Number of changed settings that a message names."""


def tuning_of(row: Row, request: Request, spec: TrialSpec) -> Optimisation | None:
    """Return the tuning of a row that resolves to `spec`, or `None` if it trains nothing or has no factor.

    Raises:
        SpecError: If a choice of a factor does not fit together with the rest.
    """
    if row.study.is_about_cost:
        return None
    factors = _factors(row, request, spec)
    if not factors:
        return None
    return Optimisation.make("tuning", spec, over_defaults(layers(row, request)), row.changes, factors)


def _factors(row: Row, request: Request, spec: TrialSpec) -> dict[str, Factor]:
    declared = row.study.nuisance
    if declared is None:
        # The settings that variants set are the question; to tune them would answer another one.
        return {key: f for key, f in default_nuisance(spec).items() if key not in row.study.scientific}
    # A factor counts only for the rows that read it: a static network has no temperature to tune.
    reasons = unread_settings(row, request)
    return {key: factor for key, factor in declared.items() if key not in reasons}


def check_nuisance(rows: Sequence[Row], request: Request) -> None:
    """Raise `SpecError` for a nuisance factor that no row of its study reads."""
    by_study: dict[str, list[Row]] = {}
    for row in rows:
        if row.study.nuisance:
            by_study.setdefault(row.study.name, []).append(row)
    for name, study_rows in by_study.items():
        unread_by_row = [unread_settings(row, request) for row in study_rows]
        for key in study_rows[0].study.nuisance or {}:
            reasons = [unread_by_key.get(key) for unread_by_key in unread_by_row]
            if all(reasons):
                raise SpecError(f"study {name!r}: nothing reads the nuisance factor {key}: {reasons[0]}.")


def tuned_training(
    row: Row, request: Request, values: TunedValues, spec: TrialSpec
) -> tuple[TrialSpec, TunedVariant | None]:
    """Return the training of a row with its tuned values and seed 0, and the result of its tuning.

    A row that has nothing to tune keeps its training.

    Raises:
        TuningError: If the row has not been tuned, its settings have changed since, or its values are not those of the
            factors that are tuned; with what to do.
    """
    tuning = tuning_of(row, request, spec)
    if tuning is None:
        return spec, None
    entry = values.get(tuning.fingerprint)
    if entry is None:
        raise TuningError(_untuned(row, request, values, tuning))
    _check_values(entry, tuning)
    try:
        return tuning.resolve(entry.values, seed=0), entry
    except SpecError as error:
        raise TuningError(f"the tuned values of {entry.variant!r} do not fit: {error}. Tune it again.") from None


def _untuned(row: Row, request: Request, values: TunedValues, tuning: Optimisation) -> str:
    study, preset = row.study.name, request.preset.name
    remedy = f"Tune it: {suggested_command('tune', [as_named(study)], preset=preset)}"
    location = f"study {study!r}, variant {row.key!r}"
    earlier = values.of_variant(study, preset, row.key)
    if not earlier:
        return f"{location} has not been tuned at preset {preset} (looked in {values.folder}). {remedy}"
    return f"{location} has been tuned before its settings changed: {_changes(earlier[-1], tuning)}. {remedy}"


def _changes(entry: TunedVariant, tuning: Optimisation) -> str:
    settings = plain(tuning.resolved_settings)
    changes = []
    for key in sorted({*settings, *entry.settings}):
        before, after = entry.settings.get(key), settings.get(key)
        if before != after:
            changes.append(f"{key} was {before!r:.40} and is {after!r:.40}")
    if len(changes) > _SHOWN:
        changes[_SHOWN:] = [f"and {len(changes) - _SHOWN} more"]
    if changes:
        return "; ".join(changes)
    # No setting differs, yet the fingerprint does, so something else in it has changed.
    if entry.factors != tuning.factors:
        return "its nuisance factors or their ranges are others"
    return "the data, a plug-in or the code's results have"


def _check_values(entry: TunedVariant, tuning: Optimisation) -> None:
    expected = ""
    if entry.values.keys() != tuning.factors.keys():
        expected = f"values of {', '.join(tuning.factors)}"
    else:
        for key, value in entry.values.items():
            if not tuning.factors[key].contains(value):
                expected = f"{key} within its range"
                break
    if expected:
        raise TuningError(
            f"the tuned values of {entry.variant!r} are {entry.values!r:.200}, expected {expected}. Tune it again."
        )
