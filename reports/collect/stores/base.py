"""This module defines `Store`, which tracking stores and bundles both are for their reader, and queries for runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ablations import vocabulary as names
from reports.collect.tracked_runs import TrackedRun

Content = TypeVar("Content")


class ArtifactError(OSError):
    """A file of a run cannot be fetched."""


@dataclass(frozen=True)
class RunQuery:
    """A query for runs by one tag: those in which it has a value or, if `differs`, those in which it has another one.

    A run without the tag matches neither. A query without a tag matches every run.
    """

    tag: str
    value: str
    differs: bool = False

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Return True if a run with these tags is asked for."""
        if not self.tag:
            return True
        # MLflow leaves out runs without the tag, with != too, and a bundle must match the same ones.
        return self.tag in tags and (tags[self.tag] != self.value) == self.differs


NODES_AND_SUMMARIES = RunQuery(names.TAG_KIND, "variant", differs=True)
"""The query for all runs but the rows of summaries; runs of other projects, which have no kind, do not match it."""

SUMMARIES = RunQuery(names.TAG_KIND, "study")
"""The query for the summary runs of studies."""


EVERY_RUN = RunQuery("", "")
"""The query for all runs, whoever has made them."""


def in_group(group: str) -> RunQuery:
    """Return the query for the trials of a tuning or of a search."""
    return RunQuery(names.TAG_GROUP, group)


class Store(ABC):
    """A holder of runs that is only read."""

    @abstractmethod
    def experiments(self, prefix: str) -> list[str]:
        """Return the names of the experiments that begin with `prefix`."""

    @abstractmethod
    def runs(self, experiments: Iterable[str], query: RunQuery = NODES_AND_SUMMARIES) -> Iterator[TrackedRun]:
        """Yield the active runs of some experiments that match, the newest first; an experiment may be missing."""

    @abstractmethod
    def run(self, run_id: str) -> TrackedRun | None:
        """Return a run, deleted or not, or `None` if it is not known."""

    @abstractmethod
    def history(self, run: TrackedRun, metric: str) -> Mapping[int, float]:
        """Return the values of a metric by step; of a step that was tracked twice, the last value by time."""

    @abstractmethod
    def artifact(self, run: TrackedRun, path: str) -> str:
        """Return the text of a file of a run.

        Raises:
            OSError: If it cannot be read.
        """

    @abstractmethod
    def has_artifact(self, run: TrackedRun, path: str) -> bool:
        """Return True if a run has a file."""

    def read_each(self, read: Callable[[Any, TrackedRun], Content], runs: Sequence[TrackedRun]) -> list[Content]:
        """Return the results of a function that reads files of a run, one for each run."""
        return [read(self, run) for run in runs]
