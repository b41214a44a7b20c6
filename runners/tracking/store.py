"""The tracking store itself: whether it answers, and its creation, once, before anything else uses it."""

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

from ablations.addresses import hide_secrets, is_sqlite, shown, sqlite_file, without_secrets
from ablations.errors import OutputError, TrackingError
from runners.importing import without_collection
from runners.state.files import exclusively

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
    """Whether launches that share no folder may write to the store."""
    return not is_sqlite(uri)


def prepare_store(uri: str, tell: Callable[[str], None] = _log.warning) -> None:
    """Make sure the store answers, and creates or mends a SQLite one, before anything else uses it.

    A SQLite store that was moved or copied with its artifacts names their new place from then on.

    Args:
        uri: The store.
        tell: Is told in a sentence what had to be mended.

    Raises:
        TrackingError: If the store cannot be reached, created or mended.
        OutputError: If its folder cannot be written.
    """
    # Before the import: what is measured here is nobody else's business.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    hide_secrets(uri)
    # Its parts are imported when they are first used, and the tables of a new store are made.
    with without_collection() if "mlflow" not in sys.modules else nullcontext():
        _prepare(uri, tell)


def _prepare(uri: str, tell: Callable[[str], None]) -> None:
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    from mlflow import MlflowClient

    # After the import, which sets the levels itself: creating a store is not news to a user.
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
            # Of several launches that make or mend a store at once most would fail.
            with exclusively(file.with_name(f"{file.name}.lock")):
                _prepare_file(uri, file, tell)


def _prepare_file(uri: str, file: Path, tell: Callable[[str], None]) -> None:
    from mlflow import MlflowClient

    from runners.tracking.local_store import bring_artifacts_along, make_usable

    make_usable(file, tell)
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    if bring_artifacts_along(file):
        tell(f"the tracking store {file} had been moved or copied: its artifacts are those beside it from now on")


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn whatever a store's client raises into a sentence.

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
    """Keep MLflow's client from repeating a request by itself.

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
    """Set a variable of MLflow's client for a while; for some things it takes no argument."""
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
        parts = urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise TrackingError(
            f"the tracking server {shown(uri)} has no valid address: its port is not a number from 1 to 65535, or a "
            f"bracket is missing. In a password, write /, ?, #, @ and : as %2F, %3F, %23, %40 and %3A; or {_REMEDY}"
        ) from None
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
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
    """Return what an error says in one line, without secrets; of a failed request what it comes down to.

    Args:
        error: The error.
        uri: The store that it is about, `MLFLOW_TRACKING_URI` by default.
    """
    text = without_secrets(str(error).strip(), uri or "", os.environ.get("MLFLOW_TRACKING_URI", ""))
    for pattern, told in _REQUEST_FAILED.items():
        found = re.search(pattern, text)
        if found is not None and "HTTPConnectionPool" in text:
            return told.format(*found.groups())
    return text.splitlines()[0][:300] if text else type(error).__name__
