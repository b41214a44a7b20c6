"""The command line for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import Invoke


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Carries out commands in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Invoke(capsys)
