"""This module finds, opens and writes the runs of one experiment of one tracking store. It knows no nodes.

`runners.tracking.tracker` builds on it. Every write may be repeated: entries that the store has already stay as they
are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ablations import vocabulary as names
from ablations.stores.addresses import sqlite_file
from ablations.stores.store_file import ARTIFACTS, local_folder
from runners.tracking.store import is_shared

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
_PER_CALL = 100
"""Params, or tags, that a store takes in one call."""
_METRICS_PER_CALL = 800
"""With the tags and params of the same call at most the thousand entries that a store takes in one call."""


@dataclass
class KnownRun:
    """The known state of a run of the store; every writer here keeps it up to date.

    Attributes:
        started: Milliseconds, by the clock of the machine that opened it.
        params: The names alone.
        has_data: True if its data set is logged.
        artifacts: URI of the folder with its files.
    """

    run_id: str
    status: str
    started: int
    tags: dict[str, str]
    params: frozenset[str]
    has_data: bool
    artifacts: str = ""

    @classmethod
    def of(cls, run: Any) -> Self:
        """Return the known state of a run of MLflow."""
        info, data = run.info, run.data
        has_data = bool(run.inputs and run.inputs.dataset_inputs)
        return cls(
            info.run_id,
            info.status,
            info.start_time or 0,
            dict(data.tags),
            frozenset(data.params),
            has_data,
            info.artifact_uri or "",
        )

    @property
    def generation(self) -> str:
        """The word that all runs of a state folder measured anew carry, or empty."""
        return self.tags.get(names.TAG_GENERATION, "")

    @property
    def is_superseded(self) -> bool:
        """True if another run counts instead."""
        return names.TAG_SUPERSEDED in self.tags

    @property
    def order(self) -> tuple[int, str]:
        """A key that gives all readers the same order of runs."""
        # Clocks of several machines decide first; the identifier makes the order whole, and the same for all.
        return (self.started, self.run_id)

    def add(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Add params and tags that have been written to the store."""
        self.params |= params.keys()
        self.tags |= tags

    def differing(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the tags that the run lacks or has with another value."""
        return {key: value for key, value in tags.items() if self.tags.get(key) != value}


class Experiment:
    """The runs of one preset and data set in one store.

    Args:
        uri: The tracking store; `prepare_store` must have seen it.
        name: Name of the MLflow experiment; created if there is none.
        artifacts: The folder in which a local store keeps artifacts; a server decides for itself.
    """

    def __init__(self, uri: str, name: str, artifacts: Path) -> None:
        from mlflow import MlflowClient

        self.uri, self.name = uri, name
        self.client = MlflowClient(tracking_uri=uri)
        self.experiment_id = self._find(name) or self._create(name, artifacts)

    def _find(self, name: str) -> str | None:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return None
        # A deleted experiment keeps its name, so none can be created beside it.
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _create(self, name: str, artifacts: Path) -> str:
        from mlflow.exceptions import MlflowException

        location, tags = None, None
        # A store that others use decides itself where artifacts are: a folder of this machine means nothing to them.
        if not is_shared(self.uri):
            folder = artifacts.resolve() / names.slug(name)
            location = folder.as_uri()
            store = sqlite_file(self.uri)
            if store is not None and store.resolve().parent / ARTIFACTS == folder.parent:
                # The tag marks artifacts that lie beside the store and move with it.
                tags = {names.TAG_ARTIFACTS: folder.name}
        try:
            return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException:
            # Another launch may have been a moment faster.
            experiment_id = self._find(name)
            if experiment_id is None:
                raise
            return experiment_id

    def search(self, filter_string: str) -> Iterator[Any]:
        """Yield the experiment's runs that match, the newest first; deleted ones are not found."""
        # MLflow answers page by page, a thousand runs each.
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, order_by=["attributes.start_time DESC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def open_run(self, title: str, tags: Mapping[str, str], *, began: float | None = None) -> KnownRun:
        """Open a run with its tags and return it; `began` is in seconds since the epoch, now by default."""
        start = int(began * 1000) if began is not None else None
        run = self.client.create_run(self.experiment_id, start_time=start, tags=dict(tags), run_name=title)
        return KnownRun.of(run)

    def create_run(
        self,
        title: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        events: Iterable[Mapping[str, Any]] = (),
    ) -> str:
        """Open a run with its tags, params and events (see `write`) and return its id."""
        run_id = self.open_run(title, tags).run_id
        self.write(run_id, events, params=params)
        return run_id

    def write(
        self,
        run_id: str,
        events: Iterable[Mapping[str, Any]] = (),
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write events, params and tags in as few calls as the store takes; no event is divided without need.

        An event has a `step`, a `time` in milliseconds and `metrics`.
        """
        from mlflow.entities import Param, RunTag

        metrics = list(_batches(events))
        entries = _chunks([Param(key, str(value)) for key, value in (params or {}).items()])
        labels = _chunks([RunTag(key, value) for key, value in (tags or {}).items()])
        # The n-th call takes the n-th chunk of each kind.
        for number in range(max(len(metrics), len(entries), len(labels))):
            self.client.log_batch(run_id, _at(metrics, number), _at(entries, number), _at(labels, number))

    def put_file(self, run: KnownRun, file: Path, folder: str = "") -> None:
        """Keep a file as an artifact of a run, in a folder of its artifacts if one is named."""
        local = _local_folder(run)
        if local is None:
            self.client.log_artifact(run.run_id, str(file), folder or None)
        else:
            (local / folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, local / folder / file.name)

    def put_text(self, run: KnownRun, text: str, name: str) -> None:
        """Keep a text as an artifact of a run."""
        local = _local_folder(run)
        if local is None:
            self.client.log_text(run.run_id, text, name)
        else:
            local.mkdir(parents=True, exist_ok=True)
            (local / name).write_text(text, encoding="utf-8")

    def tag(self, run: KnownRun, tags: Mapping[str, str]) -> None:
        """Set the tags that the run lacks or has with another value."""
        # Most calls find everything there, which saves the request.
        missing = run.differing(tags)
        if missing:
            self.write(run.run_id, tags=missing)
            run.tags.update(missing)

    def set_status(self, run: KnownRun, status: str, end_time: int | None = None) -> None:
        """Set the status of a run; `end_time` of a run that ends is in milliseconds, now by default."""
        # `set_terminated` would write an end time, and a run that goes on has none.
        if status == RUNNING:
            self.client.update_run(run.run_id, status=status)
        else:
            self.client.set_terminated(run.run_id, status=status, end_time=end_time)
        run.status = status


def _local_folder(run: KnownRun) -> Path | None:
    """Return the folder of a run's artifacts on this machine, or `None` if they are on a server.

    Writing there directly saves a request: the client would first ask for the whole run.
    """
    return local_folder(run.artifacts) if run.artifacts.startswith("file:") else None


def _batches(events: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """Yield the metrics of events in batches. A batch is written whole or not at all, and so is an event in it."""
    from mlflow.entities import Metric

    batch: list[Any] = []
    for event in events:
        metrics = []
        for name, value in sorted(event["metrics"].items(), key=_shown_late):
            metrics.append(Metric(names.tracked_metric(name), value, event["time"], event["step"]))
        if batch and len(batch) + len(metrics) > _METRICS_PER_CALL:
            yield batch
            batch = []
        batch += metrics
        # Only an event that is larger than a whole batch is divided.
        while len(batch) > _METRICS_PER_CALL:
            yield batch[:_METRICS_PER_CALL]
            batch = batch[_METRICS_PER_CALL:]
    if batch:
        yield batch


def _shown_late(metric: tuple[str, float]) -> tuple[bool, str]:
    """Return a key that moves metrics of the machine, of classes and of layers behind the others, whose order stays.

    The page of a run lists its metrics in the order in which they first came to the store.
    """
    name = names.tracked_metric(metric[0])
    is_late = name != metric[0] or name.startswith(names.SYSTEM_PREFIX)
    return (is_late, name if is_late else "")


def _chunks(entries: Sequence[Any]) -> list[list[Any]]:
    return [list(entries[start : start + _PER_CALL]) for start in range(0, len(entries), _PER_CALL)]


def _at(chunks: Sequence[list[Any]], number: int) -> list[Any]:
    return chunks[number] if number < len(chunks) else []
