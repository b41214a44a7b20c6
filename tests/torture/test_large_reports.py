"""Reports on many runs: ten thousand within seconds, and time that grows with their number and not faster."""

from __future__ import annotations

import time

import pytest

from benchmarks.reporting import report_of

pytestmark = pytest.mark.torture
MOST_SECONDS = 20.0
"""Of one core, for ten thousand runs from the tracking store to the PDF; about 14 where it was measured."""


def _seconds(runs: int) -> float:
    spent: list[float] = []

    def measured() -> None:
        spent.append(time.process_time())

    report_of(runs, ("pdf",), around=measured)
    before, after = spent
    return after - before


def test_ten_thousand_runs_take_seconds_and_ten_times_as_long_as_a_thousand() -> None:
    # What is imported and laid out once is no part of growth.
    _seconds(10)
    few, many = _seconds(1_000), _seconds(10_000)
    assert many < MOST_SECONDS
    assert many < 13 * few
