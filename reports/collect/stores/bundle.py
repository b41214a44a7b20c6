"""This module reads the runs that are packed in a bundle, as `reports.collect.stores.tracking` reads them from MLflow.

Each run has a folder `runs/<id>/` in the bundle: `run.json` is the run without what names machines and people,
`history.json` has its metrics over the epochs, and its other files lie beside these. Nothing here imports MLflow.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ablations.errors import BundleError, TrackingError
from reports.archive.bundle import Bundle, open_bundle
from reports.collect.stores.base import NODES_AND_SUMMARIES, RunQuery, Store
from reports.collect.tracked_runs import TrackedRun

RUN_FILE, HISTORY_FILE = "run.json", "history.json"
_FOLDER = "runs"
# JSON has no integers as keys, and this makes steps of the texts.
_HISTORY = TypeAdapter(dict[str, dict[int, float]])


def member(run_id: str, name: str) -> str:
    """Return the name in a bundle of a file of a run."""
    return f"{_FOLDER}/{run_id}/{name}"


class PackedRun(BaseModel):
    """The content of `run.json`. Times are in milliseconds since 1970, `order` is the run's place, the newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    order: int
    experiment: str
    name: str
    status: str
    began: int
    ended: int
    data: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]

    def tracked(self) -> TrackedRun:
        """Return the run as the tracking store would."""
        return TrackedRun.from_tags(
            run_id=self.run_id,
            name=self.name,
            experiment=self.experiment,
            # Ids of experiments are those of one store, so that the name stands for them here.
            experiment_id=self.experiment,
            # Files are found by the run's id in the bundle, and an address would name a folder of the machine.
            artifact_uri="",
            status=self.status,
            deleted=False,
            began=self.began,
            ended=self.ended,
            data=self.data,
            tags=self.tags,
            params=self.params,
            metrics=self.metrics,
        )


class BundleStore(Store):
    """The runs in a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        packed = []
        for name in bundle.names:
            folder, _, file = name.rpartition("/")
            if folder.startswith(f"{_FOLDER}/") and file == RUN_FILE:
                packed.append(self._packed(name))
        # The order is stated, as runs that began in the same millisecond stand in the store's order.
        packed.sort(key=lambda run: run.order)
        self._runs = {run.run_id: run.tracked() for run in packed}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the store in a file.

        Raises:
            TrackingError: If it cannot be read, is no bundle, or was changed.
        """
        try:
            return cls(open_bundle(path))
        except BundleError as error:
            raise TrackingError(str(error)) from None

    def _packed(self, name: str) -> PackedRun:
        try:
            return PackedRun.model_validate_json(self._bundle.read(name))
        except ValidationError:
            raise BundleError(f"{name} in the bundle {self._bundle.path} is no run of this version.") from None

    def experiments(self, prefix: str) -> list[str]:
        """Return the names of the experiments that begin with `prefix`."""
        experiments = {run.experiment for run in self._runs.values()}
        return sorted(name for name in experiments if name.startswith(prefix))

    def runs(self, experiments: Iterable[str], query: RunQuery = NODES_AND_SUMMARIES) -> Iterator[TrackedRun]:
        """Yield the runs of some experiments that match, the newest first; an experiment may be missing."""
        names = frozenset(experiments)
        for run in self._runs.values():
            if run.experiment in names and query.matches(run.tags):
                yield run

    def run(self, run_id: str) -> TrackedRun | None:
        """Return a run, or `None` if the bundle does not have it."""
        return self._runs.get(run_id)

    def history(self, run: TrackedRun, metric: str) -> Mapping[int, float]:
        """Return the values of a metric by step."""
        # Tunings and failed runs are packed without their course, which is then empty and no error.
        name = member(run.run_id, HISTORY_FILE)
        if name not in self._bundle:
            return {}
        try:
            return _HISTORY.validate_json(self._bundle.read(name)).get(metric, {})
        except ValidationError:
            raise BundleError(f"{name} in the bundle {self._bundle.path} is no list of metrics by step.") from None

    def artifact(self, run: TrackedRun, path: str) -> str:
        """Return the text of a file of a run.

        Raises:
            OSError: If the bundle does not have it.
        """
        name = member(run.run_id, path)
        if name not in self._bundle:
            # As a store in a folder raises it: reports quote the reason, and must quote the same one.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._bundle.read(name).decode("utf-8")

    def has_artifact(self, run: TrackedRun, path: str) -> bool:
        """Return True if a run has a file."""
        return member(run.run_id, path) in self._bundle
