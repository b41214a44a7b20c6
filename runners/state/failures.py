"""This module finds the cause of a failure, and holds the policy by which a launch tries again. No torch here."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from ablations.errors import (
    OutputError,
    SpecError,
    StudyError,
    TrackingError,
    TrainingError,
    UnknownNameError,
    WorkerError,
)

T = TypeVar("T")

Cause = Literal["killed", "memory", "input_output", "training", "spec", "error"]
"""Why an attempt failed.

killed: its process died (by a signal, with its machine, for lack of the machine's memory).
memory: it asked for more memory than the device or the machine had.
input_output: a disk, a network file system or a connection failed in a way that may pass.
training: the training itself went wrong, for example its loss is not a number.
spec: the spec cannot work with this code.
error: anything else, for example a missing file or an error in a plug-in."""

CAUSES: tuple[Cause, ...] = get_args(Cause)

# Some names are missing on some systems, therefore `hasattr`.
_PASSING_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "EAGAIN", "EINTR", "EBUSY", "ENOSPC", "EDQUOT", "ENOMEM", "EMFILE", "ENFILE", "ENOLCK", "ESTALE",
        "EREMOTEIO", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "EPIPE", "EHOSTDOWN", "EHOSTUNREACH",
        "ENETDOWN", "ENETRESET", "ENETUNREACH", "ESHUTDOWN",
    )
    if hasattr(errno, name)
)  # fmt: skip
# torch raises plain RuntimeErrors for these, so that only the message tells the cause.
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE)
_DISK = re.compile(r"No space left|disk is full|disk quota|disk I/O error|Input/output error", re.IGNORECASE)
_WORKER_DIED = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)", re.DOTALL)


@dataclass(frozen=True)
class FailurePolicy:
    """A launch's reaction to failures, as data.

    Attributes:
        retries: The most times that a node is tried again after failures that may pass.
        wait_seconds: Wait before the first of these.
        wait_factor: Factor from each wait to the next.
        passing: Causes that may pass by themselves: tried again within the launch.
        lasting: Causes that follow from the spec alone: not tried again by a later launch either, unless it is asked
            to. What is in neither is tried once by each launch, as somebody may have mended it.
    """

    retries: int = 2
    wait_seconds: float = 5.0
    wait_factor: float = 2.0
    longest_wait_seconds: float = 300.0
    passing: frozenset[Cause] = frozenset({"killed", "memory", "input_output"})
    lasting: frozenset[Cause] = frozenset({"training", "spec"})

    def wait_before_retry(self, cause: str, failures: int) -> float | None:
        """Return the seconds to wait until a node is tried again, or `None` if it is not.

        Args:
            cause: The cause of its last failure.
            failures: The number of its failures in this launch, the last one included.
        """
        if cause not in self.passing or failures > self.retries:
            return None
        return min(self.wait_seconds * self.wait_factor ** (failures - 1), self.longest_wait_seconds)

    def is_lasting(self, cause: str) -> bool:
        """Return True if a node that failed for this cause would fail again on any machine."""
        return cause in self.lasting


def cause_of(error: BaseException) -> Cause:
    """Return the cause of an attempt's failure from the error that ended it."""
    if isinstance(error, WorkerError):
        # The cause comes as text from another process, perhaps of a later version that knows more causes.
        return next((cause for cause in CAUSES if cause == error.cause), "error")
    if isinstance(error, TrainingError):
        return "training"
    if isinstance(error, OutputError | OSError):
        return "input_output" if _may_pass(error) else "error"
    if isinstance(error, TrackingError):
        # A library's message about the disk carries no error number any more.
        return "input_output" if _DISK.search(str(error)) else "error"
    if isinstance(error, SpecError | StudyError | UnknownNameError) or _is_called(error, "DyconvError"):
        return "spec"
    if isinstance(error, MemoryError) or _is_called(error, "OutOfMemoryError"):
        return "memory"
    if isinstance(error, RuntimeError):
        return _cause_of_runtime_error(str(error))
    return "error"


def _may_pass(error: OutputError | OSError) -> bool:
    # Without a number: a library's own kind of timeout or lost connection.
    return error.errno in _PASSING_ERRORS or (error.errno is None and isinstance(error, ConnectionError | TimeoutError))


def _cause_of_runtime_error(message: str) -> Cause:
    """Return the cause of an error whose message alone tells it, as torch's do."""
    if _OUT_OF_MEMORY.search(message):
        return "memory"
    return "killed" if _WORKER_DIED.search(message) else "error"


def _is_called(error: BaseException, name: str) -> bool:
    # By name, as the classes are there only where torch has been imported.
    return any(kind.__name__ == name for kind in type(error).__mro__)


def patiently(
    action: Callable[[], T],
    policy: FailurePolicy,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call `action`, which writes something for the launch itself, and return its result; retry as the policy says.

    Args:
        action: Writes; may be called again after it has failed half-way.
        policy: The causes that may pass, the number of retries and the waits before them.
        tell: Receives a message for each failure after which `action` is tried again.
        sleep: Waits so many seconds.

    Raises:
        OutputError, OSError, TrackingError: The last failure, if the cause does not pass.
    """
    failures = 0
    while True:
        try:
            return action()
        except (OutputError, OSError, TrackingError) as error:
            failures += 1
            wait = policy.wait_before_retry(cause_of(error), failures)
            if wait is None:
                raise
            tell(f"{error} Trying again in {wait:.0f} s.")
            sleep(wait)
