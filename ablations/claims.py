"""Published findings as data: which variants a finding compares, in which direction, by how much.

A claim is about our runs. Whether they bear it out is decided in `reports.claims`; the published numbers stand beside.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ablations.spec import Frozen


class Contrast(Frozen):
    """The mean over the variants in `better` exceeds the mean over those in `worse` by more than `margin`.

    Attributes:
        better: Names of variants.
        worse: Names of variants; none compares `better` with zero.
        margin: In the unit of the study's metric; below zero, `better` may fall short by less than that.
    """

    better: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    worse: Annotated[tuple[str, ...], Field(strict=False)] = ()
    margin: float = 0.0

    @model_validator(mode="after")
    def _compares_two_sides(self) -> Self:
        for name in self.better:
            if name in self.worse:
                raise ValueError(f"variant {name!r} is on both sides of a contrast. Leave it out on one.")
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
        equal_size: Whether the finding is about networks of about as many parameters, which is then checked.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    statement: Annotated[str, Field(min_length=1, max_length=500)]
    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1, strict=False)]
    equal_size: bool = False

    @property
    def variants(self) -> tuple[str, ...]:
        """Every variant that one of its contrasts compares, each once."""
        return tuple(dict.fromkeys(name for contrast in self.contrasts for name in contrast.variants))


def better_than(better: str, *worse: str, margin: float = 0.0) -> tuple[Contrast, ...]:
    """Returns one contrast per variant in `worse`: `better` beats each of them by more than `margin`."""
    return tuple(Contrast(better=(better,), worse=(name,), margin=margin) for name in worse)


def worse_than(worse: str, *better: str, margin: float = 0.0) -> tuple[Contrast, ...]:
    """Returns one contrast per variant in `better`: each of them beats `worse` by more than `margin`."""
    return tuple(Contrast(better=(name,), worse=(worse,), margin=margin) for name in better)
