"""The command line for every test, and properties that are not judged by how long an example takes."""

from __future__ import annotations

import os

# Before anything imports torch, and for processes that tests start: two workers of pytest on two cores, each with two
# threads, spend most of their time waiting for each other. Tests of several threads ask for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton looks at this when it is first imported: programs for GPUs run on the CPU, step by step.
os.environ.setdefault("TRITON_INTERPRET", "1")

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from runners.tracking import schema
from tests.command_line import Invoke
from tests.empty_store import EmptyStore, shared_folder

# Cores are shared with other work: how long one example takes says nothing about the code. Half of hypothesis's usual
# number of examples, as each run of the tests draws others.
settings.register_profile("patient", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Carries out commands in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Invoke(capsys)


@pytest.fixture(scope="session", autouse=True)
def new_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmptyStore]:
    """Let each new SQLite store be a copy of an empty one."""
    empty = EmptyStore(shared_folder(tmp_path_factory))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "make_tables", empty.make_tables)
        yield empty


@pytest.fixture(scope="session")
def empty_store(new_stores: EmptyStore) -> Path:
    """The file of an empty SQLite store; to be copied, not used."""
    return new_stores.path()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # A training in this process leaves as many threads as it had.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_tracking_address_left() -> Iterator[None]:
    """Take back `mlflow.set_tracking_uri`, which sets a variable of the environment too, for all tests after it."""
    yield
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None and hasattr(mlflow, "set_tracking_uri"):
        mlflow.set_tracking_uri(None)


def pytest_collection(session: pytest.Session) -> None:
    """Collect no garbage among what imports and collected tests make, as all of it stays."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what imports and collected tests have made out of all later collections of garbage."""
    gc.freeze()
    gc.enable()


LONGEST = (
    "test_end_to_end.py",
    "test_verify.py",
    "test_odconv.py",
    "test_deployment.py",
    "test_slurm.py",
    "test_serving.py",
    "test_bundles.py",
    "test_extending.py",
    "test_kills.py",
    "test_interrupts.py",
    "test_damaged.py",
    "test_operators.py",
    "test_trial.py",
    "test_freezing.py",
    "test_examples.py",
    "test_html_browser.py",
    "test_snippets.py",
    "test_sample_report.py",
    "test_until_decided.py",
    "test_foreign_results.py",
    "test_inspecting.py",
    "test_layer_checks.py",
    "test_every_study.py",
    "test_adoption.py",
    "test_foreign_layouts.py",
)
"""Files that take half a minute. They come first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and refuse a name with an address in memory, as processes cannot agree on one."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: give its parameters ids that are the same in each process")
