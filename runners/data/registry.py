"""This module holds the two registries of data sets, and the functions that open a data set by its name.

A data set in memory has a loader (`register_loader`); one that is read from files batch by batch in a way of its own
has a source (`register_source`). Its facts are registered under the same name with
`ablations.datasets.register_dataset`. A set in folders of image files needs neither, `register_folder_set` is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import facts_of, folder_sets, register_content, registered_facts
from ablations.errors import AblationError, DatasetError, SpecError, UnknownNameError
from ablations.spec.fingerprint import digest as digest_of
from runners.data.readers.image_folder import open_folder_set
from runners.data.sources import BatchSettings, BatchSource, MemorySource, SplitSizes
from runners.data.splits import Dataset


class Loader(Protocol):
    """A function that reads a data set into memory; `root` is the user's data folder, `download` allows the network."""

    def __call__(self, facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
        """Return the data set, made by `make_dataset`; raises DatasetError."""


class SourceOpener(Protocol):
    """A function that opens a data set whose images stay in files."""

    def __call__(
        self, facts: DatasetFacts, settings: BatchSettings, *, root: Path | None, sizes: SplitSizes
    ) -> BatchSource:
        """Return the source; raises DatasetError."""


_LOADERS: dict[str, Loader] = {}
_SOURCES: dict[str, SourceOpener] = {}
_VERSIONS: dict[str, str | int] = {}


def register_loader(name: str, *, version: str | int | None = None) -> Callable[[Loader], Loader]:
    """Decorate the function that reads data set `name` into memory.

    Results belong to the content of the data set: it is loaded once per process to compute its digest, unless its facts
    state one. With a `version` they belong to that instead; it must change when the content does.

    Raises:
        DatasetError: The name has a loader or a source already.
    """

    def register(loader: Loader) -> Loader:
        _refuse_duplicate(name)
        _LOADERS[name] = loader
        _register_identity(name, version, _loaded_digest)
        return loader

    return register


def register_source(name: str, *, version: str | int | None = None) -> Callable[[SourceOpener], SourceOpener]:
    """Decorate the function that opens data set `name`, whose images stay in files.

    Results belong to the `digest` of the source, which is opened once per process to read it, unless the facts of the
    data set state one. With a `version` they belong to that instead; it must change when the content does.

    Raises:
        DatasetError: The name has a loader or a source already.
    """

    def register(opener: SourceOpener) -> SourceOpener:
        _refuse_duplicate(name)
        _SOURCES[name] = opener
        _register_identity(name, version, _opened_digest)
        return opener

    return register


def opener_of(name: str) -> Loader | SourceOpener | None:
    """Return the loader or source of data set `name`; `None` for folders of image files, and facts without a reader."""
    return _LOADERS.get(name) or _SOURCES.get(name)


def data_version(name: str) -> str | int | None:
    """Return the version that was given when the reader of data set `name` was registered, or `None`."""
    return _VERSIONS.get(name)


def _register_identity(name: str, version: str | int | None, digest: Callable[[str, Path | None, bool], str]) -> None:
    """Register how the content of a data set is identified: by its version, or else by its digest."""
    if version is not None:
        _VERSIONS[name] = version
        register_content(name, None)
    else:
        _VERSIONS.pop(name, None)
        register_content(name, partial(digest, name))


def _loaded_digest(name: str, root: Path | None, download: bool) -> str:
    """Return the digest of a loaded data set: of its content, its normalisation and its number of classes."""
    dataset = _explained(name, lambda: _load_once(name, root, download))
    statistics = [dataset.mean.tolist(), dataset.std.tolist()]
    return digest_of({"content": dataset.digest, "statistics": statistics, "classes": dataset.facts.num_classes})


def _opened_digest(name: str, root: Path | None, download: bool) -> str:
    # Batches are of no interest here: the smallest settings will do.
    opener, facts = _SOURCES[name], registered_facts(name)
    source = _explained(name, lambda: opener(facts, BatchSettings(batch_size=1), root=root, sizes=SplitSizes()))
    return str(source.digest)


def _explained(name: str, read: Callable[[], Any]) -> Any:
    """Return the result of `read`; a failure becomes a DatasetError that says why the content is needed."""
    try:
        return read()
    except Exception as error:
        reason = str(error) if isinstance(error, AblationError) else f"{type(error).__name__}: {error}"
        raise DatasetError(
            f"the content of data set {name!r} decides which results are its own, and it cannot be read: {reason} "
            "Mend that, give its digest in DatasetFacts(digest=...), or register its reader with version=..."
        ) from error


def load_dataset(name: str, *, root: Path | None = None, download: bool = False) -> Dataset:
    """Read a data set into memory and check it against its registered facts.

    Args:
        root: The user's data folder, which is searched first.
        download: Whether a missing data set may be fetched from the network.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: It is missing, corrupt, or too large for memory and read through `open_batches` instead.
    """
    if name in _SOURCES or name in folder_sets():
        raise DatasetError(f"data set {name!r} does not fit in memory; open it with open_batches({name!r}, …)")
    facts = registered_facts(name)
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
    test_only: bool = False,
) -> BatchSource:
    """Open a data set for training and evaluation, in memory or from files, as it is registered.

    Args:
        root: The user's data folder, which is searched first.
        download: Whether a missing data set may be fetched; only those in memory can be.
        sizes: How many images of each split to use; all by default.
        image_size: Side in pixels of images in folders; None is the data set's own.
        test_only: Whether the test split alone is read, of a data set in folders.

    Raises:
        UnknownNameError: No such data set.
        DatasetError: It is missing or corrupt.
        SpecError: Sizes or batch size do not fit it.
    """
    sizes = sizes or SplitSizes()
    # Files before memory: a set that is registered as a source has no loader.
    if name in _SOURCES:
        if sizes.split_seed is not None:
            # A source of someone's own makes its splits itself, and would read past the seed in silence.
            raise SpecError(
                f"data.split_seed = {sizes.split_seed} asks for other validation images, and data set {name!r} has a "
                "reader of its own, which makes its splits itself. Leave data.split_seed out."
            )
        return _SOURCES[name](registered_facts(name), settings, root=root, sizes=sizes)
    if name in folder_sets():
        facts = facts_of(name, root, image_size, test_only=test_only)
        return open_folder_set(facts, settings, root=root, sizes=sizes)
    return MemorySource(_load_once(name, root, download), settings, sizes)


@lru_cache(maxsize=2)
def _load_once(name: str, root: Path | None, download: bool) -> Dataset:
    # A worker runs many trials and evaluations on the same images, which nothing changes.
    return load_dataset(name, root=root, download=download)


def _refuse_duplicate(name: str) -> None:
    if name in _LOADERS or name in _SOURCES or name in folder_sets():
        raise DatasetError(f"data set {name!r} has two loaders; choose another name for the second one")
