"""This module defines the parts of a study: its variants, the networks it inspects, and its form at a preset."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from ablations.errors import UnknownNameError
from ablations.spec.parts import Frozen, Intervention
from ablations.spec.settings import all_factors, checked_changes


class MisplacedError(ValueError):
    """An error in one part of a study; `location` leads there by field names and indices."""

    def __init__(self, location: tuple[str | int, ...], message: str) -> None:
        # Kept here, since pydantic knows the way to the whole study and no further.
        self.location = location
        super().__init__(message)


def _printable(text: str) -> str:
    for character in text:
        # Control characters, and surrogates, which stand for bytes that are no text.
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(f"contains the control character U+{ord(character):04X}. Leave it out.")
    if not text.strip():
        raise ValueError("is blank. Give it a name.")
    return text


def _without_colon(name: str) -> str:
    # A row is known as "network: variant"; a colon would let two rows share one name.
    if ":" in name:
        raise ValueError(f"the name of a network has no colon, found {name!r}")
    return name


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Changes = Annotated[dict[str, Any], AfterValidator(checked_changes)]
"""Settings by their dotted names; nested ones are flattened."""
Reason = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]


class _Changing(Frozen):
    name: Name
    label: str | None = None
    changes: Changes = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label that a table prints."""
        return self.label or self.name


class InspectedNetwork(_Changing):
    """A trained network that an evaluation-only study looks into; its changes come before the variant's."""

    name: Annotated[Name, AfterValidator(_without_colon)]


class Variant(_Changing):
    """One row of a study's table: changes to the training, an intervention on the trained network, or both.

    Attributes:
        intervention: The evaluation-only change, or `None` to evaluate the network as it was trained.
        cells: The texts of this row in the study's `columns`, if it has any.
        published: Key of the row of the study's published table; the variant's own name if `None`.
        differs_in: The factors in which it differs from the reference, where they are more than one: settings, groups
            of settings, or `intervention`. Whatever else is found to differ is a lint.
    """

    intervention: Intervention | None = None
    cells: Annotated[tuple[str, ...], Field(strict=False)] = ()
    published: str | None = None
    differs_in: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @field_validator("differs_in")
    @classmethod
    def _are_factors(cls, factors: tuple[str, ...]) -> tuple[str, ...]:
        for factor in factors:
            if factor not in all_factors():
                raise ValueError(str(UnknownNameError("factor", factor, all_factors())))
        return factors

    @property
    def published_key(self) -> str:
        """The row of the published table beside which a report prints this variant."""
        return self.published or self.name


class Scale(Frozen):
    """The form of a study at one preset: cut down where it takes too long, or with more seeds where they are cheap.

    Attributes:
        variants: Names of the rows that are kept, or `None` for all.
        baseline: Settings over those of the study.
        rows: Settings of single rows at this preset, by their names, under the rows' own changes; for example the
            recipe that a network is trained with.
        seeds: Repeats per variant, or `None` for the preset's.
    """

    variants: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    baseline: Changes = Field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seeds: Annotated[int, Field(ge=1, le=1000)] | None = None

    @field_validator("rows")
    @classmethod
    def _rows_are_settings(cls, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: checked_changes(changes) for name, changes in rows.items()}
