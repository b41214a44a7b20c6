"""This module holds `Computing`: the runs of a report's studies with the time of each, and the sums over them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Outcome = Literal["counted", "finished", "superseded", "failed", "aborted", "running"]
"""The end of a run, for the report: `counted` in it; `finished` without being counted; `superseded`, that is, done
anew; `failed`; `aborted`, that is, interrupted or killed; `running`, that is, without an end so far."""

KINDS = ("trial", "network", "evaluation", "cost", "tuning", "search")
"""The kinds of run that compute something, in the order in which a report lists them."""

_LONGEST_SECONDS = 1e11
_MOST_BYTES = 2**60


@dataclass(frozen=True)
class AccountedRun:
    """A run with the time that it took.

    Attributes:
        kind: One of `KINDS`.
        seconds: Device time: the wall time of all its attempts times the devices that it ran on. `None` if unknown.
        ended: When it ended, or began if it has not ended, in milliseconds since 1970.
        attempts: Number of attempts; 1 where it was not tracked.
        machine: Its processor or GPU in words, empty if it was not tracked.
        gpu: True if it ran on a GPU.
        memory: The most bytes of main memory that its worker took, 0 if it was not tracked; `gpu_memory` likewise.
    """

    run_id: str
    kind: str
    outcome: Outcome
    seconds: float | None
    ended: int
    attempts: int = 1
    machine: str = ""
    gpu: bool = False
    memory: int = 0
    gpu_memory: int = 0

    def as_mapping(self) -> dict[str, Any]:
        """Return the run as plain data, without its id and without what has its default."""
        # Reports may have thousands of runs, each of which is in the manifest.
        values = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name != "run_id" and value != entry.default:
                values[entry.name] = value
        return values

    @classmethod
    def from_mapping(cls, run_id: str, values: Mapping[str, Any]) -> AccountedRun:
        """Return the run of which `as_mapping` made the values.

        Raises:
            TypeError, KeyError, ValueError, OverflowError: If the values are no run.
        """
        # Unknown is not zero: a sum over runs must be able to say that times are missing.
        seconds = values["seconds"]
        run = cls(
            run_id=run_id,
            kind=str(values["kind"]),
            outcome=values["outcome"],
            seconds=None if seconds is None else float(seconds),
            ended=int(values["ended"]),
            attempts=int(values.get("attempts", 1)),
            machine=str(values.get("machine", "")),
            gpu=bool(values.get("gpu", False)),
            memory=int(values.get("memory", 0)),
            gpu_memory=int(values.get("gpu_memory", 0)),
        )
        # Anyone may have edited the content of a report.
        if run.kind not in KINDS or run.outcome not in get_args(Outcome):
            raise ValueError(f"run {run_id!r} has a kind or an outcome that does not exist")
        has_time = 0 <= (run.seconds or 0) < _LONGEST_SECONDS
        if not has_time or not 0 <= run.memory < _MOST_BYTES or not 0 <= run.gpu_memory < _MOST_BYTES:
            raise ValueError(f"run {run_id!r} has a time or a memory that cannot be")
        return run


@dataclass(frozen=True)
class Computing:
    """All runs of a report's studies, each once, however many studies share it."""

    runs: tuple[AccountedRun, ...] = field(default=())

    @property
    def counted(self) -> list[AccountedRun]:
        """The runs that the report's numbers come from."""
        return self.of("counted")

    def of(self, *outcomes: Outcome) -> list[AccountedRun]:
        """Return the runs that ended in one of some outcomes."""
        return [run for run in self.runs if run.outcome in outcomes]

    def as_mapping(self) -> dict[str, Any]:
        """Return the runs as plain data, by id."""
        return {run.run_id: run.as_mapping() for run in self.runs}

    def as_of(self, stored: Mapping[str, Any]) -> tuple[Computing, list[str]]:
        """Return the computing of the runs in a report, and notes on what is not checked.

        A store goes on after a report: runs are added, failed ones are tried again, finished ones are done anew. A run
        that has still the outcome and the end that the report states is taken from the store, so that a changed time
        is found; any other run is taken from the report.

        Args:
            stored: What `as_mapping` made for the report.

        Raises:
            TypeError, KeyError, ValueError, OverflowError, AttributeError: If it is not laid out like that.
        """
        tracked = {run.run_id: run for run in self.runs}
        runs = []
        gone = changed = 0
        for run_id, values in stored.items():
            run = AccountedRun.from_mapping(run_id, values)
            current = tracked.get(run_id)
            if current is None:
                gone += 1
            # A run that went on has another time for a good reason, which is no difference.
            elif (current.outcome, current.ended) != (run.outcome, run.ended):
                changed += 1
            else:
                run = current
            runs.append(run)
        # The newest run in the report stands for its date, and is of the same clocks as the others.
        newest = max((run.ended for run in runs), default=0)
        unlisted = 0
        for run in self.runs:
            # What ended later than all of the report came to the store after it, and says nothing about it.
            if run.run_id not in stored and run.ended <= newest:
                unlisted += 1
        return Computing(tuple(runs)), list(_notes(gone, changed, unlisted))


def total_seconds(runs: Iterable[AccountedRun]) -> float:
    """Return the device seconds of some runs; a run of unknown time adds none."""
    # An exact sum does not depend on the order, in which two stores may list the same runs differently.
    return math.fsum(run.seconds or 0.0 for run in runs)


def _notes(gone: int, changed: int, unlisted: int) -> Iterator[str]:
    if gone:
        yield f"computing, runs that are not in the store any more: {gone}; their times are not checked"
    if changed:
        yield f"computing, runs that went on or were done anew since: {changed}; their times until then are not checked"
    if unlisted:
        yield (
            f"computing, runs of these studies that ended before the report's newest and are not in it: {unlisted}; "
            "they came to the store or to these studies since, or were left out"
        )
