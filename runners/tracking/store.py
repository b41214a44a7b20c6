"""The tracking store itself: whether it answers, and its creation, once, before anything else uses it."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ablations.errors import OutputError, TrackingError
from runners.files import exclusively
from runners.importing import without_collection

_CONNECT_SECONDS = 5.0
_REMEDY = "set MLFLOW_TRACKING_URI to another, or train without one: run --offline, and sync later."
_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
_PROBE_SECONDS = "5"
_REQUEST_FAILED = {
    r"\[Errno \d+\] ([\w ]+)": "{0}",
    r"timed out": "no answer within the time limit",
    r"too many (\d+) error": "it answers with error {0}",
    r"(Connection aborted|RemoteDisconnected)": "the connection was cut",
}


def is_shared(uri: str) -> bool:
    """Whether launches that share no folder may write to the store."""
    return not uri.startswith("sqlite:")


def shown(uri: str) -> str:
    """Returns the store's URI without a password, to be printed."""
    scheme, separator, rest = uri.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return uri if not at else f"{scheme}{separator}{user.partition(':')[0]}@{rest[len(user) + 1 :]}"


def prepare_store(uri: str) -> None:
    """Makes sure the store answers, and creates a SQLite one, before anything else uses it.

    Raises:
        TrackingError: If the store cannot be reached or created.
    """
    # Before the import: what is measured here is nobody else's business.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Its parts are imported when they are first used, and the tables of a new store are made.
    with without_collection() if "mlflow" not in sys.modules else nullcontext():
        _prepare(uri)


def _prepare(uri: str) -> None:
    from mlflow import MlflowClient

    # After the import, which sets the levels itself: creating a store is not news to a user.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault(_RETRIES, "2")
    os.environ.setdefault(_TIMEOUT, "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif uri.startswith("sqlite:///"):
        _make_parent(_file_of(uri))
    with explained(uri), without_retries(), _alone(uri):
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns whatever a store's client raises into a sentence.

    Raises:
        TrackingError: In place of any other exception.
    """
    try:
        yield
    except (TrackingError, OutputError):
        raise
    except Exception as error:
        raise TrackingError(
            f"the tracking store {shown(uri)} cannot be used: {reason(error)}. Check it, {_REMEDY}"
        ) from None


def without_retries() -> AbstractContextManager[None]:
    """Keeps MLflow's client from repeating a request by itself.

    A repeated request to open a run opens two if only the answer to the first was lost. Who writes here asks what the
    store has before trying again, and waits longer.
    """
    return _setting(_RETRIES, "0")


def answers(client: Any) -> bool:
    """Whether the store behind a client can be used at all, found out with the smallest question, within seconds."""
    with _setting(_TIMEOUT, _PROBE_SECONDS), without_retries():
        try:
            client.search_experiments(max_results=1)
        except Exception:
            return False
        return True


@contextmanager
def _setting(variable: str, value: str) -> Iterator[None]:
    """Sets a variable of MLflow's client for a while; for some things it takes no argument."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before


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
        raise TrackingError(f"the tracking server {shown(uri)} does not answer: {error}. Start it, {_REMEDY}") from None


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(f"cannot create {path.parent} for the tracking store: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise TrackingError(f"the tracking store {path} is not writable. Choose another folder.")


def reason(error: BaseException) -> str:
    """Returns what an error says in one line; of a failed request what it comes down to."""
    text = str(error).strip()
    for pattern, told in _REQUEST_FAILED.items():
        found = re.search(pattern, text)
        if found is not None and "HTTPConnectionPool" in text:
            return told.format(*found.groups())
    return text.splitlines()[0][:300] if text else type(error).__name__
