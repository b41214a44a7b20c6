"""The door to MLflow for reading: opening a store without making one, paged searches, errors that are explained.

What is read, and for what, is in `reports.collect` and its neighbours.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from ablations.errors import TrackingError
from ablations.invocation import named_studies, suggested_command

PAGE = 1000
"""Runs that are asked for at once."""

_CONNECT_SECONDS = 5.0


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns what goes wrong with a store into a `TrackingError` that names it."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrackingError(
            f"the tracking store {uri} cannot be read: {reason}. Check MLFLOW_TRACKING_URI, or start the server."
        ) from None


def open_store(uri: str) -> MlflowClient:
    """Returns a client; opening must neither create an empty store nor wait for minutes for a server.

    Raises:
        TrackingError: If there is no such store.
    """
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        path = uri.partition("///")[2].partition("?")[0]
        if not Path(path).is_file():
            raise TrackingError(
                f"there is no tracking store at {path}. {_first()}, or set MLFLOW_TRACKING_URI to the store that holds "
                "the runs."
            )
    elif parts.scheme in ("http", "https") and parts.hostname:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    return MlflowClient(tracking_uri=uri)


def _first() -> str:
    return f"Run a study first ({suggested_command('run')})" if named_studies() else "Run a study first"


def search_runs(client: MlflowClient, experiments: list[str], query: str) -> Iterator[Run]:
    """Yields the active runs of some experiments that match, the newest first."""
    token = None
    while True:
        with _without_collecting_garbage():
            page = client.search_runs(
                experiments,
                query,
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=PAGE,
                order_by=["attributes.start_time DESC", "attributes.run_id ASC"],
                page_token=token,
            )
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def _without_collecting_garbage() -> Iterator[None]:
    """Puts the search for cycles off: among the hundred thousands of objects of a page it takes as long as all else."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
