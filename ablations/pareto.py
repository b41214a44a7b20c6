"""The Pareto front of accuracy, the higher the better, and cost, the lower the better. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the indices of the points that no other point beats, the cheapest first.

    A point beats another if it is at least as accurate and at most as costly, and one of these strictly. Of points
    that are equal in both, all are in the front or none.

    Args:
        points: Accuracy and cost.
    """
    front: list[int] = []
    best = -float("inf")
    order = sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0], index))
    for index in order:
        accuracy, cost = points[index]
        equals = bool(front) and points[front[-1]] == (accuracy, cost)
        if accuracy > best or equals:
            front.append(index)
            best = accuracy
    return front
