"""This module defines the errors that a user can cause; every package but `dyconv` raises them.

Each message says what was wrong, what was found and what to do. The CLI prints it without a traceback and exits with
`exit_code`: 2 for input that could be known to be wrong before anything was trained, 1 for everything else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AblationError(Exception):
    """Base of every error that is explained to the user instead of shown as a traceback."""

    exit_code = 2


class SpecError(AblationError):
    """A setting of a spec is unknown, has a wrong type or value, or is read by nothing."""


class SettingError(SpecError):
    """A value of one setting is wrong.

    Args:
        key: The dotted setting, or a part of its value (`model.where.role`).
    """

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


class StudyError(AblationError):
    """A study is malformed: its YAML, its variants, its reference or its names."""


class OptionError(AblationError):
    """An option of the command line does not fit the others, or what it needs is not there."""


class DatasetError(AblationError):
    """A data set is missing, incomplete or corrupt; the message names the file and the remedies."""


class ResultsError(AblationError):
    """Results that were measured elsewhere cannot be read, or do not say what they must."""


class TuningError(AblationError):
    """Tuned values are missing, are out of date or do not fit what was tuned."""


class PluginError(AblationError):
    """A plug-in cannot be identified, or is not the same in two processes."""


class OutputError(AblationError):
    """An output folder or file cannot be written.

    Args:
        errno: The system's number for the cause, or `None`.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        self.errno = errno
        super().__init__(message)


class RunsFolderError(OutputError):
    """The runs folder was removed, or replaced by another one, while a launch worked in it."""

    exit_code = 1


class TrackingError(AblationError):
    """The MLflow tracking store cannot be reached or refuses what it is given."""


class DispatchError(AblationError):
    """A worker did not answer the launcher."""

    exit_code = 1


class CheckpointError(AblationError):
    """A checkpoint is missing, torn or does not belong to the network at hand."""

    exit_code = 1


class TrainingError(AblationError):
    """A training cannot go on, for example because its loss is not a number."""

    exit_code = 1


class WorkerError(AblationError):
    """One of several processes that train one network together has failed.

    Args:
        cause: Why, one of `runners.state.failures.Cause`.
    """

    exit_code = 1

    def __init__(self, message: str, cause: str) -> None:
        self.cause = cause
        super().__init__(message)


class LeaseError(AblationError):
    """A node is being run by another process, so that this one must stop, or must not touch it."""

    exit_code = 1


class BudgetError(AblationError):
    """A plan takes longer than it may, or its time cannot be estimated."""


class ReportError(AblationError):
    """A report cannot be made from the runs there are."""

    exit_code = 1


class BundleError(AblationError):
    """A bundle is no bundle, was changed, or cannot be read by this version of the code."""

    exit_code = 1


class UnknownNameError(AblationError):
    """A name is not registered; the message gives the nearest ones.

    Args:
        kind: What the name was meant to be, for example `"study"`.
        given: The name as the user wrote it.
        candidates: Every name that would have been accepted.
    """

    def __init__(self, kind: str, given: str, candidates: Iterable[str]) -> None:
        self.kind, self.given, self.candidates = kind, given, tuple(candidates)
        super().__init__(f"unknown {kind} {given!r}. {nearest(given, self.candidates)}")


def nearest(given: str, candidates: Iterable[str], limit: int = 3) -> str:
    """Return a sentence that names the `limit` candidates most like `given`, or all when none is alike."""
    names = list(dict.fromkeys(candidates))
    close = difflib.get_close_matches(given, names, n=limit, cutoff=0.5)
    if not close:
        # Other capitals, or a missing prefix (`epochs` for `train.temperature.epochs`), can lower the ratio too far.
        lowered = {name.casefold(): name for name in names}
        tails = [name for name in names if name.rpartition(".")[2] == given.rpartition(".")[2]]
        close = tails[:limit] or [lowered[m] for m in difflib.get_close_matches(given.casefold(), lowered, limit)]
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    if not names:
        return "There are none."
    return f"Known are: {', '.join(sorted(names))}."
