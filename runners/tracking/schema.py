"""This module knows the schema of MLflow's SQLite stores: its tables, its revisions and the way to the present one.

Nothing else here looks behind MLflow's client. Names that begin with an underscore are avoided; what is used beside
the command `mlflow db upgrade` was checked in MLflow 3.17: the folder of the migrations and the tables as classes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ablations.errors import TrackingError
from ablations.stores.addresses import sqlite_address
from ablations.stores.store_file import StoreFile, inspect_store


def make_tables(path: Path) -> None:
    """Make the tables of a store in an empty file."""
    _make_first_tables(path)
    _upgrade(path)


def migrate(path: Path) -> None:
    """Bring a store to the schema of this MLflow.

    Raises:
        TrackingError: If tables are missing at the end.
    """
    if not inspect_store(path).revision:
        # There was no first migration, so its first tables may be missing.
        _make_first_tables(path)
    _upgrade(path)
    if not has_all_tables(inspect_store(path)):
        raise TrackingError("tables are missing")


def _make_first_tables(path: Path) -> None:
    """Make the tables that are older than all migrations, as far as they are missing."""
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    # Without a pool no connection outlives this function, and so no side file does.
    engine = create_engine(sqlite_address(path), poolclass=NullPool)
    Base.metadata.create_all(engine)
    engine.dispose()


def _upgrade(path: Path) -> None:
    from mlflow.db import upgrade

    upgrade.main([sqlite_address(path)], standalone_mode=False)


def has_all_tables(store: StoreFile) -> bool:
    """Return True if MLflow would leave the tables as they are; otherwise it would migrate the store in place."""
    # The import of `utils` registers all tables in `Base`.
    import mlflow.store.db.utils  # noqa: F401
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables) <= store.tables


@cache
def revisions() -> tuple[str, ...]:
    """Return the revisions of the schema that this MLflow knows, the latest one first."""
    import mlflow
    from alembic.script import ScriptDirectory

    folder = Path(mlflow.__file__).parent / "store" / "db_migrations"
    return tuple(script.revision for script in ScriptDirectory(str(folder)).walk_revisions())
