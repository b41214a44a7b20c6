"""This module opens a store by its address: the path of a bundle (`report.zip`), or anything that MLflow can read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reports.collect.stores.base import Store

BUNDLE_ENDING = ".zip"


def bundle_path(address: str) -> Path | None:
    """Return the path of the bundle that an address names, or `None` if it names another kind of store."""
    if "://" not in address and not address.startswith("sqlite:") and address.lower().endswith(BUNDLE_ENDING):
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
