"""The error that each look may spend: it sums to the whole, whatever the looks, also those that nobody planned."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.protocol.spending import level_at, share_of_error
from ablations.protocol.stopping import StoppingRule

LOOKS = (3, 5, 8, 12, 20)


def test_the_shares_of_twenty_seeds_are_those_of_the_new_seeds() -> None:
    assert [share_of_error(LOOKS, seeds) for seeds in LOOKS] == [3 / 20, 2 / 20, 3 / 20, 4 / 20, 8 / 20]


@given(first=st.integers(1, 30), most=st.integers(4, 60))
def test_all_looks_together_spend_the_whole_error(first: int, most: int) -> None:
    looks = StoppingRule(most).looks(first)
    assert math.fsum(share_of_error(looks, seeds) for seeds in looks) == pytest.approx(1)


def test_a_rule_with_one_look_spends_all_at_once() -> None:
    assert share_of_error((5,), 5) == 1
    assert level_at(0.95, (5,), 5) == pytest.approx(0.95)


@pytest.mark.parametrize(("seeds", "share"), [(1, 1 / 20), (2, 2 / 20), (4, 1 / 20), (10, 2 / 20), (19, 7 / 20)])
def test_a_number_that_is_no_look_takes_what_was_added_since_the_look_before(seeds: int, share: float) -> None:
    assert share_of_error(LOOKS, seeds) == pytest.approx(share)


@pytest.mark.parametrize("seeds", [20, 21, 100])
def test_more_seeds_than_the_rule_allows_stand_for_the_last_look(seeds: int) -> None:
    assert share_of_error(LOOKS, seeds) == pytest.approx(8 / 20)


def test_a_level_keeps_its_error_over_all_looks() -> None:
    levels = [level_at(1 - 0.05 / 3, LOOKS, seeds) for seeds in LOOKS]
    assert math.fsum(1 - level for level in levels) == pytest.approx(0.05 / 3)
    assert levels[0] == pytest.approx(1 - 0.05 / 3 * 3 / 20)
