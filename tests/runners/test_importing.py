"""Imports without the cycle collector, which is as before afterwards."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
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


PROCESS = """
import atexit, gc, sys

# Called last: such calls are made in the reverse of their order.
atexit.register(lambda: print(sum(isinstance(found, Kept) for found in gc.get_objects())))
from runners.importing import without_collection

class Kept(list):
    pass

if {has_triton}:
    sys.modules["triton"] = gc
with without_collection():
    imported = [Kept() for _ in range(1000)]
made_later = [Kept() for _ in range(1000)]
"""


@pytest.mark.parametrize(("has_triton", "left"), [(False, 0), (True, 2000)])
def test_a_process_ends_without_a_last_look_at_everything_but_where_triton_counts_leaks(
    has_triton: bool, left: int
) -> None:
    code = PROCESS.format(has_triton=has_triton)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{left}\n"
