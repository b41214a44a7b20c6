"""This module computes two-level factorial designs: combinations, defining relation, aliases, weights of effects.

A factor counts as −1 where it is off and as +1 where it is on. The effect of a term, a set of factors, is the mean
value over the combinations where the product of its factors is +1 minus the mean over those where it is −1. So a main
effect is mean(on) − mean(off), and the interaction of two factors is half the difference between the effect of the one
with the other on and with the other off. In a fraction, terms whose products are the same everywhere are aliases: only
the sum of their effects can be estimated.

Source: Box, Hunter and Hunter, Statistics for Experimenters, chapters 5 and 6; for the shares, Shapley 1953.
Weights are exact fractions, so that one that should be zero is zero.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from ablations.errors import StudyError, UnknownNameError

Term = tuple[str, ...]
"""Names of factors, in the order of the design."""

NONE, ALL = "none", "all"
"""The names of the combinations in which every factor is off, or on."""

# In resolution III no main effect is an alias of another one, which is the least that a table of effects needs.
LOWEST_RESOLUTION = 3
CLEAR_RESOLUTION = 4
"""From this resolution on, main effects have no alias of two factors."""

_GENERATOR = re.compile(r"\s*(\w+)\s*=\s*(-?)\s*(\w+(?:\s*\*\s*\w+)*)\s*")
_ROMAN = {3: "III", 4: "IV", 5: "V", 6: "VI"}


@dataclass(frozen=True)
class Generator:
    """A rule by which a factor follows from others: on where the product of these, times `sign`, is +1."""

    factor: str
    sign: int
    product: Term

    @classmethod
    def parse(cls, text: str, factors: Sequence[str]) -> Generator:
        """Return the generator in a text such as `d = a*b*c` or `d = -a*b`.

        Raises:
            StudyError: If it is none, repeats a factor, or has fewer than two on the right.
            UnknownNameError: If it names an unknown factor.
        """
        match = _GENERATOR.fullmatch(text)
        if match is None:
            raise StudyError(f"{text!r} is no generator. Write it as factor = factor*factor, with - for a minus sign.")
        factor, minus, product = match.groups()
        others = tuple(name.strip() for name in product.split("*"))
        for name in (factor, *others):
            if name not in factors:
                raise UnknownNameError("factor", name, factors)
        # A factor times itself is 1 and would drop out, so that the text would not be the rule that is applied.
        if len({factor, *others}) < 1 + len(others):
            raise StudyError(f"generator {text!r} names a factor twice. Name each once.")
        # Equal to one other factor, the two could never be told apart.
        if len(others) < 2:
            raise StudyError(
                f"generator {text!r} makes {factor} an alias of {others[0]}. Name two or more on the right."
            )
        return cls(factor, -1 if minus else 1, others)


@dataclass(frozen=True)
class AliasSet:
    """Terms whose effects cannot be told apart, each with the sign with which it enters the estimated sum.

    Attributes:
        leading: The terms of the fewest factors. The first has the sign +1.
        others: The terms of more factors, which count as zero.
    """

    leading: Mapping[Term, int]
    others: Mapping[Term, int]

    @property
    def term(self) -> Term:
        """The first leading term, by which the set is known."""
        return next(iter(self.leading))

    @property
    def order(self) -> int:
        """The number of factors in its leading terms: 1 for a main effect."""
        return len(self.term)


class Design:
    """The combinations of factors that are trained: all of them, or the fraction that generators leave.

    Raises:
        StudyError: If generators contradict each other, or make main effects aliases of each other.
    """

    def __init__(self, factors: Sequence[str], generators: Sequence[Generator] = ()) -> None:
        self.factors, self.generators = tuple(factors), tuple(generators)
        generated = [generator.factor for generator in generators]
        for generator in generators:
            if generated.count(generator.factor) > 1:
                raise StudyError(f"two generators make factor {generator.factor!r}. Keep one.")
            for name in generator.product:
                # With independent factors alone on the right, no order of substitution has to be found.
                if name in generated:
                    raise StudyError(
                        f"the generator of {generator.factor!r} names {name!r}, which has a generator itself. "
                        "Name factors without one on the right."
                    )
        for word in self.defining_relation:
            # A word of two factors makes each an alias of the other.
            if len(word) < LOWEST_RESOLUTION:
                raise StudyError(
                    f"the fraction cannot tell {' from '.join(word)}: its resolution is below III. "
                    "Give them generators with other products."
                )

    @cached_property
    def defining_relation(self) -> dict[Term, int]:
        """The products of factors that are the same in every combination, each with that value; none if all are there.

        Every product of words is a word, since each is constant.
        """
        relation: dict[Term, int] = {}
        for count in range(1, len(self.generators) + 1):
            # k generators span 2^k − 1 words: each choice of them has a product of its own.
            for chosen in itertools.combinations(self.generators, count):
                word: frozenset[str] = frozenset()
                sign = 1
                for generator in chosen:
                    # A factor times itself is 1, so that those in both words drop out.
                    word ^= {generator.factor, *generator.product}
                    sign *= generator.sign
                relation[self._ordered(word)] = sign
        return relation

    @property
    def resolution(self) -> int | None:
        """The length of the shortest word of the defining relation; `None` if all combinations are trained."""
        return min(map(len, self.defining_relation), default=None)

    @property
    def resolution_numeral(self) -> str:
        """The resolution as it is usually written, such as IV; empty if all combinations are trained."""
        if self.resolution is None:
            return ""
        return _ROMAN.get(self.resolution, str(self.resolution))

    @cached_property
    def combinations(self) -> dict[str, dict[str, int]]:
        """The level of every factor, −1 or +1, by the name of the combination; the last factor varies fastest."""
        combinations = {}
        for values in itertools.product((-1, 1), repeat=len(self.factors)):
            levels = dict(zip(self.factors, values, strict=True))
            if all(_product(levels, word) == sign for word, sign in self.defining_relation.items()):
                combinations[self._name(levels)] = levels
        return combinations

    def _name(self, levels: Mapping[str, int]) -> str:
        on = [factor for factor in self.factors if levels[factor] == 1]
        if not on:
            return NONE
        if len(on) == len(self.factors):
            return ALL
        return "+".join(on)

    @cached_property
    def alias_sets(self) -> tuple[AliasSet, ...]:
        """Everything that can be estimated: one set of terms per effect, those of the fewest factors first.

        The terms of the defining relation itself are in none: they are constant.
        """
        # A constant word has no −1 side, so that no difference of means exists for it.
        seen: set[Term] = set(self.defining_relation)
        sets = []
        for term in self._terms():
            if term in seen:
                continue
            signs = {term: 1}
            for word, sign in self.defining_relation.items():
                # Times a constant word, a term keeps its value up to the word's sign: that is its alias.
                signs[self._ordered(frozenset(term) ^ set(word))] = sign
            seen.update(signs)
            # Terms come by their length, so that the first of a set is among its shortest.
            leading = {alias: sign for alias, sign in signs.items() if len(alias) == len(term)}
            others = {alias: sign for alias, sign in signs.items() if len(alias) > len(term)}
            sets.append(AliasSet(leading, others))
        return tuple(sets)

    def effect_weights(self, term: Term) -> dict[str, Fraction]:
        """Return the weight of each combination's value in the effect of a term (of its alias set, in a fraction)."""
        # Each mean is over half of the combinations, so that a value counts 2 / n.
        share = Fraction(2, len(self.combinations))
        return {name: share * _product(levels, term) for name, levels in self.combinations.items()}

    def shapley_weights(self, factor: str) -> dict[str, Fraction]:
        """Return the weight of each combination's value in the Shapley value of a factor.

        The Shapley value is the mean gain by turning the factor on, over all orders in which the factors can be turned
        on. It is linear in the game, and a game is a sum of effects times products x_U / 2. In the game of one product
        the factors of U are interchangeable, so that each gets an equal part of x_U(all on) − x_U(all off), which is 2
        for an odd number of factors and 0 for an even one. So the value is the sum of E_U / |U| over the terms U of an
        odd number of factors that hold this one. In a fraction, leading aliases have equal parts of what is estimated,
        and the others are zero.
        """
        weights = dict.fromkeys(self.combinations, Fraction(0))
        for aliases in self.alias_sets:
            # An even product is the same at all on and all off, so that it adds nothing to the gain.
            if aliases.order % 2 == 0:
                continue
            for term, sign in aliases.leading.items():
                if factor not in term:
                    continue
                # The estimated sum is divided among its leading aliases, and the part of a term among its factors.
                part = Fraction(sign, len(aliases.leading) * len(term))
                for name, weight in self.effect_weights(aliases.term).items():
                    weights[name] += part * weight
        return weights

    def gain_weights(self) -> dict[str, Fraction]:
        """Return the weight of each combination's value in the gain from all off to all on, the sum of Shapley values.

        Of a design with all combinations these are 1, −1 and zeros. A fraction need have neither combination: the gain
        is then that of the same model as the Shapley values.
        """
        # By the efficiency of Shapley values, their sum is the gain: shares then sum to one exactly.
        weights = dict.fromkeys(self.combinations, Fraction(0))
        for factor in self.factors:
            for name, weight in self.shapley_weights(factor).items():
                weights[name] += weight
        return weights

    def _terms(self) -> Iterator[Term]:
        for count in range(1, len(self.factors) + 1):
            yield from itertools.combinations(self.factors, count)

    def _ordered(self, factors: Iterable[str]) -> Term:
        return tuple(sorted(factors, key=self.factors.index))


def _product(levels: Mapping[str, int], term: Term) -> int:
    product = 1
    for factor in term:
        product *= levels[factor]
    return product
