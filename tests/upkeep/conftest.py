"""The command line in a folder with a tiny study, and a made-up runs folder there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import run_ablation
from tests.upkeep.made_up import STUDY, Folder, Invoke


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Runs the command line in this process, in a folder with the study: exit code and all that is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tiny.yaml").write_text(STUDY)

    def call(*arguments: str) -> tuple[int, str]:
        code: Any = 0
        try:
            run_ablation.main([*arguments, "--runs-dir", str(tmp_path / "runs")])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def folder(invoke: Invoke, tmp_path: Path) -> Folder:
    """A runs folder in which nothing was run yet."""
    return Folder(tmp_path / "runs")
