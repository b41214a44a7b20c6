"""The registry finds the facts of a data set by its name; those of a folder set come from the user's files.

`plan` validates specs and fingerprints trials with these facts, so nothing here imports torch. Files of a folder are
read once, when it is first seen; from then on only those that have changed. `runners.data` reads the images for
training, under the same names.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from ablations.datasets.builtin import FOLDER_SETS, IN_MEMORY, Expected, FolderSet
from ablations.datasets.facts import DatasetFacts
from ablations.datasets.folder_contents import FolderContent
from ablations.datasets.folders import left_out_words
from ablations.errors import DatasetError, UnknownNameError

DATASETS: dict[str, DatasetFacts] = {}
"""Data sets in memory, and those of plug-ins that know their facts beforehand."""

FOLDERS: dict[str, FolderSet] = {}
"""Data sets in folders of image files."""


ContentDigest = Callable[[Path | None, bool], str]
"""A function from the user's data folder and a permission to use the network to the digest of a data set's content."""

_CONTENTS: dict[str, ContentDigest] = {}

_STATED: dict[tuple[str, bool], DatasetFacts] = {}
"""Facts of the user's files as somebody states them, by name and by whether they are of the test split alone."""


@contextmanager
def stated_facts(facts: Mapping[tuple[str, bool], DatasetFacts]) -> Iterator[None]:
    """Take what only the user's files tell from `facts` for a while, as these files may be on another machine.

    Args:
        facts: By name and by whether they are of the test split alone. Data sets whose facts are known without files
            keep their own.
    """
    before = dict(_STATED)
    _STATED.update(facts)
    try:
        yield
    finally:
        _STATED.clear()
        _STATED.update(before)


def register_content(name: str, content: ContentDigest | None) -> None:
    """Register the function that digests a data set whose facts have no digest; `None` leaves the digest unknown."""
    _CONTENTS.pop(name, None)
    if content is not None:
        _CONTENTS[name] = content


def register_dataset(facts: DatasetFacts) -> DatasetFacts:
    """Add a data set's facts to the registry and return them.

    Raises:
        DatasetError: The name is taken.
    """
    _refuse_duplicate(facts.name)
    DATASETS[facts.name] = facts
    return facts


def register_folder_set(folder: FolderSet) -> FolderSet:
    """Add a data set in folders of image files to the registry and return it.

    Raises:
        DatasetError: The name is taken.
    """
    _refuse_duplicate(folder.name)
    FOLDERS[folder.name] = folder
    return folder


def available_datasets() -> tuple[str, ...]:
    """Return every registered name, sorted."""
    return tuple(sorted((*DATASETS, *FOLDERS)))


def folder_sets() -> tuple[str, ...]:
    """Return the names of the data sets that lie in folders of image files, sorted."""
    return tuple(sorted(FOLDERS))


def get_folder_set(name: str) -> FolderSet:
    """Return the folder set registered under `name`.

    Raises:
        UnknownNameError: There is none; the message gives the nearest names.
    """
    if name not in FOLDERS:
        raise UnknownNameError("folder set", name, folder_sets())
    return FOLDERS[name]


def downloadable() -> tuple[str, ...]:
    """Return the names of the data sets that can be fetched from the network, sorted."""
    return tuple(sorted(name for name, facts in DATASETS.items() if facts.downloads))


def registered_facts(name: str) -> DatasetFacts:
    """Return the facts of a data set as they were registered: without a digest that only its content gives.

    Raises:
        UnknownNameError: There are none under this name; the message gives the nearest names.
    """
    if name not in DATASETS:
        raise UnknownNameError("data set", name, available_datasets())
    return DATASETS[name]


def facts_of(
    name: str,
    root: str | Path | None = None,
    image_size: int | None = None,
    *,
    download: bool = False,
    test_only: bool = False,
) -> DatasetFacts:
    """Return the facts of a data set; those of a folder set come from its files where `root` names them.

    The folder is looked at once per process, or again after `forget_folders`: some seconds for a million files, and as
    long as reading all of them takes when it is seen for the first time. A user's data set whose facts say no digest is
    loaded once per process, as only its content tells whether it is the same.

    Args:
        root: The user's data folder; only folder sets look into it.
        image_size: Side of the images in pixels, or None for the data set's own; read by folder sets.
        download: Whether a data set that must be loaded may be fetched from the network.
        test_only: Whether the test split of a folder is enough, as nothing is trained; the digest is of its files.

    Raises:
        UnknownNameError: No such data set; the message gives the nearest names.
        DatasetError: The folder is missing or not laid out as it must be, files in it are no pictures, nothing can be
            known without it, or a user's data set cannot be loaded.
    """
    if name in DATASETS:
        facts = DATASETS[name]
        # A plug-in may register facts without a digest and a function that computes it.
        if facts.digest is not None or name not in _CONTENTS:
            return facts
        if (name, test_only) in _STATED:
            return _STATED[name, test_only]
        return _with_content(facts, _CONTENTS[name], Path(root) if root else None, download)
    if name not in FOLDERS:
        raise UnknownNameError("data set", name, available_datasets())
    folder = FOLDERS[name]
    if (name, test_only) in _STATED:
        facts = _STATED[name, test_only]
    elif root is not None:
        facts = _from_files(folder, Path(root).absolute(), test_only)
    elif folder.expected is not None:
        facts = _facts(folder, folder.expected, digest=None, class_names=())
    else:
        raise DatasetError(folder.needs_root)
    return dataclasses.replace(facts, image_size=image_size or folder.image_size)


@lru_cache(maxsize=16)
def _with_content(facts: DatasetFacts, content: ContentDigest, root: Path | None, download: bool) -> DatasetFacts:
    return dataclasses.replace(facts, digest=content(root, download))


@lru_cache(maxsize=16)
def _from_files(folder: FolderSet, root: Path, test_only: bool) -> DatasetFacts:
    content = folder_content(folder, root, test_only=test_only)
    listing = content.listing
    train = validation = 0
    # Without training files the test split alone was listed.
    if len(listing.train):
        validation = listing.validation_images(folder.expected.validation_images if folder.expected else None)
        # Without a folder of its own, the validation split is still among the training files.
        train = len(listing.train) - (validation if listing.validation is None else 0)
    counted = Expected(
        num_classes=len(listing.train.class_names),
        train_images=train,
        validation_images=validation,
        test_images=len(listing.test),
    )
    facts = _facts(folder, counted, digest=content.digest, class_names=listing.train.class_names)
    return dataclasses.replace(facts, left_out=left_out_words(listing.left_out), repeated_test_images=content.repeated)


_LOOK_AGAIN_SECONDS = 60.0
_looked: dict[tuple[FolderSet, Path, bool], tuple[float, FolderContent]] = {}


def folder_content(folder: FolderSet, root: Path, *, test_only: bool = False) -> FolderContent:
    """Return the files of a folder set, or those of its test split, with their digest, at most a minute old.

    A process that runs many trials on the same files would otherwise spend its time looking; one that never looked
    again would train on files that have changed. A digest that is not that of the facts is refused when it is opened.

    Raises:
        DatasetError: The folder is missing or not laid out as it must be, or files in it are no pictures.
    """
    key, time_now = (folder, root.absolute(), test_only), time.monotonic()
    looked, content = _looked.get(key, (0.0, None))
    if content is None or time_now - looked > _LOOK_AGAIN_SECONDS:
        content = folder.read(root.absolute(), test_only=test_only)
        # Only the last folder is kept: a listing of a million files takes much memory.
        _looked.clear()
        _looked[key] = (time.monotonic(), content)
    return content


def forget_folders() -> None:
    """Forget the files of all folders. A command does this when it begins, as they may have changed since."""
    _from_files.cache_clear()
    _looked.clear()


def _facts(folder: FolderSet, counts: Expected, *, digest: str | None, class_names: tuple[str, ...]) -> DatasetFacts:
    return DatasetFacts(
        name=folder.name,
        title=folder.title,
        channels=3,
        image_size=folder.image_size,
        digest=digest,
        class_names=class_names,
        source=folder.source,
        licence=folder.licence,
        **dataclasses.asdict(counts),
    )


def _refuse_duplicate(name: str) -> None:
    if name in DATASETS or name in FOLDERS:
        raise DatasetError(f"data set {name!r} is registered twice; choose another name for the second one")


# Registered through the functions that plug-ins use, so that double names are refused here too.
for _in_memory in IN_MEMORY:
    register_dataset(_in_memory)
for _folder_set in FOLDER_SETS:
    register_folder_set(_folder_set)

BUILT_IN = frozenset((*DATASETS, *FOLDERS))
"""The names that are the project's own, whatever plug-ins add."""
