"""This module inspects the file of a SQLite tracking store without MLflow: its condition and the home of its artifacts.

A launch mends and moves a store with it (`runners.tracking.local_store`). A reader refuses a damaged store, and finds
the artifacts of one that was moved.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ablations import vocabulary as names

_MAGIC = b"SQLite format 3\x00"
ARTIFACTS = "artifacts"
"""The folder of artifacts beside a store."""

FILE_NAME = "mlflow.db"
"""The file of the store in a runs folder."""

_BUSY_SECONDS = 20.0
_OF_MLFLOW = frozenset({"experiments", "runs", "metrics", "params", "tags"})


class Condition(Enum):
    """The condition of a store's file, as far as it can be seen without MLflow."""

    ABSENT = "it is not there"
    EMPTY = "it is empty"
    FOREIGN = "it is not a SQLite data base"
    OTHER = "its tables are not MLflow's"
    TORN = "a part of the file is missing or damaged"
    UNFINISHED = "its making was cut off"
    USABLE = "it can be opened"


@dataclass(frozen=True)
class StoreFile:
    """The findings about the file of a store.

    Attributes:
        revision: The revision of its schema, empty if it has none.
        runs: The number of its runs, deleted ones included; -1 if that cannot be told.
    """

    path: Path
    condition: Condition
    revision: str = ""
    tables: frozenset[str] = frozenset()
    runs: int = 0


def inspect_store(path: Path) -> StoreFile:
    """Return the condition and content of a SQLite store's file; only SQLite may write, to roll back after a crash.

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return StoreFile(path, Condition.ABSENT)
    if size == 0:
        return StoreFile(path, Condition.EMPTY)
    with path.open("rb") as file:
        # The header of a SQLite file has 100 bytes and begins with a fixed text (sqlite.org/fileformat.html, 1.3).
        header = file.read(100)
    if len(header) < 100 and _MAGIC.startswith(header[: len(_MAGIC)]):
        return StoreFile(path, Condition.TORN, runs=-1)
    if not header.startswith(_MAGIC):
        return StoreFile(path, Condition.FOREIGN, runs=-1)
    if _is_cut(path, header, size):
        return StoreFile(path, Condition.TORN, runs=-1)
    try:
        with closing(connect(path)) as connection:
            return _inspect_tables(path, connection)
    except sqlite3.OperationalError as error:
        # These say that the file cannot be reached now, not that it is damaged.
        if "locked" in str(error) or "unable to open" in str(error) or "readonly" in str(error):
            raise OSError(None, str(error)) from None
        return StoreFile(path, Condition.TORN, runs=-1)
    except sqlite3.DatabaseError:
        return StoreFile(path, Condition.TORN, runs=-1)


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing data base, read-only if it cannot be written."""
    address = path.absolute().as_uri()
    try:
        connection = sqlite3.connect(f"{address}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        # SQLite opens the file only when it is first read.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    return connection


def _is_cut(path: Path, header: bytes, size: int) -> bool:
    """Return True if a data base has fewer pages than its header says."""
    if any(path.with_name(path.name + ending).exists() for ending in ("-journal", "-wal")):
        # Then the header need not be the last word; SQLite finds out.
        return False
    page_size = int.from_bytes(header[16:18], "big")
    if page_size == 1:
        # The field has two bytes, which cannot hold 65536.
        page_size = 65536
    # The count of pages is valid only if the change counter equals the one at which the count was written.
    pages, is_counted = int.from_bytes(header[28:32], "big"), header[24:28] == header[92:96]
    return is_counted and size < pages * page_size


def _inspect_tables(path: Path, connection: sqlite3.Connection) -> StoreFile:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = frozenset(name for (name,) in rows if not name.startswith("sqlite_"))
    if not tables:
        return StoreFile(path, Condition.EMPTY)
    if not tables & _OF_MLFLOW:
        return StoreFile(path, Condition.OTHER, tables=tables, runs=-1)
    revisions = []
    if "alembic_version" in tables:
        revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    # A migration that was cut off may have left a table under the name that it had meanwhile.
    of_runs = tables & {"runs", "_alembic_tmp_runs"}
    runs = 0
    for table in of_runs:
        runs += connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    revision = str(revisions[0][0]) if len(revisions) == 1 else ""
    condition = Condition.USABLE if revision and tables >= _OF_MLFLOW else Condition.UNFINISHED
    return StoreFile(path, condition, revision, tables, runs)


def artifact_home(store: Path, experiment: str, location: str, mark: str | None) -> Path | None:
    """Return the folder beside a store in which an experiment's artifacts belong, or `None` if they lie elsewhere.

    A store that was moved or copied still names the place where it was made. Artifacts belong beside the store if
    they were put beside it, which `mark` says. Stores of earlier versions have no mark: there the names of the last two
    folders tell, unless the artifacts are only where the store says.

    Args:
        location: Where the store says that its artifacts lie.
        mark: The experiment's tag `TAG_ARTIFACTS`: the name of its folder of artifacts beside the store.
    """
    folder = local_folder(location)
    name = mark or names.slug(experiment)
    if folder is None or folder.parts[-2:] != (ARTIFACTS, name):
        return None
    home = store.resolve().parent / ARTIFACTS / name
    if folder == home or mark or home.is_dir() or not os.path.isdir(folder):
        return home
    return None


def run_home(home: Path, run_id: str, location: str) -> Path | None:
    """Return the folder of a run's artifacts below `artifact_home`, or `None` if its user has put them elsewhere."""
    folder = local_folder(location)
    below = (ARTIFACTS, home.name, run_id, ARTIFACTS)
    if folder is None or folder.parts[-4:] != below:
        return None
    return home / run_id / ARTIFACTS


def local_folder(location: str) -> Path | None:
    """Return the folder that the address of artifacts names on this machine, or `None` for a server's."""
    address = urlsplit(location)
    if address.scheme == "file":
        return Path(unquote(address.path))
    if address.scheme:
        return None
    return Path(location)
