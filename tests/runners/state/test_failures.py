"""What a failure is due to, and whether it is tried again."""

from __future__ import annotations

import errno

import pytest
import torch

import dyconv
from ablations import errors
from runners.state.failures import CAUSES, FailurePolicy, cause_of

POLICY = FailurePolicy(retries=4, wait_seconds=5.0, longest_wait_seconds=30.0)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "killed"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "killed"),
        (RuntimeError("shapes do not match"), "error"),
        (OSError(errno.EIO, "Input/output error"), "input_output"),
        (OSError(errno.ESTALE, "Stale file handle"), "input_output"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "error"),
        (PermissionError(errno.EACCES, "Permission denied"), "error"),
        (ConnectionResetError(), "input_output"),
        (TimeoutError("took too long"), "input_output"),
        (errors.OutputError("cannot write: No space left", errno.ENOSPC), "input_output"),
        (errors.OutputError("cannot write: Read-only file system", errno.EROFS), "error"),
        (errors.OutputError("describes no node"), "error"),
        (errors.TrainingError("the loss is nan"), "training"),
        (errors.SpecError("no such setting"), "spec"),
        (errors.UnknownNameError("network", "x", []), "spec"),
        (dyconv.PlacementError("selects nothing"), "spec"),
        (errors.DatasetError("a file is missing"), "error"),
        (errors.CheckpointError("the weights are torn"), "error"),
        (errors.WorkerError("one of 2 processes failed", "memory"), "memory"),
        (errors.WorkerError("one of 2 processes failed", "nonsense"), "error"),
        (ZeroDivisionError(), "error"),
    ],
)
def test_each_error_has_its_cause(error: Exception, cause: str) -> None:
    assert cause in CAUSES
    assert cause_of(error) == cause


def test_waits_grow_up_to_the_longest_one_and_come_to_an_end() -> None:
    assert [POLICY.wait_before_retry("killed", failures) for failures in range(1, 6)] == [5, 10, 20, 30, None]
    assert FailurePolicy(retries=0).wait_before_retry("killed", 1) is None


@pytest.mark.parametrize(("cause", "again", "lasts"), [
    ("killed", True, False),
    ("memory", True, False),
    ("input_output", True, False),
    ("training", False, True),
    ("spec", False, True),
    ("error", False, False),
    ("of a later version", False, False),
])  # fmt: skip
def test_what_may_pass_is_tried_again_and_what_lasts_is_not(cause: str, again: bool, lasts: bool) -> None:
    assert (POLICY.wait_before_retry(cause, 1) is not None) is again
    assert POLICY.is_lasting(cause) is lasts
