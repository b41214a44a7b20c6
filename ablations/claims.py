"""This module describes published findings as data: the variants that a finding compares, the direction, the margin.

A claim is about our runs. `reports.analysis.claims` decides whether they bear it out; the published numbers are printed
beside. Two of the three kinds of contrast are judged by the size of interest, which belongs to the study.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ablations.spec.parts import Frozen

ContrastKind = Literal["better", "at_least_as_good", "same"]
"""The statement about the difference better − worse: beyond a margin, above −size, or within ± size of interest.

The second is known as non-inferiority, the third as equivalence.
"""


class Contrast(Frozen):
    """A statement about the mean over the variants in `better` minus the mean over those in `worse`.

    Attributes:
        better: Names of variants.
        worse: Names of variants; none compares `better` with zero.
        kind: `better` states a difference beyond `margin`; `at_least_as_good` that `better` falls short by less than
            the study's size of interest, if at all; `same` that the two differ by less than that.
        margin: In the unit of the study's metric, for `better` only; below zero, it may fall short by less than that.
    """

    better: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    worse: Annotated[tuple[str, ...], Field(strict=False)] = ()
    kind: ContrastKind = "better"
    margin: float = 0.0

    @model_validator(mode="after")
    def _compares_two_sides(self) -> Self:
        for name in self.better:
            if name in self.worse:
                raise ValueError(f"variant {name!r} is on both sides of a contrast. Leave it out on one.")
        return self

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if self.kind != "better" and self.margin:
            raise ValueError(
                f"a contrast of kind {self.kind!r} has no margin, found {self.margin:g}. It is judged by the study's "
                "size_of_interest: set that, or make the contrast one of kind 'better'."
            )
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """Every variant that is compared."""
        return (*self.better, *self.worse)


class Claim(Frozen):
    """A published finding: every one of its contrasts must hold.

    Attributes:
        name: Short name, unique in the study.
        statement: The finding in one sentence, in our words.
        contrasts: What must hold in our runs for it to be reproduced.
        primary: Whether the study stands or falls with it. A study has one primary claim, which is its first if none
            says so; the others are exploratory. The primary claims of a report are corrected for each other.
        equal_size: Whether the finding is about networks of about as many parameters, which is then checked.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    statement: Annotated[str, Field(min_length=1, max_length=500)]
    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1, strict=False)]
    primary: bool = False
    equal_size: bool = False

    @property
    def variants(self) -> tuple[str, ...]:
        """Every variant that one of its contrasts compares, each once."""
        # A dictionary keeps the order of the contrasts, a set would not.
        variants: dict[str, None] = {}
        for contrast in self.contrasts:
            variants |= dict.fromkeys(contrast.variants)
        return tuple(variants)

    def contrasts_between(self, variants: Collection[str]) -> tuple[Contrast, ...]:
        """Return the contrasts that some variants suffice for: a preset may leave variants out."""
        return tuple(contrast for contrast in self.contrasts if set(contrast.variants) <= set(variants))


def better_than(better: str, *worse: str, margin: float = 0.0) -> tuple[Contrast, ...]:
    """Return one contrast per variant in `worse`: `better` beats each of them by more than `margin`."""
    return tuple(Contrast(better=(better,), worse=(name,), margin=margin) for name in worse)


def worse_than(worse: str, *better: str, margin: float = 0.0) -> tuple[Contrast, ...]:
    """Return one contrast per variant in `better`: each of them beats `worse` by more than `margin`."""
    return tuple(Contrast(better=(name,), worse=(worse,), margin=margin) for name in better)


def at_least_as_good_as(better: str, *others: str) -> tuple[Contrast, ...]:
    """Return one contrast per variant in `others`: `better` falls short of each by less than the size of interest."""
    return tuple(Contrast(better=(better,), worse=(name,), kind="at_least_as_good") for name in others)


def same_as(variant: str, *others: str) -> tuple[Contrast, ...]:
    """Return one contrast per variant in `others`: `variant` differs from each by less than the size of interest."""
    return tuple(Contrast(better=(variant,), worse=(name,), kind="same") for name in others)
