"""Files of runs: read where they lie on this machine, fetched from a server otherwise, several at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path

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
        folder_of: Any = local_file_uri_to_path
        return Path(folder_of(run.info.artifact_uri), path).read_text(encoding="utf-8")
    repository: Any = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    with tempfile.TemporaryDirectory(prefix="dyconv-report-") as folder:
        return Path(repository.download_artifacts(path, folder)).read_text(encoding="utf-8")


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
