"""Defines the data that a launch shows while it goes on, its summary at the end, and the interface of a display."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ablations.launches import Record


@dataclass(frozen=True)
class Running:
    """A node under way, for a display."""

    title: str
    progress: dict[str, float]
    is_trial: bool


@dataclass(frozen=True)
class Failure:
    """A node that could not be measured, with the reason and the log file.

    Attributes:
        reason: Of the last attempt.
        log_file: The file in which each attempt left its traceback.
        attempts: The number of attempts in this launch; 0 if a failure of an earlier launch forbids a new one.
    """

    title: str
    reason: str
    log_file: Path
    attempts: int = 1


@dataclass
class Progress:
    """The state of a launch, for a display.

    Attributes:
        blocked: Evaluations whose training failed.
        elsewhere: Nodes under way in other launches.
        put_off: Nodes that wait for their next attempt.
        share: Share of the work that is done, 0 to 1.
        seconds: Time since the start.
    """

    total: int
    finished: int = 0
    failed: int = 0
    blocked: int = 0
    elsewhere: int = 0
    put_off: int = 0
    running: list[Running] = field(default_factory=list)
    share: float = 0.0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace so far, or `None` while nothing can be said."""
        # Below one per cent, the time so far would be extrapolated more than a hundredfold.
        if self.share <= 0.01:
            return None
        return self.seconds * (1 - self.share) / self.share


class Display(Protocol):
    """Shows the progress of a launch."""

    def update(self, progress: Progress) -> None:
        """Show the progress."""

    def note(self, message: str) -> None:
        """Show a message about one event."""


@dataclass(frozen=True)
class Summary:
    """The end of a launch.

    Attributes:
        finished: Nodes measured, by this launch or by others meanwhile.
        blocked: Evaluations left out because their training failed.
        interrupted: True if the user ended it.
        untracked: The reason why something could not be written to the tracking store, or `None`.
        stopped: Nodes left out because another one failed.
        record: Estimated and actual time, if there was something to do.
    """

    finished: int
    failures: tuple[Failure, ...]
    blocked: int
    interrupted: bool
    seconds: float
    untracked: str | None
    stopped: int = 0
    record: Record | None = None
