"""Temperature schedules: values at and between epochs, and what they refuse."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv import ArgumentError, ConstantTemperature, LinearAnnealing


def test_annealing_by_hand() -> None:
    schedule = LinearAnnealing(start=30, end=1, epochs=10)
    assert [schedule(e) for e in (0, 5, 10, 11, 300)] == [30.0, 15.5, 1.0, 1.0, 1.0]
    assert schedule(0.5) == pytest.approx(30 - 29 / 20)


def test_the_papers_annealing_is_the_default() -> None:
    assert LinearAnnealing() == LinearAnnealing(30, 1, 10)


@given(start=st.floats(0.1, 100), end=st.floats(0.1, 100), a=st.floats(0, 20), b=st.floats(0, 20))
def test_annealing_is_monotone_and_stays_between_its_ends(start: float, end: float, a: float, b: float) -> None:
    schedule = LinearAnnealing(start, end, 10)
    early, late = schedule(min(a, b)), schedule(max(a, b))
    margin = 1e-9 * max(start, end)
    assert min(start, end) - margin <= early <= max(start, end) + margin
    assert (late - early) * (end - start) >= -margin


def test_a_constant_is_constant() -> None:
    assert {ConstantTemperature(5)(e) for e in (0, 0.3, 99)} == {5.0}


@pytest.mark.parametrize("bad", [{"start": 0}, {"end": -1}, {"epochs": 0}, {"epochs": math.inf}, {"start": "30"}])
def test_bad_settings_are_errors(bad: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="positive"):
        LinearAnnealing(**bad)


@pytest.mark.parametrize("epoch", [-0.1, math.nan, math.inf])
def test_bad_epochs_are_errors(epoch: float) -> None:
    for schedule in (LinearAnnealing(), ConstantTemperature(3)):
        with pytest.raises(ArgumentError, match="counted from 0"):
            schedule(epoch)
    with pytest.raises(ArgumentError, match="temperature"):
        ConstantTemperature(0)
