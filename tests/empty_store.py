"""An empty SQLite store, made once for all workers of a run of the tests: each store that a test makes is a copy.

MLflow makes a store with some sixty migrations, which take seconds. That it does so, whole or not at all, is tested
where the real function is put back: see `really_make_tables`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from runners.tracking import schema

really_make_tables = schema.make_tables


class EmptyStore:
    """The file to copy, made when it is first asked for.

    Args:
        folder: A folder that all workers of this run of the tests share, and no other run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "empty-store.db"

    def path(self) -> Path:
        """Return the file; it is to be copied, not used."""
        with FileLock(f"{self._path}.lock"):
            if not self._path.exists():
                unfinished = self._path.with_suffix(".unfinished")
                really_make_tables(unfinished)
                unfinished.replace(self._path)
        return self._path

    def make_tables(self, path: Path) -> None:
        """Make the tables of a store as `schema.make_tables` does."""
        shutil.copyfile(self.path(), path)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this run of the tests share, and no other run."""
    base: Path = tmp_path_factory.getbasetemp()
    # A worker has a folder of its own within that of the run.
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
