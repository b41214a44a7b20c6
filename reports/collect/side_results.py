"""This module holds the data of one side of a comparison: the request, and the study's rows and runs. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ablations.addresses import shown, sqlite_address
from ablations.planning.request import Request
from ablations.store_file import FILE_NAME
from reports.collect.correctness import Correctness
from reports.collect.results import FINISHED


@dataclass(frozen=True)
class Wanted:
    """The request for one side.

    Attributes:
        study: Name of a study, or a study file.
        commit: The first digits of a commit, or empty for any.
        uri: The tracking store, or a runs folder.
        request: Preset, overrides and seeds.
    """

    study: str
    commit: str
    uri: str
    request: Request

    @property
    def store(self) -> str:
        """The address of the store."""
        return self.uri if "://" in self.uri else sqlite_address(Path(self.uri) / FILE_NAME)


@dataclass(frozen=True)
class SideRun:
    """One run of a side.

    Attributes:
        run_id: Its id.
        fingerprint: Fingerprint of its node.
        value: The deciding metric, NaN without one.
        status: `results.FINISHED`, or the reason why there is no value.
        commit: The code's commit, with an asterisk if it was modified.
        params: Its settings, the seed left out.
        data: Name and digest of its data.
        ended: In milliseconds since 1970.
        kind: Kind of its node, `trial` for a training; empty if unknown.
    """

    run_id: str
    fingerprint: str
    value: float
    status: str
    commit: str
    params: Mapping[str, str]
    data: str
    ended: int
    kind: str = ""


@dataclass(frozen=True)
class SideRow:
    """One row of a side: its title and its repeats by seed; of absent repeats, the seed alone is known."""

    title: str
    repeats: Mapping[int, SideRun]
    absent: frozenset[int] = frozenset()

    @property
    def complete(self) -> bool:
        """True if every repeat that other rows have has a value."""
        return not self.absent and all(run.status == FINISHED for run in self.repeats.values())

    @property
    def values(self) -> dict[int, float]:
        """The deciding metric by seed, of the repeats that have one."""
        return {seed: run.value for seed, run in self.repeats.items() if run.status == FINISHED}

    @property
    def expected(self) -> int:
        """The number of repeats that there should be."""
        return len(self.repeats) + len(self.absent)

    @property
    def checkpoints(self) -> dict[int, str]:
        """By seed, the training that is measured; of an evaluation it is not known here."""
        return {seed: run.fingerprint for seed, run in self.repeats.items() if run.kind == "trial"}

    @property
    def correctness(self) -> Mapping[int, Correctness]:
        """Nothing: the test images that were right are not read here."""
        return {}

    @property
    def unlearned(self) -> Mapping[int, str]:
        """Nothing: the trainings that never learned are not known here, without their whole settings."""
        return {}


@dataclass(frozen=True)
class Side:
    """The rows of a study in a store.

    Attributes:
        wanted: The request.
        study: The study's name.
        title: Its title.
        metric: The deciding metric.
        references: Names of its references: of a row, with the inspected network in front if there is one.
        experiment: The experiment that the runs are in.
        rows: Its rows by name.
        warnings: Sentences that a reader must know.
    """

    wanted: Wanted
    study: str
    title: str
    metric: str
    references: tuple[str, ...]
    experiment: str
    rows: Mapping[str, SideRow]
    warnings: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """Its name in the name of a file."""
        return f"{self.study}@{self.wanted.commit}" if self.wanted.commit else self.study

    @property
    def runs(self) -> tuple[SideRun, ...]:
        """Its runs, each once."""
        by_id = {run.run_id: run for row in self.rows.values() for run in row.repeats.values()}
        return tuple(by_id.values())

    @property
    def shown_store(self) -> str:
        """The store's address without its secrets."""
        return shown(self.wanted.store)
