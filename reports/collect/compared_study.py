"""This module holds the data of one side of a comparison: its request, and the study's rows with their runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ablations.errors import UnknownNameError
from ablations.metrics import METRICS, MetricFacts
from ablations.planning.request import Request
from ablations.stores.addresses import shown, sqlite_address
from ablations.stores.store_file import FILE_NAME
from ablations.vocabulary import TAG_CHECKPOINT
from reports.collect.correctness import Correctness
from reports.collect.results import Repeat, finished_values
from reports.collect.stores.opening import bundle_path
from reports.collect.tracked_runs import TrackedRun


@dataclass(frozen=True)
class ComparisonRequest:
    """The request for one side of a comparison.

    Attributes:
        study: Name of a study, or a study file.
        commit: The first digits of a commit, or empty for any.
        uri: The tracking store, a runs folder or a bundle.
    """

    study: str
    commit: str
    uri: str
    scale: Request

    @property
    def store(self) -> str:
        """The address of the store."""
        # A runs folder will do as well as an address: its store has always the same name.
        if "://" in self.uri or bundle_path(self.uri) is not None:
            return self.uri
        return sqlite_address(Path(self.uri) / FILE_NAME)


@dataclass(frozen=True)
class ComparedRow:
    """One row of a study, as far as its runs tell.

    Attributes:
        repeats: The repeats that any row of the study has, by seed.
        runs: The run of each repeat, by seed; a missing repeat has none.
        correctness: Nothing: the test images that were right are not read here.
        unlearned: Nothing: trainings that never learned are not known here, without their whole settings.
    """

    title: str
    repeats: Mapping[int, Repeat]
    runs: Mapping[int, TrackedRun]
    correctness: Mapping[int, Correctness] = field(default_factory=dict, init=False)
    unlearned: Mapping[int, str] = field(default_factory=dict, init=False)

    @property
    def complete(self) -> bool:
        """True if every repeat has a value."""
        return len(self.values) == len(self.repeats)

    @property
    def values(self) -> dict[int, float]:
        """The deciding metric by seed, of the repeats that have one."""
        return finished_values(self.repeats)

    @property
    def params(self) -> dict[str, str]:
        """Its settings: repeats differ in their seed alone, which is left out, so that any run will do."""
        if not self.runs:
            return {}
        params = dict(next(iter(self.runs.values())).params)
        params.pop("seed", None)
        return params

    @property
    def checkpoints(self) -> dict[int, str]:
        """By seed, the training that is measured; of an evaluation it is not known here."""
        return {seed: run.fingerprint for seed, run in self.runs.items() if run.kind in ("trial", "network")}

    @property
    def trained_elsewhere(self) -> bool:
        """True if its network was trained elsewhere, as the tags of its runs say."""
        return any(TAG_CHECKPOINT in run.tags for run in self.runs.values())

    @property
    def fingerprints(self) -> dict[int, str]:
        """The fingerprint of each run by seed."""
        return {seed: run.fingerprint for seed, run in self.runs.items()}

    @property
    def run_ids(self) -> dict[int, str]:
        """The id of each run by seed."""
        return {seed: run.run_id for seed, run in self.runs.items()}

    def has_runs_of(self, other: ComparedRow) -> bool:
        """Return True if all its runs are those of another row."""
        return self.run_ids == other.run_ids


class ComparedSide(Protocol):
    """One side of a comparison: a study of ours in a store, or foreign results."""

    @property
    def study(self) -> str:
        """The name of its study."""

    @property
    def title(self) -> str:
        """The title of its study."""

    @property
    def metric(self) -> str:
        """The metric that judges it."""

    @property
    def metric_facts(self) -> MetricFacts:
        """The facts about that metric."""

    @property
    def references(self) -> tuple[str, ...]:
        """Names of its references: of a row, with the inspected network in front if there is one."""

    @property
    def rows(self) -> Mapping[str, ComparedRow]:
        """Its rows by name."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that a reader must know."""

    @property
    def name(self) -> str:
        """Its name in the name of a file."""

    @property
    def newest(self) -> int:
        """The time when its newest run ended, in milliseconds since 1970, or 0 if there is none."""


@dataclass(frozen=True)
class ComparedStudy:
    """One side of a comparison: the rows of a study in a store.

    Attributes:
        references: Names of its references: of a row, with the inspected network in front if there is one.
        warnings: Sentences that a reader must know.
    """

    request: ComparisonRequest
    study: str
    title: str
    metric: str
    references: tuple[str, ...]
    experiment: str
    rows: Mapping[str, ComparedRow]
    warnings: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """Its name in the name of a file."""
        if self.request.commit:
            return f"{self.study}@{self.request.commit}"
        return self.study

    @property
    def metric_facts(self) -> MetricFacts:
        """The facts about its metric.

        Raises:
            UnknownNameError: If the code at hand does not know it, as one of an older commit.
        """
        if self.metric not in METRICS:
            raise UnknownNameError(f"metric of study {self.study!r}", self.metric, METRICS)
        return METRICS[self.metric]

    @property
    def runs(self) -> tuple[TrackedRun, ...]:
        """Its runs, each once."""
        by_id: dict[str, TrackedRun] = {}
        # Rows share runs, so that these are counted by their ids.
        for row in self.rows.values():
            for run in row.runs.values():
                by_id[run.run_id] = run
        return tuple(by_id.values())

    @property
    def newest(self) -> int:
        """The time when its newest run ended, in milliseconds since 1970, or 0 if there is none."""
        return max((run.ended for run in self.runs), default=0)

    @property
    def shown_store(self) -> str:
        """The store's address without its secrets."""
        return shown(self.request.store)
