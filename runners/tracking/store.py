"""This module checks that the tracking store answers, and creates or mends it before anything else uses it."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ablations.errors import OutputError, TrackingError
from ablations.stores.addresses import is_sqlite, shown, sqlite_file
from ablations.stores.secrets import hide_secrets, without_secrets
from runners.importing import without_collection
from runners.state.files import exclusively
from runners.tracking.local_store import bring_artifacts_along, make_usable

_log = logging.getLogger(__name__)
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
    """Return True if launches that share no folder may write to the store."""
    return not is_sqlite(uri)


def prepare_store(uri: str, tell: Callable[[str], None] = _log.warning) -> None:
    """Create or mend a SQLite store, and make sure that any store answers, before anything else uses it.

    A SQLite store that was moved or copied with its artifacts names their new place from then on.

    Args:
        tell: Receives a sentence about each repair.

    Raises:
        TrackingError: If the store cannot be reached, created or mended.
        OutputError: If its folder cannot be written.
    """
    # Before MLflow is imported, which would send usage data.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    hide_secrets(uri)
    # The import of MLflow, and its work on a store, make many objects that stay; collecting garbage would be in vain.
    with without_collection() if "mlflow" not in sys.modules else nullcontext():
        _prepare(uri, tell)


def _prepare(uri: str, tell: Callable[[str], None]) -> None:
    if uri.startswith(("http://", "https://")):
        # Before the import of MLflow, which takes seconds: a server that is off is reported at once.
        _check_server(uri)
    from mlflow import MlflowClient

    # After the import, which sets the levels itself. A user needs no messages about the creation of tables.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault(_RETRIES, "2")
    os.environ.setdefault(_TIMEOUT, "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    file = sqlite_file(uri)
    with explained(uri), without_retries():
        if file is None:
            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
        else:
            _make_parent(file)
            # Without the lock, most of several launches that make or mend a store at once would fail.
            with exclusively(file.with_name(f"{file.name}.lock")):
                _prepare_file(uri, file, tell)


def _prepare_file(uri: str, file: Path, tell: Callable[[str], None]) -> None:
    from mlflow import MlflowClient

    make_usable(file, tell)
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    if bring_artifacts_along(file):
        tell(f"the tracking store {file} had been moved or copied: its artifacts are those beside it from now on")


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn every error of a store's client into a sentence.

    Raises:
        TrackingError: In place of any other exception.
    """
    try:
        yield
    except (TrackingError, OutputError):
        raise
    except Exception as error:
        raise TrackingError(
            f"the tracking store {shown(uri)} cannot be used: {reason(error, uri)}. Check it, {_REMEDY}"
        ) from None


def without_retries() -> AbstractContextManager[None]:
    """Return a context in which MLflow's client does not repeat a request by itself.

    A repeated request to open a run opens two runs if only the answer to the first was lost. The writers of this
    project ask the store for its content before they try again, and wait longer.
    """
    return _setting(_RETRIES, "0")


def answers(client: Any) -> bool:
    """Return True if the store behind a client answers the smallest request within seconds."""
    with _setting(_TIMEOUT, _PROBE_SECONDS), without_retries():
        try:
            client.search_experiments(max_results=1)
        except Exception:
            return False
        return True


@contextmanager
def _setting(variable: str, value: str) -> Iterator[None]:
    """Set an environment variable of MLflow's client for a while, as the client takes no argument for it."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before


def _check_server(uri: str) -> None:
    try:
        address = urlsplit(uri)
        port = address.port or (443 if address.scheme == "https" else 80)
    except ValueError:
        raise TrackingError(
            f"the tracking server {shown(uri)} has no valid address: its port is not a number from 1 to 65535, or a "
            f"bracket is missing. In a password, write /, ?, #, @ and : as %2F, %3F, %23, %40 and %3A; or {_REMEDY}"
        ) from None
    try:
        socket.create_connection((address.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        cause = without_secrets(str(error), uri)
        raise TrackingError(f"the tracking server {shown(uri)} does not answer: {cause}. Start it, {_REMEDY}") from None


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(f"cannot create {path.parent} for the tracking store: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise TrackingError(f"the tracking store {path} is not writable. Choose another folder.")


def reason(error: BaseException, uri: str | None = None) -> str:
    """Return the message of an error in one line, without secrets; of a failed request the cause alone.

    Args:
        uri: The store that it is about, `MLFLOW_TRACKING_URI` by default.
    """
    text = without_secrets(str(error).strip(), uri or "", os.environ.get("MLFLOW_TRACKING_URI", ""))
    for pattern, phrase in _REQUEST_FAILED.items():
        match = re.search(pattern, text)
        if match is not None and "HTTPConnectionPool" in text:
            return phrase.format(*match.groups())
    return text.splitlines()[0][:300] if text else type(error).__name__
