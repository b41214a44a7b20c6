"""This module makes, mends, migrates and moves the file of a SQLite store; the caller holds the store's lock.

MLflow makes its tables with some sixty migrations, none of them a transaction: a process that is killed among them
leaves a file that no later one can use. So a store is made under another name and renamed, and the store of an earlier
MLflow is migrated as a copy, whose content then replaces the old content in one transaction of SQLite.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ablations import vocabulary as names
from ablations.atomic import final_name, temporary_file
from ablations.errors import OutputError, TrackingError
from ablations.stores.store_file import Condition, StoreFile, artifact_home, connect, inspect_store, run_home
from runners.state.files import flush_file, flush_folder
from runners.tracking import schema

_SIDE_ENDINGS = ("-journal", "-wal", "-shm")
_DISK_FULL = "disk is full"
_TRIES = 3
_ANOTHER = (
    "Move it away, and run_ablation.py sync makes another from the results in the state folders; or set "
    "MLFLOW_TRACKING_URI to another store."
)


def make_usable(path: Path, tell: Callable[[str], None]) -> None:
    """Make the store in a file usable for this MLflow, or raise if it cannot be mended.

    Args:
        path: The file. The caller holds its lock.
        tell: Receives a sentence about each repair.

    Raises:
        TrackingError: If it holds runs, or may, and cannot be used.
        OutputError: If the folder cannot be written.
    """
    _remove_leftovers(path)
    store = inspect_store(path)
    if store.condition in (Condition.ABSENT, Condition.EMPTY):
        _make(path)
        if store.condition is Condition.EMPTY:
            tell(f"the tracking store {path} was empty: it has been made anew")
    elif store.condition in (Condition.FOREIGN, Condition.OTHER, Condition.TORN):
        raise TrackingError(f"the tracking store {path} cannot be used: {store.condition.value}. {_ANOTHER}")
    # Before MLflow opens the store: it would migrate a store that lacks tables in place, and would keep a file open
    # that is replaced later.
    elif store.revision != schema.revisions()[0] or not schema.has_all_tables(store):
        _mend(store, tell)


def is_read_only(path: Path) -> bool:
    """Return True if a store can be read, but the file or its folder cannot be written."""
    folder = path.parent
    return os.access(path, os.R_OK) and not (os.access(path, os.W_OK) and os.access(folder, os.W_OK))


@contextmanager
def copy_for_reading(path: Path) -> Iterator[Path]:
    """Yield a copy of a store that cannot be written; the copy names the artifacts that lie beside the store.

    Raises:
        TrackingError: If it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="dyconv-store-") as folder:
        copy = Path(folder) / path.name
        try:
            _copy(path, copy)
            bring_artifacts_along(copy, store=path)
            with closing(connect(copy)) as connection, connection:
                # With the tag, the copy would pass for a store that was moved without its artifacts.
                connection.execute("DELETE FROM experiment_tags WHERE key = ?", (names.TAG_ARTIFACTS,))
        except (OSError, sqlite3.Error) as error:
            raise TrackingError(f"the tracking store {path} cannot be read: {error}.") from None
        yield copy


def bring_artifacts_along(path: Path, store: Path | None = None) -> int:
    """Make a store that was moved or copied name the folder beside it as that of its artifacts.

    Experiments whose artifacts were never beside the store stay as they are. All is changed in one transaction.

    Args:
        path: The file to change.
        store: The store of which `path` is a temporary copy; `path` itself by default.

    Returns:
        The number of experiments and runs whose address was changed.
    """
    store = store or path
    with closing(connect(path)) as connection:
        # No transaction is begun but the one below.
        connection.isolation_level = None
        changes = list(_changes(store, connection))
        if not changes:
            return 0
        connection.execute("BEGIN IMMEDIATE")
        # Read again, as others may have written before the transaction began; now nobody can.
        changes = list(_changes(store, connection))
        for statement, values in changes:
            connection.execute(statement, values)
        connection.execute("COMMIT")
    return sum(not statement.startswith("INSERT") for statement, _ in changes)


def _changes(path: Path, connection: sqlite3.Connection) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the statements, with their values, that set the addresses of artifacts to their present folders."""
    experiments = connection.execute(
        "SELECT e.experiment_id, e.name, e.artifact_location, t.value FROM experiments e LEFT JOIN experiment_tags t "
        "ON t.experiment_id = e.experiment_id AND t.key = ?",
        (names.TAG_ARTIFACTS,),
    ).fetchall()
    for experiment_id, name, location, mark in experiments:
        home = artifact_home(path, name, location or "", mark)
        if home is None:
            continue
        if location != home.as_uri():
            yield "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (home.as_uri(), experiment_id)
        if mark is None:
            values = (names.TAG_ARTIFACTS, home.name, experiment_id)
            yield "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)", values
        runs = connection.execute(
            "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ? AND artifact_uri != ? || run_uuid || ?",
            (experiment_id, f"{home.as_uri()}/", "/artifacts"),
        ).fetchall()
        for run_id, run_location in runs:
            folder = run_home(home, run_id, run_location or "")
            if folder is not None:
                yield "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (folder.as_uri(), run_id)


def _make(path: Path) -> None:
    """Make an empty store, whole or not at all."""
    # SQLite would play a journal that has lost its data base into the new one.
    _set_side_files_aside(path)
    with _aside(path) as temporary:
        schema.make_tables(temporary)
        flush_file(temporary)
        temporary.replace(path)
        flush_folder(path.parent)


def _mend(store: StoreFile, tell: Callable[[str], None]) -> None:
    """Bring a store to the present schema, or set it aside if it cannot be and holds no runs."""
    path = store.path
    if store.revision and store.revision not in schema.revisions():
        raise TrackingError(
            f"the tracking store {path} was made by a newer MLflow than this one (its schema is {store.revision}). "
            f"Update MLflow. Or: {_ANOTHER}"
        )
    for _ in range(_TRIES):
        before = _stamp(path)
        with _aside(path) as copy, _aside(path) as migrated:
            _copy(path, copy)
            _copy(copy, migrated)
            try:
                schema.migrate(migrated)
            except Exception as error:
                if isinstance(error, OSError) or _DISK_FULL in str(error):
                    raise OutputError(f"cannot migrate {path}: {_first_line(error)}. Free space.") from None
                return _replace_by_empty(store, error, tell)
            if _stamp(path) != before:
                # Another launch has written to it meanwhile.
                continue
            backup = _free_name(path, "before-migration") if store.runs else None
            if backup is not None:
                copy.replace(backup)
            # Copied, not renamed: a process that has the store open then sees the new content, not a deleted file.
            _copy(migrated, path)
        hint = f"; as it was, it is kept as {backup}" if backup is not None else ""
        tell(f"the tracking store {path} has been brought to the schema of this MLflow{hint}")
        return None
    raise TrackingError(f"the tracking store {path} has to be migrated and is being written to. End the other launch.")


def _replace_by_empty(store: StoreFile, error: Exception, tell: Callable[[str], None]) -> None:
    path = store.path
    if store.runs:
        raise TrackingError(
            f"the tracking store {path} cannot be used: a change of its schema was cut off at "
            f"{store.revision or 'the beginning'} ({_first_line(error)}). {_ANOTHER}"
        ) from None
    backup = _free_name(path, "broken")
    path.replace(backup)
    for side_file, side_backup in zip(_side_files(path), _side_files(backup), strict=True):
        with suppress(FileNotFoundError):
            side_file.replace(side_backup)
    _make(path)
    tell(
        f"the making of the tracking store {path} had been cut off; it held no runs, is kept as {backup} and made anew"
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a whole data base, in one transaction of the target, which other processes may have open."""
    with closing(connect(source)) as reading, closing(sqlite3.connect(target, timeout=60.0)) as writing:
        reading.backup(writing)


def _stamp(path: Path) -> tuple[bytes, int]:
    """Return a value that changes with every transaction: a counter in the file, and the size of its -wal file."""
    with path.open("rb") as file:
        # The file change counter, bytes 24 to 27 of the header (SQLite file format, section 1.3).
        counter = file.read(28)[24:]
    ahead = path.with_name(path.name + "-wal")
    return counter, ahead.stat().st_size if ahead.exists() else 0


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Yield the path of a new, empty file beside a store; remove it and its side files at the end."""
    with temporary_file(path) as temporary:
        try:
            # O_EXCL: never a file or a link that somebody else has put there.
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
        except (OSError, sqlite3.OperationalError) as error:
            raise OutputError(f"cannot write {path}: {error}. Free space or choose another folder.") from None
        finally:
            for side_file in _side_files(temporary):
                with suppress(OSError):
                    side_file.unlink()


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of killed processes; nobody else makes any while the lock is held."""
    for leftover in path.parent.iterdir():
        temporary = leftover.name
        # The side files of a temporary file are called after it.
        for ending in _SIDE_ENDINGS:
            temporary = temporary.removesuffix(ending)
        if final_name(leftover.with_name(temporary)) == path.name:
            with suppress(OSError):
                leftover.unlink()


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in _SIDE_ENDINGS]


def _set_side_files_aside(path: Path) -> None:
    for side_file in _side_files(path):
        if side_file.exists():
            side_file.replace(_free_name(side_file, "broken"))


def _free_name(path: Path, word: str) -> Path:
    """Return the first free name beside a file: `<name>.<word>-<number>`."""
    number = 1
    # Not `exists`, for which a link that leads nowhere is nothing.
    while os.path.lexists(path.with_name(f"{path.name}.{word}-{number}")):
        number += 1
    return path.with_name(f"{path.name}.{word}-{number}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
