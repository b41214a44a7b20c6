"""A store of made-up runs, made once per session, and what reports read from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.planning.plan import Plan
from tests.reports.made_up import Store, fill, plan_of


def pytest_configure(config: pytest.Config) -> None:
    """MLflow 3.17 uses what SQLAlchemy 2.1 calls deprecated; nothing of ours does."""
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="session")
def make_store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Store]:
    """Makes empty stores."""

    def make() -> Store:
        path = tmp_path_factory.mktemp("store") / "mlflow.db"
        shutil.copyfile(empty_store, path)
        return Store(f"sqlite:///{path}")

    return make


@pytest.fixture(scope="session")
def plan() -> Plan:
    """Both studies, three seeds."""
    return plan_of()


@pytest.fixture(scope="session")
def store(make_store: Callable[[], Store], plan: Plan) -> Store:
    """A store with the runs of `TOP1`; tests that add runs make their own."""
    made = make_store()
    fill(made, plan)
    return made


@pytest.fixture(scope="session")
def results(plan: Plan, store: Store) -> Any:
    """What the store holds for the plan."""
    from reports.collect.runs import collect

    return collect(plan, store.uri)


@pytest.fixture(scope="session")
def document(plan: Plan, results: Any) -> Any:
    """The report on both studies."""
    from tests.reports.made_up import document_of

    return document_of(plan, results)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder that does not exist yet."""
    return tmp_path / "reports"
