"""A folder with a tiny study, and a made-up runs folder there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import Invoke
from tests.upkeep.made_up import STUDY, Folder


@pytest.fixture(autouse=True)
def _study(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)


@pytest.fixture
def folder(invoke: Invoke, tmp_path: Path) -> Folder:
    """A runs folder in which nothing was run yet; commands are carried out beside it."""
    return Folder(tmp_path / "runs")
