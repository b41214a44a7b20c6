"""What becomes of measurements that are missing, doubled, contradictory or out of range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from ablations.errors import ResultsError
from ablations.files.foreign_file import ForeignFile
from ablations.foreign_study import StatedMetric, StatedStudy
from reports.collect.foreign.cells import ForeignCells, cells_of
from reports.collect.foreign.measurements import Columns, ForeignResults, Measurement, Source
from reports.collect.tracked_runs import FINISHED

FOUR = [("a", 0, 91.0), ("a", 1, 92.0), ("b", 0, 93.0), ("b", 1, 94.0)]


def cells(rows: Sequence[tuple[str, int, float]], unit: str = "per cent", **stated: Any) -> ForeignCells:
    """Returns the cells of a study of some rows; NaN stands for a run that failed."""
    measurements = []
    for line, (variant, seed, value) in enumerate(rows, start=2):
        status = "failed" if math.isnan(value) else FINISHED
        measurements.append(Measurement(variant, seed, status, value, f"line {line}"))
    results = ForeignResults(Source("csv", "r.csv", "0" * 64), Columns(), "acc", tuple(measurements))
    file = ForeignFile(StatedStudy(name="s", reference="a", **stated))
    study = file.study(results.variants, results.values, StatedMetric(name="acc", unit=unit))
    return cells_of(study, results)


def test_a_missing_seed_is_a_missing_cell() -> None:
    found = cells(FOUR[:-1])
    assert found.seeds == (0, 1)
    assert (found.finished, found.count) == (3, 4)
    assert found.repeats["b"][1].status == "missing"


def test_equal_values_of_a_cell_are_one_and_are_said_once() -> None:
    found = cells([*FOUR, FOUR[0], FOUR[0], FOUR[2]])
    assert found.finished == 4
    assert found.notes == ("Measured more than once, with the same value, which counts once: a, seed 0; b, seed 0.",)


def test_different_values_of_a_cell_leave_it_without_any() -> None:
    found = cells([*FOUR, ("b", 1, 95.5)])
    assert found.finished == 3
    assert found.repeats["b"][1].status == "measured 2 times with different values (94 and 95.5)"
    assert math.isnan(found.repeats["b"][1].value)


def test_a_run_that_failed_does_not_stand_against_one_that_finished() -> None:
    found = cells([("b", 1, math.nan), *FOUR, ("a", 2, 91.0), ("b", 2, math.nan)])
    assert found.repeats["b"][1].value == 94.0
    assert found.measured["b"][1].origin == "line 6"
    assert found.repeats["b"][2].status == "failed"
    assert not found.notes


def test_variants_and_seeds_that_the_study_leaves_out_are_said() -> None:
    rows = [*FOUR, ("c", 0, 1.5), ("a", 7, 90.0)]
    found = cells(rows, variants={"a": {}, "b": {}}, seeds=(0, 1))
    assert (found.finished, found.count) == (4, 4)
    assert "not of this study, which are left out: “c”" in found.notes[0]
    assert "those of seeds 7 are left out" in found.notes[1]


def test_a_seed_that_was_never_measured_is_refused() -> None:
    with pytest.raises(ResultsError, match=r"counts seed 9, and r.csv has none of it. It has 0, 1"):
        cells(FOUR, seeds=(0, 9))


def test_a_share_above_one_is_refused_with_its_line() -> None:
    with pytest.raises(ResultsError, match=r"r.csv, line 2: acc of “a”, seed 0, is 91, and a share lies from 0 to 1"):
        cells(FOUR, unit="share")


def test_shares_among_percentages_are_a_caution() -> None:
    (note,) = cells([*FOUR[:-1], ("b", 1, 0.94)]).notes
    assert "b, seed 1: 0.94" in note
    (note,) = cells([(variant, seed, value / 100) for variant, seed, value in FOUR]).notes
    assert "say unit: share" in note
    # Latencies from 0.5 to 8 are no percentages.
    assert not cells([("a", 0, 0.5), ("b", 0, 80.0)], unit="ms").notes
    assert not cells([("a", 0, 0.5), ("b", 0, 800.0)], unit="").notes


def test_seeds_that_no_variant_shares_are_a_caution() -> None:
    (note,) = cells([("a", 0, 91.0), ("a", 1, 92.0), ("b", 2, 93.0), ("b", 3, 94.0)]).notes
    assert "“b” and the reference “a” have no seed in common" in note


def test_names_that_differ_in_capitals_alone_are_a_caution() -> None:
    (note,) = cells([*FOUR, ("B", 0, 93.0), ("B", 1, 94.0)]).notes
    assert note == "These variants differ in capitals or spaces alone, and are told apart: “b”, “B”."


def test_cells_are_trainings_of_their_own_unless_a_checkpoint_is_named() -> None:
    found = cells(FOUR)
    names = [name for by_seed in found.checkpoints.values() for name in by_seed.values()]
    assert len(set(names)) == 4
