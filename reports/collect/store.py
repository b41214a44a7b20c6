"""This module opens MLflow for reading: it never makes a store, searches page by page and explains errors.

`reports.collect.runs` and its neighbours say which runs are read.
"""

from __future__ import annotations

import gc
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ablations import vocabulary as names
from ablations.addresses import shown, sqlite_file
from ablations.errors import TrackingError
from ablations.invocation import named_studies, suggested_command
from ablations.secrets import hide_secrets, without_secrets
from ablations.store_file import Condition, artifact_home, inspect_store, local_folder, run_home

PAGE = 1000
"""Number of runs per request."""

_CONNECT_SECONDS = 5.0


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn an error of a store into a `TrackingError` that names it."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        # The message of a database driver may quote the address with its password.
        text = without_secrets(str(error).strip(), uri)
        reason = text.splitlines()[0] if text else type(error).__name__
        raise TrackingError(
            f"the tracking store {shown(uri)} cannot be read: {reason}. Check MLFLOW_TRACKING_URI, or start the server."
        ) from None


def open_store(uri: str) -> MlflowClient:
    """Return a client; opening must neither create an empty store nor wait for minutes for a server.

    Raises:
        TrackingError: If there is no such store.
    """
    # First of all, before anything can log the address or raise with it.
    hide_secrets(uri)
    file = sqlite_file(uri)
    if file is not None:
        _check_file(file)
    elif uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif "://" in uri:
        _check_address(uri)
    return MlflowClient(tracking_uri=uri)


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
        port = address.port or (443 if address.scheme == "https" else 80)
    except ValueError:
        raise TrackingError(
            f"the tracking server {shown(uri)} has no valid address: its port is not a number from 1 to 65535, or a "
            "bracket is missing. In a password, write /, ?, #, @ and : as %2F, %3F, %23, %40 and %3A."
        ) from None
    # MLflow retries for minutes where nobody answers; a plain connection tells at once.
    socket.create_connection((address.hostname or "", port), timeout=_CONNECT_SECONDS).close()


def _first() -> str:
    return f"Run a study first ({suggested_command('run')})" if named_studies() else "Run a study first"


def search_runs(client: MlflowClient, experiments: list[str], query: str) -> Iterator[Run]:
    """Yield the active runs of some experiments that match, the newest first."""
    token = None
    while True:
        with _without_collecting_garbage():
            page = client.search_runs(
                experiments,
                query,
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=PAGE,
                # A total order: pages neither overlap nor leave a run out.
                order_by=["attributes.start_time DESC", "attributes.run_id ASC"],
                page_token=token,
            )
        yield from page
        token = page.token
        if not token:
            return


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


_PROGRESS_BAR = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
_FETCHERS = 16
"""Files fetched at once: a server answers each in milliseconds, most of which are waiting."""

Read = TypeVar("Read")


def read_each(read: Callable[[Run], Read], runs: Sequence[Run]) -> list[Read]:
    """Return the results of a function that reads files of a run, one for each run."""
    with without_progress_bar(), ThreadPoolExecutor(_FETCHERS) as pool:
        # Threads help to wait for a server; where nobody waits they take twice as long as one.
        mapper = map if all(map(_is_local, runs)) else pool.map
        return list(mapper(read, runs))


def artifact(uri: str, run: Run, path: str) -> str:
    """Return the text of a file of a run; files on this machine are read where they lie."""
    if _is_local(run):
        return (_folder(uri, run) / path).read_text(encoding="utf-8")
    repository: Any = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    # MLflow downloads into a folder only; the text is all that is kept.
    with tempfile.TemporaryDirectory(prefix="dyconv-report-") as folder:
        return Path(repository.download_artifacts(path, folder)).read_text(encoding="utf-8")


def has_artifact(uri: str, run: Run, path: str) -> bool:
    """Return True if a run has a file."""
    if _is_local(run):
        return (_folder(uri, run) / path).is_file()
    repository: Any = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    return any(file.path == path for file in repository.list_artifacts())


def _folder(uri: str, run: Run) -> Path:
    """Return the folder of a run's files: as the store names it or, of a store that was moved, beside that store."""
    folder, store = local_folder(run.info.artifact_uri), sqlite_file(uri)
    assert folder is not None, "only of files on this machine"
    if store is None:
        return folder
    name, location, mark = _experiment(uri, run.info.experiment_id)
    home = artifact_home(store, name, location, mark)
    return (home and run_home(home, run.info.run_id, run.info.artifact_uri)) or folder


@lru_cache(maxsize=64)
def _experiment(uri: str, experiment_id: str) -> tuple[str, str, str | None]:
    experiment = MlflowClient(tracking_uri=uri).get_experiment(experiment_id)
    return experiment.name, experiment.artifact_location, experiment.tags.get(names.TAG_ARTIFACTS)


def _is_local(run: Run) -> bool:
    return urlsplit(run.info.artifact_uri).scheme in ("", "file")


@contextmanager
def without_progress_bar() -> Iterator[None]:
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
