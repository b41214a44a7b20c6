"""Fixtures for tiny trials that run in a second, through the same door as real ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.runners.bench import Bench
from tests.runners.conformance import dispatcher, work

__all__ = ["dispatcher", "work"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh store."""
    return Bench(tmp_path / "state")


@pytest.fixture(scope="session")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store that tests share; each has an experiment of its own there."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('store'))}"
