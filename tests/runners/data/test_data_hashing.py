"""Stateless randomness: against a plain implementation, uniform enough, balanced, nested."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.data.hashing import balanced_choice, permutation, random_bits, random_integers
from runners.seeding import derive_key

KEY = derive_key("test", 1)


def split_mix(state: int) -> int:
    """One output of SplitMix64 in plain Python integers."""
    mask = (1 << 64) - 1
    state = (state + 0x9E3779B97F4A7C15) & mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_bits_are_split_mix_64() -> None:
    # 1234567 and its outputs are the example that circulates with the reference implementation.
    assert random_bits(1234567, [0, 1, 2]).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    golden = 0x9E3779B97F4A7C15
    assert random_bits(KEY, [5]).tolist() == [split_mix((KEY + 5 * golden) % 2**64)]


def test_keys_tell_parts_apart() -> None:
    keys = [derive_key("a", 1, 2), derive_key("a", 2, 1), derive_key("a", 12), derive_key("a", "1", 2)]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)


def test_a_number_depends_on_its_counter_alone() -> None:
    assert random_integers(KEY, [7, 3], 1000).tolist() == random_integers(KEY, np.arange(10), 1000)[[7, 3]].tolist()


def test_integers_are_uniform() -> None:
    counts = np.bincount(random_integers(KEY, np.arange(50_000), 5), minlength=5)
    # Standard deviation of each count is 89; five of them is a generous bound.
    assert np.abs(counts - 10_000).max() < 450
    assert len(counts) == 5


@given(st.integers(0, 200), st.integers(0, 2**64 - 1))
def test_a_permutation_has_every_position_once(count: int, key: int) -> None:
    assert sorted(permutation(key, count).tolist()) == list(range(count))


def test_permutations_of_two_keys_differ() -> None:
    assert permutation(KEY, 50).tolist() != permutation(KEY + 1, 50).tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_a_choice_is_as_balanced_as_it_can_be(labels: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(labels)))
    chosen = balanced_choice(np.array(labels), count, KEY, 5)
    assert len(set(chosen.tolist())) == count
    assert chosen.tolist() == sorted(chosen.tolist())
    have = np.bincount(labels, minlength=5)
    taken = np.bincount(np.array(labels)[chosen], minlength=5)
    not_exhausted = taken[taken < have]
    assert not len(not_exhausted) or taken.max() - not_exhausted.min() <= 1


@pytest.mark.parametrize(("small", "large"), [(0, 1), (7, 20), (30, 31)])
def test_a_smaller_choice_is_part_of_a_larger(small: int, large: int) -> None:
    labels = np.arange(40) % 3
    inner, outer = (balanced_choice(labels, count, KEY, 3).tolist() for count in (small, large))
    assert set(inner) < set(outer)


def test_another_key_chooses_others() -> None:
    labels = np.arange(300) % 3
    first, second = (balanced_choice(labels, 150, derive_key("k", i), 3).tolist() for i in (1, 2))
    assert first != second
