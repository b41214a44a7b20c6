"""This module opens the tracking store for reading: its runs, their files, and errors that say what to do.

It alone imports MLflow. Opening never makes a store.
"""

from __future__ import annotations

import gc
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ablations import vocabulary as names
from ablations.errors import TrackingError
from ablations.invocation import named_studies, suggested_command
from ablations.stores.addresses import shown, sqlite_file
from ablations.stores.secrets import hide_secrets, without_secrets
from ablations.stores.store_file import Condition, artifact_home, inspect_store, local_folder, run_home
from reports.collect.stores.base import NODES_AND_SUMMARIES, ArtifactError, Content, RunQuery, Store
from reports.collect.tracked_runs import TrackedRun

PAGE = 1000
"""Number of runs per request."""

_PORTS = {"http": 80, "https": 443}
_CONNECT_SECONDS = 5.0
_FETCHERS = 16
"""Files fetched at once: a server answers each in milliseconds, most of which are waiting."""

_PROGRESS_BAR = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"


@contextmanager
def opened(uri: str) -> Iterator[TrackingStore]:
    """Open a tracking store for reading.

    Raises:
        TrackingError: If there is no such store, or if any error of the store is raised while it is open.
    """
    try:
        yield TrackingStore(uri)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        # The message of a database driver may quote the address with its password.
        text = without_secrets(str(error).strip(), uri)
        lines = text.splitlines() or [type(error).__name__]
        raise TrackingError(
            f"the tracking store {shown(uri)} cannot be read: {lines[0]}. Check MLFLOW_TRACKING_URI, or start the "
            "server."
        ) from None


class TrackingStore(Store):
    """An MLflow store that is only read."""

    def __init__(self, uri: str) -> None:
        _check(uri)
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri)
        self._experiments: dict[str, Any] = {}

    def experiments(self, prefix: str) -> list[str]:
        """Return the names of the experiments that begin with `prefix`."""
        query = f"name LIKE '{prefix}%'"
        return [experiment.name for experiment in self._client.search_experiments(filter_string=query)]

    def runs(self, experiments: Iterable[str], query: RunQuery = NODES_AND_SUMMARIES) -> Iterator[TrackedRun]:
        """Yield the active runs of some experiments that match, the newest first; an experiment may be missing."""
        ids = []
        for name in experiments:
            experiment = self._client.get_experiment_by_name(name)
            if experiment is not None:
                self._experiments[experiment.experiment_id] = experiment
                ids.append(experiment.experiment_id)
        token = None
        while ids:
            with _without_collecting_garbage():
                page = self._client.search_runs(
                    ids,
                    _filter(query),
                    run_view_type=ViewType.ACTIVE_ONLY,
                    max_results=PAGE,
                    # A total order: pages neither overlap nor leave a run out.
                    order_by=["attributes.start_time DESC", "attributes.run_id ASC"],
                    page_token=token,
                )
                parsed = list(map(self._parse, page))
            yield from parsed
            token = page.token
            if not token:
                return

    def run(self, run_id: str) -> TrackedRun | None:
        """Return a run, deleted or not, or `None` if the store does not know it."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            # MLflow has one code for an unknown id and another for a text that cannot be an id.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return self._parse(run)

    def history(self, run: TrackedRun, metric: str) -> Mapping[int, float]:
        """Return the values of a metric by step; of a step that was tracked twice, the last value by time."""
        points = []
        # Its name in the store, and the one that earlier versions gave it there: mostly they are the same.
        for name in dict.fromkeys((metric, names.tracked_metric(metric))):
            points += self._client.get_metric_history(run.run_id, name)
        return {point.step: point.value for point in sorted(points, key=lambda point: point.timestamp)}

    def artifact(self, run: TrackedRun, path: str) -> str:
        """Return the text of a file of a run; files on this machine are read where they lie.

        Raises:
            OSError: If it cannot be read.
        """
        if _is_local(run):
            return (self._folder(run) / path).read_text(encoding="utf-8")
        try:
            repository: Any = get_artifact_repository(run.artifact_uri, tracking_uri=self._uri)
            # MLflow downloads into a folder only; the text is all that is kept.
            with tempfile.TemporaryDirectory(prefix="dyconv-report-") as folder:
                return Path(repository.download_artifacts(path, folder)).read_text(encoding="utf-8")
        except MlflowException as error:
            raise ArtifactError(str(error)) from None

    def has_artifact(self, run: TrackedRun, path: str) -> bool:
        """Return True if a run has a file."""
        if _is_local(run):
            return (self._folder(run) / path).is_file()
        repository: Any = get_artifact_repository(run.artifact_uri, tracking_uri=self._uri)
        return any(file.path == path for file in repository.list_artifacts())

    def read_each(self, read: Callable[[Any, TrackedRun], Content], runs: Sequence[TrackedRun]) -> list[Content]:
        """Return the results of a function that reads files of a run, one for each run."""
        with _without_progress_bar(), ThreadPoolExecutor(_FETCHERS) as pool:
            # Threads help to wait for a server; where nobody waits they take twice as long as one.
            if all(map(_is_local, runs)):
                return [read(self, run) for run in runs]
            return list(pool.map(partial(read, self), runs))

    def _parse(self, run: Run) -> TrackedRun:
        return TrackedRun.parse(run, self._experiment(run.info.experiment_id).name)

    def _experiment(self, experiment_id: str) -> Any:
        if experiment_id not in self._experiments:
            self._experiments[experiment_id] = self._client.get_experiment(experiment_id)
        return self._experiments[experiment_id]

    def _folder(self, run: TrackedRun) -> Path:
        """Return the folder of a run's files: as the store names it or, if the store was moved, beside the store."""
        folder, store = local_folder(run.artifact_uri), sqlite_file(self._uri)
        assert folder is not None, "only of files on this machine"
        if store is None:
            return folder
        experiment = self._experiment(run.experiment_id)
        mark = experiment.tags.get(names.TAG_ARTIFACTS)
        home = artifact_home(store, experiment.name, experiment.artifact_location, mark)
        return (home and run_home(home, run.run_id, run.artifact_uri)) or folder


def _filter(query: RunQuery) -> str:
    """Return a query in MLflow's language; the values that are asked for hold no quotes."""
    if not query.tag:
        return ""
    relation = "!=" if query.differs else "="
    return f"tags.`{query.tag}` {relation} '{query.value}'"


def _is_local(run: TrackedRun) -> bool:
    return urlsplit(run.artifact_uri).scheme in ("", "file")


def _check(uri: str) -> None:
    """Raise unless the store can be read: opening must neither make an empty one nor wait minutes for a server."""
    # First of all, before anything can log the address or raise with it.
    hide_secrets(uri)
    file = sqlite_file(uri)
    if file is not None:
        _check_file(file)
    elif uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif "://" in uri:
        _check_address(uri)


def _check_file(path: Path) -> None:
    """Raise if MLflow would create the store, or migrate it, instead of reading it."""
    # The first of these registers all tables.
    import mlflow.store.db.utils  # noqa: F401
    from mlflow.store.db.base_sql_model import Base

    inspection = inspect_store(path)
    if inspection.condition is Condition.ABSENT:
        raise TrackingError(
            f"there is no tracking store at {path}. {_first()}, or set MLFLOW_TRACKING_URI to the store that holds "
            "the runs."
        )
    if inspection.condition is not Condition.USABLE or not set(Base.metadata.tables) <= inspection.tables:
        reason = inspection.condition.value
        if inspection.condition is Condition.USABLE:
            reason = f"it was made by an earlier MLflow (its schema is {inspection.revision})"
        raise TrackingError(
            f"the tracking store {path} cannot be read: {reason}. {suggested_command('sync', ())} mends it "
            "if that can be done, or says what to do."
        )


def _check_address(uri: str) -> None:
    """Raise if the address of a data base cannot be read; the error that MLflow would let through quotes it."""
    try:
        make_url(uri)
    except (ArgumentError, ValueError):
        raise TrackingError(
            f"the tracking store {shown(uri)} has no valid address: its port is not a number. In a password, write "
            "/, ?, #, @ and : as %2F, %3F, %23, %40 and %3A."
        ) from None


def _check_server(uri: str) -> None:
    try:
        address = urlsplit(uri)
        port = address.port or _PORTS[address.scheme]
    except ValueError:
        raise TrackingError(
            f"the tracking server {shown(uri)} has no valid address: its port is not a number from 1 to 65535, or a "
            "bracket is missing. In a password, write /, ?, #, @ and : as %2F, %3F, %23, %40 and %3A."
        ) from None
    # MLflow retries for minutes where nobody answers; a plain connection tells at once.
    socket.create_connection((address.hostname or "", port), timeout=_CONNECT_SECONDS).close()


def _first() -> str:
    if named_studies():
        return f"Run a study first ({suggested_command('run')})"
    return "Run a study first"


@contextmanager
def _without_collecting_garbage() -> Iterator[None]:
    """Turn the search for cycles off: among the hundred thousands of objects of a page it takes as long as all else."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # The caller may have switched it off for longer.
        if was_on:
            gc.enable()


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep MLflow from drawing a bar per small file; it has no argument for that, only a variable."""
    before = os.environ.get(_PROGRESS_BAR)
    os.environ[_PROGRESS_BAR] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PROGRESS_BAR]
        else:
            os.environ[_PROGRESS_BAR] = before
