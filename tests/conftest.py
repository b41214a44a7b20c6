"""The command line for every test, and properties that are not judged by how long an example takes."""

from __future__ import annotations

import os

# Before anything imports torch, and for processes that tests start: two workers of pytest on two cores, each with two
# threads, spend most of their time waiting for each other. Tests of several threads ask for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.command_line import Invoke

# Cores are shared with other work: how long one example takes says nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Carries out commands in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Invoke(capsys)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test whose name holds an address in memory, which several processes cannot agree on."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: give its parameters ids that are the same in each process")
