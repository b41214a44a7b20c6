"""The file of a SQLite store: made whole or not at all, mended, migrated, moved, copied, in a folder of any name."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from ablations import vocabulary as names
from ablations.errors import AblationError, OutputError, TrackingError
from ablations.stores.addresses import sqlite_address, sqlite_file
from ablations.stores.store_file import Condition, inspect_store
from runners.tracking import local_store, prepare_store, schema
from runners.tracking.local_store import bring_artifacts_along, copy_for_reading, make_usable
from tests.empty_store import really_make_tables

ROOT = Path(__file__).resolve().parent.parent.parent.parent
EXPERIMENT = "dyconv-ablations/test/mini"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Path:
    """The file of an empty store."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return Path(shutil.copy(empty_store, folder / "mlflow.db"))


@pytest.fixture
def made_by_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new stores be made by MLflow's migrations; elsewhere in the tests, they are copies of an empty one."""
    monkeypatch.setattr(schema, "make_tables", really_make_tables)


def _told() -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []
    return lines, lines.append


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def _add_run(path: Path, name: str = EXPERIMENT) -> str:
    """Adds a run with an artifact, as a launch does; returns its id."""
    from runners.tracking.experiment import Experiment

    experiment = Experiment(sqlite_address(path), name, path.parent / "artifacts")
    run = experiment.open_run("a run", {"abl.fingerprint": "f"})
    experiment.put_text(run, "made here", "record.json")
    return run.run_id


def _engine(path: Path) -> Engine:
    # Without a pool, no connection stays open.
    return create_engine(sqlite_address(path), poolclass=NullPool)


def _old(path: Path, tables_gone: bool = False) -> None:
    """Turns the newest schema into that before the newest migration, as an earlier MLflow would have left it."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    with _engine(path).begin() as connection:
        config = _get_alembic_config(sqlite_address(path))
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    if tables_gone:
        # As one that was made before there was another table, which MLflow would migrate in its place.
        _execute(path, "DROP TABLE IF EXISTS scorers")


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it tidies up the file that was being made."""


@pytest.mark.usefixtures("made_by_mlflow")
def test_a_store_is_made_aside_and_has_no_side_files(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    seen: list[set[str]] = []
    honest = schema.make_tables

    def watched(temporary: Path) -> None:
        assert not path.exists()
        honest(temporary)
        seen.append({file.name for file in tmp_path.iterdir()})

    schema.make_tables = watched
    try:
        make_usable(path, lambda line: pytest.fail(line))
    finally:
        schema.make_tables = honest
    assert len(seen) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"mlflow.db"}
    assert inspect_store(path).condition is Condition.USABLE
    with pytest.MonkeyPatch.context() as patch:
        # What MLflow opens now needs no migration.
        patch.setattr("mlflow.store.db.utils._initialize_tables", lambda engine: pytest.fail("made again"))
        assert MlflowClient(sqlite_address(path)).search_experiments()


def _half_made(path: Path, migrations: int) -> bool:
    """Makes a store in its place, as MLflow does, up to some migration; returns whether it was cut off."""
    from alembic.runtime.migration import MigrationContext
    from mlflow.store.db.utils import _initialize_tables

    count = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        honest = MigrationContext.begin_transaction

        def deadly(self: Any, *arguments: Any, **more: Any) -> Any:
            # The first one is around all of them.
            if next(count) > migrations:
                raise KilledError
            return honest(self, *arguments, **more)

        patch.setattr(MigrationContext, "begin_transaction", deadly)
        try:
            _initialize_tables(_engine(path))
        except KilledError:
            return True
    return False


def test_a_store_that_was_cut_off_between_migrations_is_mended(tmp_path: Path) -> None:
    for migrations in (1, 30):
        path = tmp_path / str(migrations) / "mlflow.db"
        path.parent.mkdir()
        assert _half_made(path, migrations)
        lines, tell = _told()
        prepare_store(sqlite_address(path), tell)
        assert len(lines) == 1, lines
        assert inspect_store(path).condition is Condition.USABLE
        assert MlflowClient(sqlite_address(path)).search_experiments()


@pytest.mark.parametrize(
    "damage",
    [
        ["UPDATE alembic_version SET version_num = '90e64c465722'"],
        ["UPDATE alembic_version SET version_num = '451aebb31d03'", "CREATE TABLE _alembic_tmp_metrics (x)"],
        ["DELETE FROM alembic_version"],
        ["DROP TABLE alembic_version"],
        ["DROP TABLE runs", "CREATE TABLE _alembic_tmp_runs (x)"],
        ["DROP TABLE metrics"],
    ],
)
def test_a_half_migrated_store_without_runs_is_set_aside(store: Path, damage: list[str]) -> None:
    _execute(store, *damage)
    lines, tell = _told()
    prepare_store(sqlite_address(store), tell)
    assert "held no runs" in lines[0]
    assert (store.parent / "mlflow.db.broken-1").exists()
    assert inspect_store(store).condition is Condition.USABLE
    prepare_store(sqlite_address(store), lambda line: pytest.fail(line))


@pytest.mark.parametrize(
    "damage",
    [
        ["UPDATE alembic_version SET version_num = '90e64c465722'"],
        ["DELETE FROM alembic_version"],
        ["ALTER TABLE runs RENAME TO _alembic_tmp_runs"],
        ["DROP TABLE metrics"],
    ],
)
def test_a_half_migrated_store_with_runs_is_named_and_left_alone(store: Path, damage: list[str]) -> None:
    _add_run(store)
    _execute(store, *damage)
    before = store.read_bytes()
    with pytest.raises(TrackingError, match=r"cut off.*run_ablation.py sync makes another"):
        prepare_store(sqlite_address(store))
    assert store.read_bytes() == before
    assert {file.name for file in store.parent.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "artifacts"}


def _write(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)  # type: ignore[return-value]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scramble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4000)


def _of_another(path: Path) -> None:
    path.unlink()
    _execute(path, "CREATE TABLE poems (line)")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_write(b"this is not a data base" * 99), "not a SQLite data base"),
        (_write(b"x"), "not a SQLite data base"),
        (_write(b"SQLite format 3\x00 and nothing more"), "missing or damaged"),
        (_cut, "missing or damaged"),
        (_scramble, "missing or damaged"),
        (_of_another, "not MLflow's"),
    ],
)
def test_what_is_no_whole_store_is_named_at_once(store: Path, damage: Callable[[Path], None], words: str) -> None:
    _add_run(store)
    damage(store)
    before = store.read_bytes()
    with pytest.raises(TrackingError, match=f"cannot be used: .*{words}.*sync makes another"):
        prepare_store(sqlite_address(store))
    assert store.read_bytes() == before


@pytest.mark.parametrize("damage", [_write(b""), lambda path: (path.unlink(), _execute(path, "VACUUM"))])
def test_an_empty_file_is_no_reason_to_stop(store: Path, damage: Callable[[Path], None]) -> None:
    damage(store)
    lines, tell = _told()
    prepare_store(sqlite_address(store), tell)
    assert "was empty" in lines[0]
    assert inspect_store(store).condition is Condition.USABLE


def test_a_store_of_a_newer_mlflow_is_named(store: Path) -> None:
    _execute(store, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(TrackingError, match="newer MLflow"):
        prepare_store(sqlite_address(store))


@pytest.mark.parametrize("tables_gone", [False, True])
def test_a_store_of_an_earlier_mlflow_is_migrated_as_a_copy(store: Path, tables_gone: bool) -> None:
    run_id = _add_run(store)
    _old(store, tables_gone)
    lines, tell = _told()
    if tables_gone:
        # Which migration made the table is past: that cannot be migrated, and is not tried in its place.
        with pytest.raises(TrackingError, match="cut off"):
            prepare_store(sqlite_address(store), tell)
        return
    open_before = sqlite3.connect(store)
    prepare_store(sqlite_address(store), tell)
    kept = store.parent / "mlflow.db.before-migration-1"
    assert str(kept) in lines[0]
    assert inspect_store(kept).runs == 1
    assert MlflowClient(sqlite_address(store)).get_run(run_id).info.run_id == run_id
    # Whoever had it open sees the new content, not a file that has lost its name.
    assert open_before.execute("SELECT version_num FROM alembic_version").fetchone()[0] == inspect_store(store).revision
    open_before.close()


def test_a_migration_that_is_cut_off_leaves_the_store_as_it_was(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _add_run(store)
    _old(store)
    revision = inspect_store(store).revision
    honest = schema.migrate

    def die(path: Path) -> None:
        honest(path)
        raise KilledError

    monkeypatch.setattr(schema, "migrate", die)
    with pytest.raises(KilledError):
        prepare_store(sqlite_address(store))
    assert (inspect_store(store).revision, inspect_store(store).runs) == (revision, 1)
    monkeypatch.setattr(schema, "migrate", honest)
    prepare_store(sqlite_address(store), lambda line: None)
    assert (inspect_store(store).revision != revision, inspect_store(store).runs) == (True, 1)


def test_a_migration_does_not_lose_what_another_launch_writes_meanwhile(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add_run(store)
    _old(store)
    honest, writes = schema.migrate, iter([True, False])

    def write_meanwhile(path: Path) -> None:
        honest(path)
        if next(writes):
            _execute(store, "UPDATE runs SET name = 'written meanwhile'")

    monkeypatch.setattr(schema, "migrate", write_meanwhile)
    prepare_store(sqlite_address(store), lambda line: None)
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT name FROM runs").fetchall() == [("written meanwhile",)]


def test_a_full_disk_is_no_reason_to_set_a_store_aside(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _old(store)
    before = inspect_store(store)

    def fail(path: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(schema, "migrate", fail)
    with pytest.raises(OutputError, match="disk is full"):
        prepare_store(sqlite_address(store))
    assert inspect_store(store) == before
    assert not list(store.parent.glob("*.broken*"))


def test_what_killed_makers_left_is_removed_and_nothing_else(store: Path) -> None:
    mine = [".mlflow.db.0123456789ab.tmp", ".mlflow.db.0123456789ab.tmp-journal"]
    others = [".mlflow.db.notes.tmp", ".other.db.0123456789ab.tmp", "mlflow.db.backup"]
    for name in (*mine, *others):
        (store.parent / name).write_text("")
    prepare_store(sqlite_address(store))
    left = {file.name for file in store.parent.iterdir()}
    assert left == {"mlflow.db", "mlflow.db.lock", *others}


@pytest.mark.parametrize("ending", ["-journal", "-wal"])
def test_a_journal_without_its_store_is_not_played_into_a_new_one(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"mlflow.db{ending}").write_bytes(b"of a store that was deleted")
    prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / f"mlflow.db{ending}.broken-1").exists()
    assert not (tmp_path / f"mlflow.db{ending}").exists()


def test_a_hot_journal_is_rolled_back_not_taken_for_damage(store: Path) -> None:
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size = 1');"
        "c.execute('BEGIN'); c.execute('CREATE TABLE big (x)');"
        "c.executemany('INSERT INTO big VALUES (?)', [('x' * 1000,)] * 2000); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(store)], check=False)
    assert store.with_name("mlflow.db-journal").exists()
    prepare_store(sqlite_address(store), lambda line: pytest.fail(line))
    assert "big" not in inspect_store(store).tables


NAMES = ["per%20cent", "a%b", "what?", "n#1", 'it\'s "quoted"', "ünïcode·τ", "line\nbreak", "a&b=c;d", "~", "a\\b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_store_is_where_its_path_says_whatever_that_is_called(empty_store: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    address = sqlite_address(folder / "mlflow.db")
    assert sqlite_file(address) == folder / "mlflow.db"
    prepare_store(address)
    run_id = _add_run(folder / "mlflow.db")
    assert [file.path for file in MlflowClient(address).list_artifacts(run_id)] == ["record.json"]
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert {file.name for file in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock", "artifacts"}
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def _locations(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id != 0").fetchall()
        rows += connection.execute("SELECT artifact_uri FROM runs").fetchall()
    return [location for (location,) in rows]


def _move(runs: Path, target: Path) -> None:
    runs.rename(target)


def _copy(runs: Path, target: Path) -> None:
    shutil.copytree(runs, target)


@pytest.mark.parametrize("travel", [_move, _copy])
@pytest.mark.parametrize("name", ["home", "per%20cent home", "ho?me#"])
def test_artifacts_go_along_with_a_store(store: Path, tmp_path: Path, travel: Callable[..., None], name: str) -> None:
    run_id = _add_run(store)
    there = tmp_path / "of another user" / name
    there.parent.mkdir()
    travel(store.parent, there)
    before = _files(store.parent)
    lines, tell = _told()
    prepare_store(sqlite_address(there / "mlflow.db"), tell)
    assert "moved or copied" in lines[0]
    assert all(location.startswith(there.as_uri() + "/artifacts/") for location in _locations(there / "mlflow.db"))
    client = MlflowClient(sqlite_address(there / "mlflow.db"))
    assert Path(client.download_artifacts(run_id, "record.json")).read_text() == "made here"
    # What is written from now on, to an old run or a new one, goes there too.
    client.log_text(run_id, "later", "later.txt")
    other = _add_run(there / "mlflow.db")
    assert {file.name for file in there.rglob("*.*") if file.is_file()} >= {"later.txt", "record.json"}
    assert (there / "artifacts" / names.slug(EXPERIMENT) / other / "artifacts" / "record.json").exists()
    assert _files(store.parent) == before
    prepare_store(sqlite_address(there / "mlflow.db"), lambda line: pytest.fail(line))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_copy_without_its_artifacts_does_not_write_into_the_original(store: Path, tmp_path: Path) -> None:
    run_id = _add_run(store)
    before = _files(store.parent)
    there = tmp_path / "copy"
    there.mkdir()
    shutil.copy(store, there)
    prepare_store(sqlite_address(there / "mlflow.db"), lambda line: None)
    MlflowClient(sqlite_address(there / "mlflow.db")).log_text(run_id, "later", "later.txt")
    assert _files(store.parent) == before
    assert [file.name for file in there.rglob("*.txt")] == ["later.txt"]


def test_a_store_of_an_earlier_version_goes_along_if_its_artifacts_did(store: Path, tmp_path: Path) -> None:
    run_id = _add_run(store)
    _execute(store, "DELETE FROM experiment_tags")
    alone, together = tmp_path / "alone" / "mlflow.db", tmp_path / "together" / "mlflow.db"
    alone.parent.mkdir()
    shutil.copy(store, alone)
    shutil.copytree(store.parent, together.parent)
    # Two launches with a folder each may have one store: nothing says that the artifacts were beside it.
    assert bring_artifacts_along(alone) == 0
    assert bring_artifacts_along(together) == 2
    assert all(str(together.parent) in location for location in _locations(together))
    assert _locations(alone) == _locations(store)
    assert (together.parent / "artifacts" / names.slug(EXPERIMENT) / run_id).is_dir()
    # From now on it is known.
    shutil.copy(together, alone)
    assert bring_artifacts_along(alone) == 2


def test_artifacts_that_a_user_keeps_elsewhere_stay_there(store: Path, tmp_path: Path) -> None:
    client = MlflowClient(sqlite_address(store))
    places = ["s3://bucket/artifacts/own", (tmp_path / "elsewhere" / "own").as_uri(), (tmp_path / "artifacts").as_uri()]
    for number, place in enumerate(places):
        client.create_run(client.create_experiment(f"own {number}", artifact_location=place))
    from runners.tracking.experiment import Experiment

    # A launch in another folder, with this store by MLFLOW_TRACKING_URI.
    Experiment(sqlite_address(store), EXPERIMENT, tmp_path / "other runs" / "artifacts")
    (tmp_path / "other runs" / "artifacts" / names.slug(EXPERIMENT)).mkdir(parents=True)
    before = _locations(store)
    assert bring_artifacts_along(store) == 0
    assert _locations(store) == before


def test_an_artifact_place_is_changed_for_all_runs_or_for_none(store: Path, tmp_path: Path) -> None:
    for _ in range(3):
        _add_run(store)
    there = tmp_path / "there"
    shutil.copytree(store.parent, there)
    changes = list(local_store._changes(there / "mlflow.db", sqlite3.connect(there / "mlflow.db")))
    assert len(changes) == 4
    with pytest.MonkeyPatch.context() as patch:
        bad = [*changes[:2], ("UPDATE no_table SET x = ?", ("1",))]
        patch.setattr(local_store, "_changes", lambda path, connection: iter(bad))
        with pytest.raises(sqlite3.OperationalError):
            bring_artifacts_along(there / "mlflow.db")
    assert _locations(there / "mlflow.db") == _locations(store)


def test_a_symbolic_link_to_a_runs_folder_is_the_folder(store: Path, tmp_path: Path) -> None:
    _add_run(store)
    (tmp_path / "link").symlink_to(store.parent)
    before = _locations(store)
    prepare_store(sqlite_address(tmp_path / "link" / "mlflow.db"), lambda line: pytest.fail(line))
    assert _locations(store) == before


def test_a_store_that_cannot_be_written_is_copied_for_the_ui(store: Path, tmp_path: Path) -> None:
    run_id = _add_run(store)
    there = tmp_path / "there"
    shutil.copytree(store.parent, there)
    before = _files(there)
    with copy_for_reading(there / "mlflow.db") as copy:
        prepare_store(sqlite_address(copy), lambda line: pytest.fail(line))
        client = MlflowClient(sqlite_address(copy))
        assert client.get_run(run_id).info.artifact_uri.startswith(there.as_uri())
        assert [file.path for file in client.list_artifacts(run_id)] == ["record.json"]
    assert _files(there) == before
    assert not copy.exists()


def test_a_lock_file_that_is_a_link_destroys_nothing(store: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (store.parent / "mlflow.db.lock").symlink_to(victim)
    with pytest.raises(AblationError, match=r"mlflow\.db\.lock"):
        prepare_store(sqlite_address(store))
    assert victim.read_text() == "precious"


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    left = [path for path in tmp_path.rglob(".mlflow.db.*") if path.name.count(".") == 4 and "notes" not in path.name]
    assert not left
