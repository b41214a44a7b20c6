"""This module declares the factorial of a study: its factors with both levels, and the fraction that is trained."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ablations.errors import StudyError, UnknownNameError
from ablations.factorial.design import ALL, NONE, Design, Generator, Term
from ablations.spec.parts import Frozen
from ablations.variants import Changes, MisplacedError, Name, Variant

# One factor has no interaction, and seven factors without a fraction are 128 trainings per seed.
FEWEST_FACTORS, MOST_FACTORS = 2, 6
# Generators write products with `*`, and combinations are called `a+b`: neither sign may be part of a name.
_FACTOR_NAME = re.compile(r"[A-Za-z]\w*")
_ON, _OFF = "✓", "–"
_LEVEL_WORDS = {1: "on", -1: "off"}


class Level(Frozen):
    """One level of a factor: the settings that it stands for, over those of the study.

    Attributes:
        label: The words for it in a table, such as `τ = 1`.
    """

    label: Name | None = None
    changes: Changes = Field(default_factory=dict)


class TwoLevelFactor(Frozen):
    """A part that is off or on.

    Attributes:
        label: The words for it in a table; its name if `None`.
    """

    label: Name | None = None
    off: Level = Level()
    on: Level = Level()


class Factorial(Frozen):
    """Factors whose combinations are the variants of a study: all 2^p of them, or a fraction.

    Attributes:
        factors: Name of each factor → its two levels. In this order they stand in tables.
        fraction: Generators such as `placement = softmax*annealing*kernels`, each of which halves the number of
            combinations. A minus sign behind the equals sign takes the other half.
    """

    factors: dict[str, TwoLevelFactor]
    fraction: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not FEWEST_FACTORS <= len(self.factors) <= MOST_FACTORS:
            raise MisplacedError(
                ("factors",), f"a factorial has {FEWEST_FACTORS} to {MOST_FACTORS} factors, found {len(self.factors)}"
            )
        setters: dict[str, str] = {}
        for name, factor in self.factors.items():
            location = ("factors", name)
            # A combination is called by what is on: with such a factor alone on, it would have the name of another one.
            if not _FACTOR_NAME.fullmatch(name) or name in (NONE, ALL):
                raise MisplacedError(
                    location, f"a factor's name is a word of letters, digits and _, not none or all, found {name!r}"
                )
            if factor.off.changes == factor.on.changes:
                raise MisplacedError(location, f"factor {name!r} is the same on and off. Change a setting in one.")
            # A setting of one level alone counts, too: the other level leaves it to the baseline.
            for setting in {**factor.off.changes, **factor.on.changes}:
                if setting in setters:
                    reason = (
                        f"factors {setters[setting]!r} and {name!r} both set {setting}, which has one value at a time"
                    )
                    raise MisplacedError(location, f"{reason}. Leave it to one of them.")
                setters[setting] = name
        generators = []
        for index, text in enumerate(self.fraction):
            try:
                generators.append(Generator.parse(text, tuple(self.factors)))
            except (StudyError, UnknownNameError) as error:
                raise MisplacedError(("fraction", index), str(error)) from None
        try:
            # Made for its checks alone: main effects that are aliases must be an error of the file, not of a report.
            Design(tuple(self.factors), generators)
        except StudyError as error:
            raise MisplacedError(("fraction",), str(error)) from None
        return self

    @cached_property
    def design(self) -> Design:
        """The combinations that are trained, with their effects and aliases."""
        names = tuple(self.factors)
        return Design(names, [Generator.parse(text, names) for text in self.fraction])

    @property
    def is_fraction(self) -> bool:
        """True if not all combinations are trained."""
        return bool(self.fraction)

    def title(self, factor: str) -> str:
        """Return the words for a factor in a table."""
        return self.factors[factor].label or factor

    def term_title(self, term: Term) -> str:
        """Return the words for a main effect or an interaction, for example `annealing × kernels`."""
        return " × ".join(map(self.title, term))

    def sum_title(self, terms: Mapping[Term, int]) -> str:
        """Return the words for a sum of terms with their signs, for example `a × b + c × d`; the first has no plus."""
        words = ""
        for term, sign in terms.items():
            if words:
                words += " + " if sign == 1 else " − "
            elif sign == -1:
                words = "−"
            words += self.term_title(term)
        return words

    def shared_levels_title(self, combinations: Collection[str]) -> str:
        """Return the words for all combinations that share some levels, such as `annealing on, kernels off`.

        Empty for a single combination, which has a title, and for any other choice of them.
        """
        every = self.design.combinations
        # Contrasts may also name rows that are no combination of the factorial.
        if len(combinations) < 2 or not every.keys() >= set(combinations):
            return ""
        shared: dict[str, int] = {}
        for factor in self.factors:
            levels = {every[name][factor] for name in combinations}
            if len(levels) == 1:
                (shared[factor],) = levels
        # Shared levels describe the choice only if no other combination has them as well.
        matching = {name for name, levels in every.items() if shared.items() <= levels.items()}
        if not shared or matching != set(combinations):
            return ""
        return ", ".join(f"{self.title(factor)} {_LEVEL_WORDS[level]}" for factor, level in shared.items())

    def level_title(self, factor: str, *, on: bool) -> str:
        """Return the words for a level of a factor in a table."""
        if on:
            return self.factors[factor].on.label or "on"
        return self.factors[factor].off.label or "off"

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings of the columns that tell combinations apart: one per factor."""
        return tuple(map(self.title, self.factors))

    def variants(self, reference: str) -> tuple[Variant, ...]:
        """Return a variant per combination.

        Args:
            reference: Name of the combination that the others are compared with.
        """
        combinations = self.design.combinations
        # An unknown name is an error of the study, which is found when the variants are there.
        compared = combinations.get(reference, {})
        variants = []
        for name, levels in combinations.items():
            changes: dict[str, Any] = {}
            differs_in: list[str] = []
            for factor, level in levels.items():
                declared = self.factors[factor]
                changes |= declared.on.changes if level == 1 else declared.off.changes
                # Settings of both levels count as the difference, as one level may set what the other leaves alone.
                if level != compared.get(factor, level):
                    differs_in += {**declared.off.changes, **declared.on.changes}
            cells = tuple(_ON if level == 1 else _OFF for level in levels.values())
            variants.append(
                Variant(name=name, label=self._label(name), changes=changes, cells=cells, differs_in=tuple(differs_in))
            )
        return tuple(variants)

    def without_reference(self, reference: str) -> str:
        """Return the reason why a combination cannot be the reference, with the remedies."""
        names = list(self.design.combinations)
        if reference == NONE:
            return (
                "the fraction does not train the combination in which all factors are off. Name another one as "
                f"reference ({', '.join(names)}), or take the other half: d = -a*b in place of d = a*b."
            )
        return str(UnknownNameError("combination", reference, names))

    def _label(self, combination: str) -> str:
        if combination in (NONE, ALL):
            return f"{combination} of them"
        levels = self.design.combinations[combination]
        return " + ".join(self.title(factor) for factor, level in levels.items() if level == 1)
