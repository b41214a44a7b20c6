"""Imports without the cycle collector, which is as before afterwards."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator

import pytest

from runners.importing import without_collection


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_off_and_then_as_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    during = []
    with pytest.raises(ModuleNotFoundError):
        _import_a_typo(during)
    assert (during, gc.isenabled()) == ([False], enabled)


def _import_a_typo(during: list[bool]) -> None:
    with without_collection():
        during.append(gc.isenabled())
        importlib.import_module("tocrh")


def test_what_was_imported_is_not_looked_at_again() -> None:
    gc.unfreeze()
    with without_collection():
        kept = [[n] for n in range(1000)]
    assert gc.get_freeze_count() >= len(kept)
