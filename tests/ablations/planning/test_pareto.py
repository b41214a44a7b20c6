"""The Pareto front, against its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ablations.planning.search import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), max_size=25)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@given(POINTS)
def test_the_front_is_what_no_other_point_beats(points: list[tuple[float, float]]) -> None:
    expected = {index for index, point in enumerate(points) if not any(beats(other, point) for other in points)}
    front = pareto_front(points)
    assert set(front) == expected
    assert len(front) == len(expected)
    assert [points[index][1] for index in front] == sorted(points[index][1] for index in front)


def test_a_hand_computed_front() -> None:
    assert pareto_front([(50.0, 2.0), (60.0, 3.0), (55.0, 3.0), (40.0, 1.0), (60.0, 4.0)]) == [3, 0, 1]
    assert pareto_front([]) == []
