"""Fixtures for the fault injection: a bench for tiny trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runners.bench import Bench
from tests.runners.conformance import dispatcher, work

__all__ = ["dispatcher", "work"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh store."""
    return Bench(tmp_path / "state")
