"""The nearest names, and which exit code an error has."""

from __future__ import annotations

import pytest

from ablations.errors import (
    AblationError,
    CheckpointError,
    DatasetError,
    OutputError,
    ReportError,
    SpecError,
    StudyError,
    TrackingError,
    TrainingError,
    UnknownNameError,
    nearest,
)


@pytest.mark.parametrize(
    ("given", "candidates", "sentence"),
    [
        ("agregation", ["aggregation", "temperature"], "Did you mean 'aggregation'?"),
        ("TEMPERATURE", ["aggregation", "temperature"], "Did you mean 'temperature'?"),
        ("num_kernels", ["model.num_kernels", "train.epochs"], "Did you mean 'model.num_kernels'?"),
        ("zzz", ["b", "a", "b"], "Known are: a, b."),
        ("", ["b", "a"], "Known are: a, b."),
        ("x", [], "There are none."),
        ("abcd", ["abce", "abcf", "abcg", "abch"], "Did you mean 'abch' or 'abcg' or 'abcf'?"),
    ],
)
def test_nearest(given: str, candidates: list[str], sentence: str) -> None:
    assert nearest(given, candidates) == sentence


def test_unknown_names_keep_what_was_given() -> None:
    error = UnknownNameError("study", "x'y", (name for name in ["a"]))
    assert (error.kind, error.given, error.candidates) == ("study", "x'y", ("a",))
    assert str(error) == 'unknown study "x\'y". Known are: a.'


@pytest.mark.parametrize("kind", [SpecError, StudyError, DatasetError, OutputError, TrackingError])
def test_errors_that_are_known_before_training_exit_with_2(kind: type[AblationError]) -> None:
    assert kind.exit_code == 2


@pytest.mark.parametrize("kind", [CheckpointError, TrainingError, ReportError])
def test_errors_of_the_work_itself_exit_with_1(kind: type[AblationError]) -> None:
    assert kind.exit_code == 1
