"""Factorial designs against brute force: orders of all factors for the shares, least squares for the effects."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ablations.errors import StudyError, UnknownNameError
from ablations.factorial.design import Design, Generator, Term

FULL = [tuple("abcdef"[:count]) for count in (2, 3, 4, 5)]
FRACTIONS = [
    ("abc", ("c = -a*b",)),
    ("abcd", ("d = a*b*c",)),
    ("abcd", ("c = -a*b",)),
    ("abcde", ("e = a*b*c*d",)),
    ("abcde", ("d = a*b", "e = -a*c")),
    ("abcdef", ("f = -a*b*c*d*e",)),
    ("abcdef", ("e = a*b*c", "f = b*c*d")),
]


def design_of(factors: str | Term, generators: tuple[str, ...] = ()) -> Design:
    return Design(factors, [Generator.parse(text, factors) for text in generators])


def column(levels: dict[str, int], term: Term) -> int:
    return math.prod(levels[factor] for factor in term)


def shapley_by_orders(factors: Term, values: dict[frozenset[str], float]) -> dict[str, float]:
    """The mean gain by turning each factor on, over all orders in which they are turned on."""
    totals = dict.fromkeys(factors, 0.0)
    for order in itertools.permutations(factors):
        on: frozenset[str] = frozenset()
        for factor in order:
            totals[factor] += values[on | {factor}] - values[on]
            on |= {factor}
    return {factor: total / math.factorial(len(factors)) for factor, total in totals.items()}


def on_of(levels: dict[str, int]) -> frozenset[str]:
    return frozenset(factor for factor, level in levels.items() if level == 1)


def all_terms(factors: Term) -> list[Term]:
    return [term for count in range(1, len(factors) + 1) for term in itertools.combinations(factors, count)]


@pytest.mark.parametrize("factors", FULL, ids="".join)
@pytest.mark.parametrize("seed", range(3))
def test_shapley_values_are_those_of_all_orders(factors: Term, seed: int) -> None:
    design = design_of(factors)
    draw = np.random.default_rng(seed)
    values = {name: float(draw.normal(70, 5)) for name in design.combinations}
    expected = shapley_by_orders(factors, {on_of(levels): values[name] for name, levels in design.combinations.items()})
    for factor in factors:
        weights = design.shapley_weights(factor)
        assert sum(float(weight) * values[name] for name, weight in weights.items()) == pytest.approx(expected[factor])


@pytest.mark.parametrize("factors", FULL, ids="".join)
def test_the_gain_is_all_on_minus_all_off_exactly(factors: Term) -> None:
    weights = design_of(factors).gain_weights()
    assert {name: weight for name, weight in weights.items() if weight} == {"none": -1, "all": 1}


@pytest.mark.parametrize("factors", FULL, ids="".join)
def test_effects_are_twice_the_coefficients_of_least_squares(factors: Term) -> None:
    design = design_of(factors)
    values = np.random.default_rng(len(factors)).normal(70, 5, len(design.combinations))
    terms = all_terms(factors)
    matrix = [[1, *(column(levels, term) for term in terms)] for levels in design.combinations.values()]
    _, *coefficients = np.linalg.lstsq(np.array(matrix), values, rcond=None)[0]
    assert [aliases.term for aliases in design.alias_sets] == terms
    for term, coefficient in zip(terms, coefficients, strict=True):
        weights = design.effect_weights(term)
        assert list(weights) == list(design.combinations)
        effect = sum(float(weight) * value for weight, value in zip(weights.values(), values, strict=True))
        assert effect == pytest.approx(2 * coefficient)


def test_effects_by_hand() -> None:
    design = design_of("ab")
    values = {"none": 10.0, "a": 14.0, "b": 11.0, "all": 21.0}
    effects = {
        term: sum(float(weight) * values[name] for name, weight in design.effect_weights(term).items())
        for term in (("a",), ("b",), ("a", "b"))
    }
    # a gains 4 without b and 10 with it: 7 on average, and half of their difference is the interaction.
    assert effects == {("a",): 7.0, ("b",): 4.0, ("a", "b"): 3.0}


@pytest.mark.parametrize(("factors", "generators"), FRACTIONS, ids=str)
def test_a_fraction_by_brute_force(factors: str, generators: tuple[str, ...]) -> None:
    design = design_of(factors, generators)
    combinations = design.combinations
    assert len(combinations) == 2 ** (len(factors) - len(generators))
    for text in generators:
        made, _, product = text.partition(" = ")
        sign = -1 if product.startswith("-") else 1
        for levels in combinations.values():
            assert levels[made] == sign * column(levels, tuple(product.lstrip("-").split("*")))
    columns = {term: [column(levels, term) for levels in combinations.values()] for term in all_terms(tuple(factors))}
    # Words are the products that never change.
    constant = {term: values[0] for term, values in columns.items() if len(set(values)) == 1}
    assert design.defining_relation == constant
    assert design.resolution == min(map(len, constant))
    # Aliases are the terms whose columns are equal, up to a sign; every other term is in exactly one set.
    in_sets = []
    for aliases in design.alias_sets:
        for term, sign in {**aliases.leading, **aliases.others}.items():
            in_sets.append(term)
            assert columns[term] == [sign * value for value in columns[aliases.term]]
        assert {len(term) for term in aliases.leading} == {aliases.order}
        assert all(len(term) > aliases.order for term in aliases.others)
    assert sorted(in_sets) == sorted(set(columns) - set(constant))
    assert len(design.alias_sets) == len(combinations) - 1


@pytest.mark.parametrize(("factors", "generators"), FRACTIONS, ids=str)
def test_shares_of_a_fraction_are_those_of_its_model(factors: str, generators: tuple[str, ...]) -> None:
    """A full table in which only leading terms count, equal ones alike: half of it says what all of it does."""
    design = design_of(factors, generators)
    draw = np.random.default_rng(7)
    coefficients: dict[Term, float] = {}
    for aliases in design.alias_sets:
        effect = float(draw.normal())
        for term, sign in aliases.leading.items():
            coefficients[term] = sign * effect
    full = design_of(factors)
    values = {
        name: sum(size * column(levels, term) for term, size in coefficients.items())
        for name, levels in full.combinations.items()
    }
    by_set = {on_of(levels): values[name] for name, levels in full.combinations.items()}
    expected = shapley_by_orders(tuple(factors), by_set)
    for factor in factors:
        weights = design.shapley_weights(factor)
        assert set(weights) == set(design.combinations) < set(full.combinations)
        assert sum(float(weight) * values[name] for name, weight in weights.items()) == pytest.approx(expected[factor])
    gain = sum(float(weight) * values[name] for name, weight in design.gain_weights().items())
    assert gain == pytest.approx(values["all"] - values["none"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("d = a", "makes d an alias of a"),
        ("d = a*a*b", "names a factor twice"),
        ("d = a*d", "names a factor twice"),
        ("d = a+b", "is no generator"),
        ("a*b*c", "is no generator"),
        ("", "is no generator"),
    ],
)
def test_a_text_that_is_no_generator(text: str, reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        Generator.parse(text, "abcd")


def test_a_generator_of_unknown_factors() -> None:
    with pytest.raises(UnknownNameError, match="unknown factor 'x'"):
        Generator.parse("d = a*x", "abcd")


@pytest.mark.parametrize(
    ("generators", "reason"),
    [
        (("d = a*b", "e = a*b"), "cannot tell d from e: its resolution is below III"),
        (("d = a*b", "d = a*c"), "two generators make factor 'd'"),
        (("d = a*b", "e = a*d"), "names 'd', which has a generator itself"),
    ],
)
def test_generators_that_do_not_go_together(generators: tuple[str, ...], reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        design_of("abcde", generators)


def test_names_of_combinations() -> None:
    assert list(design_of(("deep", "wide")).combinations) == ["none", "wide", "deep", "all"]
    assert design_of("abcd", ("d = a*b*c",)).resolution_numeral == "IV"
    assert design_of("ab").resolution is None
