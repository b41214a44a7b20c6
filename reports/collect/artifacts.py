"""Files of runs: read where they lie on this machine, fetched from a server otherwise, several at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from ablations.addresses import sqlite_file
from ablations.store_file import artifact_home, local_folder, run_home

_PROGRESS_BAR = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
_FETCHERS = 16
"""Files fetched at once: a server answers each in milliseconds, most of which are waiting."""

Read = TypeVar("Read")


def read_each(read: Callable[[Run], Read], runs: Sequence[Run]) -> list[Read]:
    """Returns what a function reads from files of each run."""
    with without_progress_bar(), ThreadPoolExecutor(_FETCHERS) as pool:
        # Threads help to wait for a server; where nobody waits they take twice as long as one.
        over = map if all(map(_is_local, runs)) else pool.map
        return list(over(read, runs))


def artifact(uri: str, run: Run, path: str) -> str:
    """Returns the text of a file of a run; files on this machine are read where they lie."""
    if _is_local(run):
        return (_folder(uri, run) / path).read_text(encoding="utf-8")
    repository: Any = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    with tempfile.TemporaryDirectory(prefix="dyconv-report-") as folder:
        return Path(repository.download_artifacts(path, folder)).read_text(encoding="utf-8")


def has_artifact(uri: str, run: Run, path: str) -> bool:
    """Whether a run has a file."""
    if _is_local(run):
        return (_folder(uri, run) / path).is_file()
    repository: Any = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    return any(file.path == path for file in repository.list_artifacts())


def _folder(uri: str, run: Run) -> Path:
    """Returns the folder of a run's files: where the store says or, of a store that was moved or copied, beside it."""
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
    """Keeps MLflow from drawing a bar per small file; it has no argument for that, only a variable."""
    before = os.environ.get(_PROGRESS_BAR)
    os.environ[_PROGRESS_BAR] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PROGRESS_BAR]
        else:
            os.environ[_PROGRESS_BAR] = before
