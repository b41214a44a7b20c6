"""This module defines a study of results that were measured elsewhere, by any code and in any field.

Its variants are names: what they change is known to whoever made the runs. So it has no settings, no presets and no
plan, and it is compared, told and judged like any other study. `ablations.files.foreign_file` reads it from YAML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ablations.claims import Claim
from ablations.metrics import POINTS, MetricFacts
from ablations.published import PublishedTable, PublishedValue
from ablations.spec.parts import Frozen, PositiveFloat
from ablations.study import Study
from ablations.variants import MisplacedError, Name, Text, Variant

PER_CENT, SHARE = "per cent", "share"
"""The units whose values have a range; any other unit is a word that is printed behind them."""

_SPELLINGS = {"%": PER_CENT, "percent": PER_CENT, "percentage": PER_CENT, "fraction": SHARE}
_USUAL_SIZES = {PER_CENT: 1.0, SHARE: 0.01}
_DECIMALS = {PER_CENT: 2, SHARE: 4}
_DIGITS = 4
"""Significant digits of a value whose unit does not say how many decimals it has."""
_MOST_DECIMALS = 8
_PUBLISHED = "value"
"""The one column of the published numbers of a foreign study."""

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class StatedMetric(Frozen):
    """A metric as a user describes it.

    Attributes:
        name: The column or the tracked metric that holds it.
        label: What a report prints instead of the name.
        unit: `per cent`, `share`, a word that is printed behind values, or empty for a plain number.
        decimals: Those of its values; `None` for as many as the unit or the size of the values suggests.
    """

    name: Name
    label: Name | None = None
    unit: Annotated[str, Field(max_length=40)] = ""
    better: Literal["higher", "lower"] = "higher"
    decimals: Annotated[int, Field(ge=0, le=10)] | None = None

    @field_validator("unit")
    @classmethod
    def _one_spelling(cls, unit: str) -> str:
        return _SPELLINGS.get(unit.strip().lower(), unit.strip())

    def facts(self, values: Sequence[float]) -> MetricFacts:
        """Return the facts about the metric; `values` decide its decimals where nothing else does."""
        suffix = {PER_CENT: "%"}.get(self.unit, self.unit)
        words = self.label or self.name
        if suffix:
            words = f"{words} ({suffix})"
        decimals = self.decimals
        if decimals is None:
            decimals = _DECIMALS.get(self.unit, _suitable_decimals(values))
        unit = {PER_CENT: POINTS, SHARE: "", "": ""}.get(self.unit, f" {self.unit}")
        return MetricFacts(
            words=words,
            heading=words,
            decimals=decimals,
            unit=unit,
            published=_PUBLISHED,
            higher_is_better=self.better == "higher",
            usual_size=_USUAL_SIZES.get(self.unit),
        )


def _suitable_decimals(values: Sequence[float]) -> int:
    """Return the decimals with which the largest of some values has `_DIGITS` significant digits."""
    largest = max(map(abs, values), default=0.0)
    if largest == 0.0:
        return 2
    return min(_MOST_DECIMALS, max(0, _DIGITS - 1 - math.floor(math.log10(largest))))


class StatedVariant(Frozen):
    """A variant as a user names it: what a report prints instead of its name, and its published number."""

    label: Name | None = None
    published: float | None = None


class StatedStudy(Frozen):
    """A study of foreign results as its file states it; the results complete what it leaves out.

    Attributes:
        variants: The rows in their order; without any, all that the results have.
        seeds: The repeats that count; without any, all that the results have.
        published: The source of the published numbers.
    """

    name: Name
    title: Name | None = None
    question: Text | None = None
    reference: Name | None = None
    metric: StatedMetric | None = None
    variants: dict[Name, StatedVariant] = Field(default_factory=dict)
    seeds: Annotated[tuple[Seed, ...], Field(strict=False)] = ()
    size_of_interest: PositiveFloat | None = None
    finding: Text | None = None
    published: Text | None = None
    claims: Annotated[tuple[Claim, ...], Field(strict=False)] = ()


class ForeignStudy(Study):
    """A study whose runs were made elsewhere: its variants are names, and nothing of it can be run.

    Attributes:
        own_facts: The facts about its metric, which can be any.
        unit: The unit of the metric, as `StatedMetric` has it.
        kept_seeds: The repeats that count; empty for all that the results have.
        published_values: The published numbers by variant, in the unit of the metric; `published` is their source.
    """

    own_facts: MetricFacts
    unit: str = ""
    kept_seeds: Annotated[tuple[Seed, ...], Field(strict=False)] = ()
    published_values: dict[str, float] = Field(default_factory=dict)

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, metric: str) -> str:
        # Any name will do: it is that of a column or of a tracked metric, not one of ours.
        return metric

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        for index, claim in enumerate(self.claims):
            if claim.equal_size:
                reason = (
                    "is about the parameters of networks, which nobody knows of results from elsewhere. Leave it out."
                )
                raise MisplacedError(("claims", index, "equal_size"), reason)
        if self.claims and math.isnan(self.smallest_of_interest):
            raise MisplacedError(
                ("claims",),
                "a verdict takes the smallest difference that matters, and nobody can guess it for this metric. Add "
                "size_of_interest, in the unit of the metric.",
            )
        return self

    @property
    def metric_facts(self) -> MetricFacts:
        return self.own_facts

    @property
    def smallest_of_interest(self) -> float:
        """The smallest difference that matters, in the unit of the metric; NaN if nobody has said it."""
        return self.size_of_interest or self.own_facts.usual_size or math.nan

    @property
    def published_table(self) -> PublishedTable | None:
        if not self.published_values:
            return None
        rows = {}
        for name, value in self.published_values.items():
            # Whoever wrote the study vouches for the number.
            rows[name] = {_PUBLISHED: PublishedValue(value=value, confidence="A")}
        return PublishedTable(name=self.name, title=self.title, setting=self.published or "no source given", rows=rows)


def variant_of(name: str, stated: StatedVariant | None) -> Variant:
    """Return the row of a variant that may have been stated."""
    return Variant(name=name, label=stated.label if stated is not None else None)
