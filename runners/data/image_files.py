"""Lists the image files of `train/<class>/*` and `val/<class>/*`, splits them and names them by a digest.

Nothing here opens an image; see `runners.data.image_folder` for that. Legend: N files.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablations.datasets import DatasetFacts
from ablations.errors import DatasetError
from runners.data.hashing import Int64Array, balanced_choice, derive_key

EXTENSIONS = (".jpeg", ".jpg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class FileList:
    """Image files of one split.

    Attributes:
        root: The data set's folder.
        paths: (N,) paths below `root`, with forward slashes, sorted.
        sizes: (N,) bytes.
        labels: (N,) class of each file.
        class_names: Names of the class folders, sorted; a label is a position in it.
    """

    root: Path
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def take(self, index: Int64Array) -> FileList:
        """Returns the files at the positions `index`, in that order."""
        paths, sizes, labels = (
            tuple(column[i] for i in index.tolist()) for column in (self.paths, self.sizes, self.labels)
        )
        return FileList(self.root, paths, sizes, labels, self.class_names)


def scan_folders(root: Path, facts: DatasetFacts) -> tuple[FileList, FileList]:
    """Lists the files below `train` and `val`.

    Raises:
        DatasetError: A folder is missing or unreadable, a class is empty, or the classes are not those expected.
    """
    pool, test = (_scan_split(root, part, facts) for part in ("train", "val"))
    if pool.class_names != test.class_names:
        odd = sorted(set(pool.class_names) ^ set(test.class_names))
        raise DatasetError(
            f"{root / 'train'} and {root / 'val'} must have the same class folders; only one of them has "
            f"{', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}"
        )
    return pool, test


def split_off_validation(pool: FileList, facts: DatasetFacts) -> tuple[FileList, FileList]:
    """Splits `facts.validation_images` class-balanced files off the training files; returns (train, validation).

    The choice depends on the listing alone, so that it is the same on every machine that has the same files.

    Raises:
        DatasetError: No file would be left to train on.
    """
    if facts.validation_images >= len(pool.paths):
        raise DatasetError(
            f"{pool.root / 'train'} holds {len(pool.paths)} images; {facts.validation_images} of them are to be "
            "the validation split, so more are needed"
        )
    key = derive_key("image folder validation split", 1)
    held = balanced_choice(np.asarray(pool.labels), facts.validation_images, key, len(pool.class_names))
    return pool.take(np.setdiff1d(np.arange(len(pool.paths)), held)), pool.take(held)


def listing_digest(*lists: FileList) -> str:
    """Returns the SHA-256 of all files' sorted paths and sizes, which shows a file added, removed or resized."""
    entries = sorted((path, size) for files in lists for path, size in zip(files.paths, files.sizes, strict=True))
    total = hashlib.sha256()
    for path, size in entries:
        total.update(f"{path}\0{size}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def _scan_split(root: Path, part: str, facts: DatasetFacts) -> FileList:
    folder = root / part
    try:
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        found = [_scan_class(folder / name) for name in classes]
    except OSError as error:
        raise DatasetError(
            f"data set {facts.name!r}: {error.filename} cannot be read ({error.strerror}). It needs a folder with "
            "train/<class>/ and val/<class>/ of image files; give it as data.root"
        ) from error
    if len(classes) != facts.num_classes:
        raise DatasetError(f"{folder} has {len(classes)} class folders, expected {facts.num_classes}")
    empty = [name for name, files in zip(classes, found, strict=True) if not files]
    if empty:
        raise DatasetError(
            f"{folder / empty[0]} has no image file ({', '.join(EXTENSIONS)}); {len(empty)} class folders of "
            f"{len(classes)} are empty"
        )
    rows = [
        (f"{part}/{name}/{file}", size, label)
        for label, (name, files) in enumerate(zip(classes, found, strict=True))
        for file, size in files
    ]
    paths, sizes, labels = zip(*rows, strict=True)
    return FileList(root, paths, sizes, labels, tuple(classes))


def _scan_class(folder: Path) -> list[tuple[str, int]]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, entry.stat().st_size)
            for entry in entries
            if entry.name.lower().endswith(EXTENSIONS) and entry.is_file()
        )
