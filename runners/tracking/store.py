"""The tracking store itself: whether it answers, and its creation, once, before anything else uses it."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

from ablations.errors import TrackingError
from runners.files import exclusively

_CONNECT_SECONDS = 5.0


def prepare_store(uri: str) -> None:
    """Makes sure the store answers, and creates a SQLite one, before anything else uses it.

    Raises:
        TrackingError: If the store cannot be reached or created.
    """
    from mlflow import MlflowClient

    # After the import, which sets the levels itself: creating a store is not news to a user.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif uri.startswith("sqlite:///"):
        _make_parent(_file_of(uri))
    try:
        with _alone(uri):
            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except Exception as error:
        raise TrackingError(f"the tracking store {uri} cannot be used: {_reason(error)}") from None


def _alone(uri: str) -> AbstractContextManager[None]:
    """Keeps other launches out while a SQLite store is created: of several that try at once most would fail."""
    if not uri.startswith("sqlite:///"):
        return nullcontext()
    path = _file_of(uri)
    return exclusively(path.with_name(f"{path.name}.lock"))


def _file_of(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///").split("?")[0])


def _check_server(uri: str) -> None:
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise TrackingError(
            f"the tracking server {uri} does not answer: {error}. Start it, or set MLFLOW_TRACKING_URI to another."
        ) from None


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(f"cannot create {path.parent} for the tracking store: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise TrackingError(f"the tracking store {path} is not writable. Choose another folder.")


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
