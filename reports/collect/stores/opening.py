"""This module opens a store by its address: that of a bundle, or anything that MLflow can read.

A bundle is named by its path, if that ends in `.zip`, or by `bundle:` and any path.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ablations.stores.addresses import is_sqlite
from reports.collect.stores.base import Store

_SCHEME = "bundle:"
_ENDING = ".zip"


def bundle_address(path: Path) -> str:
    """Return the address of the bundle in a file, whatever its name."""
    # With the scheme, a bundle keeps its kind even if its file has another ending.
    return f"{_SCHEME}{path}"


def bundle_path(address: str) -> Path | None:
    """Return the path of the bundle that an address names, or `None` if it names another kind of store."""
    if address.startswith(_SCHEME):
        return Path(address.removeprefix(_SCHEME))
    # A server or a data base may have a name that ends in .zip, but these have a scheme.
    if address.lower().endswith(_ENDING) and "://" not in address and not is_sqlite(address):
        return Path(address)
    return None


@contextmanager
def open_store(uri: str) -> Iterator[Store]:
    """Open a store for reading.

    Raises:
        TrackingError: If there is no such store, or if any error of the store is raised while it is open.
    """
    path = bundle_path(uri)
    # Each is imported when it is needed: a bundle is read where MLflow is not installed.
    if path is not None:
        from reports.collect.stores.bundle import BundleStore

        yield BundleStore.open(path)
    else:
        from reports.collect.stores.tracking import opened

        with opened(uri) as store:
            yield store
