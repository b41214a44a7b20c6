"""Servers to be killed: PostgreSQL, `mlflow server`, and a door in front of one that can be shut.

Each is a context manager on a free port of localhost, with its files in a folder of the caller's. Nothing of the
project is imported here, so any test may use it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

_POSTGRES = "postgresql/*/bin"
_START_SECONDS = 120.0
_UNPRIVILEGED = ("postgres", "nobody")

_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"

Mode = Literal["open", "refuse", "hang", "error"]


def free_port() -> int:
    """Returns a port that nothing listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = _START_SECONDS) -> None:
    """Polls until `condition` holds; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)


class MlflowServer:
    """A real `mlflow server`, whose whole process group can be killed and which can be started again.

    Args:
        folder: Where its log, artifacts and, by default, its SQLite file go.
        backend: The database; a SQLite file in `folder` by default.
    """

    def __init__(self, folder: Path, backend: str | None = None) -> None:
        self._folder, self._backend = folder, backend or f"sqlite:///{folder}/server.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log_file = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, on the same port as before, and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", self._backend]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**kept, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=self._folder,
                start_new_session=True,
            )
        wait_until(self._answers, f"mlflow server on port {self.port}, log {self.log_file}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log_file.read_text(encoding="utf-8", errors="replace")[-3000:]
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def kill(self) -> None:
        """Kills it with SIGKILL, workers and all."""
        _kill_group(self._process)
        self._process = None


@contextmanager
def mlflow_server(folder: Path, backend: str | None = None) -> Iterator[MlflowServer]:
    """Yields a running server; kills it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    server = MlflowServer(folder, backend)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Yields the URI of an empty database on a PostgreSQL of its own; skips the test where none is installed.

    It refuses to run as root, so root hands `folder`, which it must be able to reach, to an unprivileged user.
    """
    pytest.importorskip("psycopg2", reason="the driver is not installed: pip install psycopg2-binary")
    binaries = _postgres_binaries()
    user = _unprivileged_user()
    folder.mkdir(parents=True, exist_ok=True)
    if user is not None:
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()
    _run([binaries / "initdb", "-D", data, "-U", "mlflow", "--auth=trust", "--no-sync", "-E", "UTF8"], user)
    command = [binaries / "postgres", "-D", data, "-k", folder, "-p", port, "-c", "listen_addresses=127.0.0.1"]
    with (folder / "postgres.log").open("ab") as log:
        process = subprocess.Popen(
            [*map(str, command), "-c", "fsync=off"], stdout=log, stderr=log, user=user, start_new_session=True
        )
    try:
        ready = [binaries / "pg_isready", "-h", "127.0.0.1", "-p", port]
        wait_until(lambda: _succeeds(ready), f"PostgreSQL, log {folder / 'postgres.log'}")
        _run([binaries / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "mlflow", "mlflow"], user)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        _kill_group(process)


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib").glob(_POSTGRES))
    if not found:
        pytest.skip(f"PostgreSQL is not installed: no /usr/lib/{_POSTGRES} (Debian: apt-get install postgresql)")
    return found[-1]


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)


def _run(command: list[object], user: str | None) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True, user=user, cwd="/", timeout=120)


def _succeeds(command: list[object]) -> bool:
    return subprocess.run(list(map(str, command)), capture_output=True, check=False, timeout=30).returncode == 0


def _kill_group(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


class Door:
    """A port in front of a server that is open, refuses, answers 500 or hangs, as it is told at any time.

    Args:
        port: The server's port on localhost.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self._mode: Mode = "open"
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: Mode) -> None:
        """Changes how it behaves from now on; connections that stand are cut."""
        with self._lock:
            self._mode = mode
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends it."""
        self.set("refuse")
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._connections.add(client)
            mode = self._mode
        try:
            if mode == "open":
                with socket.create_connection(("127.0.0.1", self._behind)) as server:
                    threading.Thread(target=_pipe, args=(server, client), daemon=True).start()
                    _pipe(client, server)
            elif mode == "error":
                client.recv(65536)
                client.sendall(
                    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"
                )
            elif mode == "hang":
                while client.recv(65536):
                    pass
        except OSError:
            pass
        finally:
            with self._lock:
                self._connections.discard(client)
            client.close()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def door(port: int) -> Iterator[Door]:
    """Yields an open door in front of the server on `port`."""
    made = Door(port)
    try:
        yield made
    finally:
        made.close()
