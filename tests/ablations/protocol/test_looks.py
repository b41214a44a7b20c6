"""Looks and the stopping rule: which numbers of seeds are looked at, and what counts as one look."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.errors import OptionError
from ablations.protocol.looks import Look, in_order
from ablations.protocol.stopping import StoppingRule


@pytest.mark.parametrize("most", [4, 5, 9, 12, 20, 40])
@pytest.mark.parametrize("first", [1, 2, 3, 5, 9, 20])
def test_looks_grow_from_the_first_seeds_to_the_most(first: int, most: int) -> None:
    looks = StoppingRule(most).looks(first)
    assert looks[0] == min(max(first, 3), most)
    assert looks[-1] == most
    assert list(looks) == sorted(set(looks))


def test_the_looks_of_twenty_seeds() -> None:
    assert StoppingRule(20).looks(3) == (3, 5, 8, 12, 20)


@pytest.mark.parametrize("most", [-1, 0, 1, 3])
def test_a_rule_without_a_second_look_is_refused(most: int) -> None:
    with pytest.raises(OptionError, match="leaves nothing to add"):
        StoppingRule(most)


def test_looking_twice_at_the_same_results_is_one_look() -> None:
    first, again = Look("s", "a", 10.0, 3, 6, 6), Look("s", "a", 30.0, 3, 6, 6)
    other = Look("s", "b", 20.0, 5, 9, 10)
    assert in_order([again, other, first]) == (first, other)
    assert first.is_complete
    assert not other.is_complete


def test_a_look_is_read_back_as_it_was_written() -> None:
    look = Look("s", "a", 10.0, 3, 5, 6)
    assert Look.from_mapping(look.as_mapping()) == look


@pytest.mark.parametrize("values", [{}, {"when": []}, {"when": "never"}, {"when": float("nan"), "digest": ""}])
def test_what_is_no_look_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        Look.from_mapping(values)
