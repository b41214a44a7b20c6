"""Name to loader: the two registries through which data sets are opened, and the functions that open them.

A data set in memory has a loader (`register_loader`), one that is read from files batch by batch in a way of its own
has a source (`register_source`). Its facts are registered under the same name with
`ablations.datasets.register_dataset`. A set in folders of image files needs neither, `register_folder_set` is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from ablations.datasets import facts_of, folder_sets, get_dataset_facts
from ablations.errors import DatasetError, UnknownNameError
from ablations.facts import DatasetFacts
from runners.data.folder_sets import open_folder_set
from runners.data.sources import BatchSettings, BatchSource, MemorySource, SplitSizes
from runners.data.splits import Dataset


class Loader(Protocol):
    """Reads a data set into memory; `root` is the user's data folder, `download` allows the network."""

    def __call__(self, facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
        """Returns the data set, made by `make_dataset`; raises DatasetError."""


class SourceOpener(Protocol):
    """Opens a data set whose images stay in files."""

    def __call__(
        self, facts: DatasetFacts, settings: BatchSettings, *, root: Path | None, sizes: SplitSizes
    ) -> BatchSource:
        """Returns the source; raises DatasetError."""


_LOADERS: dict[str, Loader] = {}
_SOURCES: dict[str, SourceOpener] = {}


def register_loader(name: str) -> Callable[[Loader], Loader]:
    """Decorates the function that reads data set `name` into memory.

    Raises:
        DatasetError: The name has a loader or a source already.
    """

    def register(loader: Loader) -> Loader:
        _refuse_duplicate(name)
        _LOADERS[name] = loader
        return loader

    return register


def register_source(name: str) -> Callable[[SourceOpener], SourceOpener]:
    """Decorates the function that opens data set `name`, whose images stay in files.

    Raises:
        DatasetError: The name has a loader or a source already.
    """

    def register(opener: SourceOpener) -> SourceOpener:
        _refuse_duplicate(name)
        _SOURCES[name] = opener
        return opener

    return register


def load_dataset(name: str, *, root: Path | None = None, download: bool = False) -> Dataset:
    """Reads a data set into memory and holds it against its registered facts.

    Args:
        name: A registered name.
        root: The user's data folder, looked into first.
        download: Whether a data set that is not there may be fetched from the network.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: It is missing, corrupt, or too large for memory and read through `open_batches` instead.
    """
    if name in _SOURCES or name in folder_sets():
        raise DatasetError(f"data set {name!r} does not fit in memory; open it with open_batches({name!r}, …)")
    facts = get_dataset_facts(name)
    if name not in _LOADERS:
        raise UnknownNameError("data set with a loader", name, (*_LOADERS, *_SOURCES))
    return _LOADERS[name](facts, root=root, download=download)


def open_batches(
    name: str,
    settings: BatchSettings,
    *,
    root: Path | None = None,
    download: bool = False,
    sizes: SplitSizes | None = None,
    image_size: int | None = None,
) -> BatchSource:
    """Opens a data set for training and evaluation, in memory or from files, whichever it is registered as.

    Args:
        name: A registered name.
        settings: How batches are made.
        root: The user's data folder, looked into first.
        download: Whether a data set that is not there may be fetched; only those in memory can be.
        sizes: How many images of each split to use; all by default.
        image_size: Side in pixels of images in folders; None is the data set's own.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: It is missing or corrupt.
        SpecError: Sizes or batch size do not fit it.
    """
    sizes = sizes or SplitSizes()
    opener = _SOURCES.get(name, open_folder_set if name in folder_sets() else None)
    if opener is not None:
        return opener(facts_of(name, root, image_size), settings, root=root, sizes=sizes)
    return MemorySource(_load_once(name, root, download), settings, sizes)


@lru_cache(maxsize=2)
def _load_once(name: str, root: Path | None, download: bool) -> Dataset:
    # A worker runs many trials and evaluations on the same images, which nothing changes.
    return load_dataset(name, root=root, download=download)


def _refuse_duplicate(name: str) -> None:
    if name in _LOADERS or name in _SOURCES or name in folder_sets():
        raise DatasetError(f"data set {name!r} has two loaders; choose another name for the second one")
