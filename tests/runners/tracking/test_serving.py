"""MLflow's server as a group of processes: it ends as a whole, however the verb `ui` ends; nothing secret is seen."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
_PATIENCE = 600.0


@pytest.fixture
def runs(empty_store: Path, tmp_path: Path) -> Path:
    """A runs folder with a store."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def ui(runs: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The verb `ui` with its server, on a store whose address has a query that nobody shall see."""
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{runs}/mlflow.db?password=hunter2", "MLFLOW_WORKERS": "1"}
    command = [sys.executable, str(ROOT / "run_ablation.py"), "ui", "--runs-dir", str(runs), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    family: list[psutil.Process] = []
    try:
        _wait_for_server(port, process)
        family = psutil.Process(process.pid).children(recursive=True)
        yield process
    finally:
        for member in (process, *family):
            try:
                member.kill()
            except (psutil.Error, OSError):
                continue
        process.communicate()


def _wait_for_server(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"no server, exit code {process.poll()}")


def _is_gone(members: list[psutil.Process], port: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        alive = [member for member in members if _is_alive(member)]
        if not alive:
            # The port can be had again.
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(("127.0.0.1", port))
            return True
        time.sleep(0.1)
    return False


def _is_alive(member: psutil.Process) -> bool:
    try:
        return bool(member.is_running() and member.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _arguments(member: psutil.Process) -> str:
    # The server starts helpers that end by themselves; nobody sees the arguments of one that has.
    try:
        return " ".join(member.cmdline())
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return ""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.torture),
        pytest.param(signal.SIGHUP, marks=pytest.mark.torture),
        pytest.param(signal.SIGKILL, marks=pytest.mark.torture),
    ],
)
@pytest.mark.timeout(2400)
def test_no_server_outlives_the_verb_and_no_argument_tells_its_address(
    ui: subprocess.Popen[bytes], port: int, number: signal.Signals
) -> None:
    family = psutil.Process(ui.pid).children(recursive=True)
    arguments = [_arguments(member) for member in family]
    assert len(family) >= 2
    assert any(arguments)
    assert not any("hunter2" in each or "mlflow.db" in each for each in arguments)
    ui.send_signal(number)
    output, _ = ui.communicate(timeout=_PATIENCE)
    assert b"hunter2" not in output
    assert ui.returncode == (128 + number if number != signal.SIGKILL else -number)
    assert _is_gone(family, port)


STUB = """
import os, subprocess, sys

def cli(arguments):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stubborn += "; print('up', flush=True); time.sleep(3600)"
    child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    child.stdout.readline()
    with open(os.environ["PIDS"], "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(os.environ["PIDS"], os.environ["PIDS"] + ".whole")
    assert "hunter2" in os.environ["MLFLOW_BACKEND_STORE_URI"]
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    child.wait()
"""
LAUNCH = "import sys; from runners.tracking.serving import serve; sys.exit(serve('http://me:hunter2@host', 5))"


@pytest.mark.torture
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_stubborn_server_and_its_children_end_too(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").write_text("")
    (tmp_path / "mlflow" / "cli.py").write_text(STUB)
    pids = tmp_path / "pids"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PIDS": str(pids)}
    process = subprocess.Popen([sys.executable, "-c", LAUNCH], cwd=ROOT, env=env)
    deadline = time.monotonic() + _PATIENCE
    while not (whole := tmp_path / "pids.whole").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    members = [psutil.Process(int(pid)) for pid in whole.read_text().split()]
    assert all("hunter2" not in _arguments(member) for member in members)
    process.send_signal(number)
    assert process.wait(_PATIENCE) == (128 + number if number != signal.SIGKILL else -number)
    while any(map(_is_alive, members)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_alive, members))
