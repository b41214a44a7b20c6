"""This module resolves sparse layers of settings into the spec of a trial, one complete training configuration.

Plans make specs with `resolve`; workers and records read them back from JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError, model_validator

from ablations.errors import SpecError
from ablations.spec.parts import DataSpec, Frozen, ModelSpec, Seed, TrainSpec
from ablations.spec.settings import DEFAULTS, explain, merge, nest, unread

if TYPE_CHECKING:
    from ablations.spec.settings import Settings


class TrialSpec(Frozen):
    """One fully resolved training configuration, seed included."""

    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    train: TrainSpec = TrainSpec()
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _blank_what_nothing_reads(cls, raw: Any) -> Any:
        from ablations.spec.settings import blank_unread

        return blank_unread(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        from ablations.spec.settings import check_consistency

        check_consistency(self.data, self.train)
        return self


def settings_of(spec: TrialSpec) -> dict[str, Any]:
    """Return every setting of a trial but its seed, dotted; `None` where nothing reads it, a placement stays whole."""
    return {key: _value_at(spec, key.split(".")) for key in DEFAULTS}


def _value_at(place: Any, path: Iterable[str]) -> Any:
    for name in path:
        place = None if place is None else getattr(place, name)
    return place


def resolve(layers: Iterable[Settings], own: Settings, seed: int) -> TrialSpec:
    """Return the trial that `own` makes of the `layers`.

    Args:
        layers: General settings, the weakest first; what nothing reads among them is dropped.
        own: Settings of a variant, strongest; each must be read.
        seed: The trial's seed.

    Raises:
        SpecError: If a value is invalid or nothing reads a setting in `own`.
    """
    # General settings that nothing reads are dropped in silence, those of the variant are refused: a preset cannot know
    # the variants, but a variant that sets something without effect is a mistake.
    values = merge([*layers, own])
    reasons = unread(values)
    for key in own:
        if key in reasons:
            raise SpecError(f"{key} = {own[key]!r} would be read by nothing: {reasons[key]}.")
    settings = {key: value for key, value in values.items() if key not in reasons}
    try:
        return TrialSpec.model_validate({**nest(settings), "seed": seed})
    except ValidationError as error:
        raise SpecError(explain(error)) from None
