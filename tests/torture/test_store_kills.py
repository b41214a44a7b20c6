"""SIGKILL while a SQLite store is made or migrated, at any moment and at every migration: the next command goes on."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ablations.stores.store_file import Condition, inspect_store
from runners.tracking import prepare_store
from tests.torture.victims import call, start

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parent.parent.parent


def _die_before(migration: int, path: str) -> None:
    """Makes a store and dies before a migration; leaves with 0 if there are not so many."""
    from alembic.runtime.migration import MigrationContext

    begin, left = MigrationContext.begin_transaction, [migration]

    def deadly(self: MigrationContext, *arguments: object, **more: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return begin(self, *arguments, **more)  # type: ignore[arg-type]

    MigrationContext.begin_transaction = deadly  # type: ignore[assignment, method-assign]
    prepare_store(f"sqlite:///{path}")


def _usable(path: Path) -> None:
    prepare_store(f"sqlite:///{path}", lambda line: pytest.fail(line))
    assert inspect_store(path).condition is Condition.USABLE
    assert {file.name for file in path.parent.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    assert MlflowClient(f"sqlite:///{path}").search_experiments()


def test_a_kill_before_a_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    migration = 0
    while True:
        folder = tmp_path / str(migration)
        folder.mkdir()
        code = call(_die_before, migration, str(folder / "mlflow.db"))
        assert code in (0, -signal.SIGKILL)
        assert (folder / "mlflow.db").exists() == (code == 0)
        if migration % 28 == 0:
            _usable(folder / "mlflow.db")
        if code == 0:
            break
        # Each takes a process that imports MLflow; every seventh says whether any leaves something behind.
        migration += 7
    assert migration > 40, "the migrations have become few"


def test_kills_at_random_moments_of_a_first_command(tmp_path: Path) -> None:
    pause = random.Random(0)
    path = tmp_path / "mlflow.db"
    for _ in range(12):
        process = start(prepare_store, f"sqlite:///{path}")
        time.sleep(pause.uniform(0.0, 3.0))
        process.kill()
        process.join()
        assert inspect_store(path).condition in (Condition.ABSENT, Condition.USABLE)
    _usable(path)


def test_kills_at_random_moments_of_a_migration_lose_no_run(tmp_path: Path) -> None:
    from tests.runners.tracking.test_local_store import _add_run, _old

    pause = random.Random(1)
    path = tmp_path / "mlflow.db"
    prepare_store(f"sqlite:///{path}")
    run_id = _add_run(path)
    _old(path)
    for _ in range(12):
        process = start(prepare_store, f"sqlite:///{path}")
        time.sleep(pause.uniform(0.0, 2.0))
        process.kill()
        process.join()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT run_uuid FROM runs").fetchall() == [(run_id,)]
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    prepare_store(f"sqlite:///{path}", lambda line: None)
    assert MlflowClient(f"sqlite:///{path}").get_run(run_id).info.run_id == run_id


def test_two_at_once_make_one_store(tmp_path: Path) -> None:
    code = (
        "import sys; from runners.tracking import prepare_store; from mlflow import MlflowClient;"
        "prepare_store(sys.argv[1]); print(MlflowClient(sys.argv[1]).create_experiment(sys.argv[2]))"
    )
    address = f"sqlite:///{tmp_path}/mlflow.db"
    started = [
        subprocess.Popen([sys.executable, "-c", code, address, str(number)], cwd=ROOT, stderr=subprocess.PIPE)
        for number in range(3)
    ]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(MlflowClient(address).search_experiments()) == 4
