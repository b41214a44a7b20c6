"""Words for time and need, by hand; what is warned of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablations.launches import Range, duration, range_words
from runners.estimates.estimate import Estimate
from runners.estimates.words import estimate_lines, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (45.2, "45 s"), (99.4, "99 s"),
        (99.6, "2 min"), (600, "10 min"), (5960, "99 min"), (6000, "1 h 40 min"), (7200, "2 h"), (7190, "2 h"),
        (12_300, "3 h 20 min"), (35_400, "9 h 50 min"), (36_000, "10 h"), (86_400, "24 h"), (800_000, "9 days"),
    ],
)  # fmt: skip
def test_durations_by_hand(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_range_in_words() -> None:
    assert range_words(Range(540, 720, 960)) == "12 min (9 min to 16 min)"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 kB"), (999_400, "999 kB"), (999_600, "1 MB"), (350e6, "350 MB"), (1_240_000_000, "1.2 GB")],
)
def test_sizes_by_hand(count: int, words: str) -> None:
    assert size(int(count)) == words


KNOWN = Estimate(
    wall=Range(540, 720, 960),
    raw=700.0,
    is_learned=True,
    trainings=1200.0,
    evaluations=90.0,
    counts=0.0,
    shared=1290.0,
    unshared=5400.0,
    unknown={},
    memory=1_100_000_000,
    gpu_memory=0,
    disk=60_000_000,
    workers=2,
)


def lines(estimate: Estimate, memory: int | None = 8_000_000_000, free: int | None = 40_000_000_000) -> list[str]:
    return list(estimate_lines(estimate, memory, free))


def test_an_estimate_in_words() -> None:
    assert lines(KNOWN) == [
        "Time: 12 min (9 min to 16 min) with 2 workers; of computing, trainings 20 min, evaluations 90 s.",
        "Sharing: 22 min of computing for the whole plan, where one training per table row and seed would take 90 min.",
        "Needs: memory up to 1.1 GB of 8.0 GB, disk about 60 MB of 40.0 GB free.",
    ]


def test_what_is_not_known_is_not_told() -> None:
    assert lines(KNOWN, None, None)[-1] == "Needs: memory up to 1.1 GB, disk about 60 MB."
    alone = replace(KNOWN, unshared=1290.0, workers=1, gpu_memory=3_000_000_000)
    assert lines(alone)[0].startswith("Time: 12 min (9 min to 16 min) with 1 worker; ")
    assert "of a GPU up to 3.0 GB per worker" in lines(alone)[1]


def test_nothing_known_says_how_to_know() -> None:
    (line,) = lines(replace(KNOWN, wall=None, unknown={str(i): f"N{i}" for i in range(5)}))
    assert "cannot be told yet: 5 networks" in line
    assert "(N0; N1; N2 and 2 more)" in line
    assert "plan --calibrate" in line


def test_half_known_is_a_lower_bound() -> None:
    first, second, *_ = lines(replace(KNOWN, unknown={"a": "N"}))
    assert first.startswith("Time: at least 12 min")
    assert "for the rest: 1 networks" in second


def test_nothing_to_do_needs_nothing() -> None:
    idle = replace(KNOWN, wall=Range(0, 0, 0), trainings=0.0, evaluations=0.0)
    assert [line.partition(":")[0] for line in lines(idle)] == ["Sharing"]


@pytest.mark.parametrize(
    ("memory", "workers", "advice"),
    [
        (2_000_000_000, 2, None),
        (1_200_000_000, 2, "--workers 1"),
        (1_100_000_000, 1, "micro_batch"),
        (2_000_000, 4, "--workers 1"),
    ],
)
def test_workers_that_do_not_fit_are_warned_of(memory: int, workers: int, advice: str | None) -> None:
    found = [line for line in lines(replace(KNOWN, workers=workers), memory) if line.startswith("Warning")]
    assert [advice in line for line in found if advice] == ([True] if advice else [])
    assert bool(found) is bool(advice)


def test_a_full_disk_is_warned_of() -> None:
    assert lines(KNOWN, free=50_000_000)[-1] == "Warning: about 60 MB will be written, and 50 MB are free."
