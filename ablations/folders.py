"""Lists the image files of a data set that lies in folders, one function per layout, and names them by a digest.

File names and sizes are read, contents are not, so that `plan` can know classes, counts and digest of the user's own
files. Decoding and batches are in `runners.data.image_folder`. No torch here. Legend: N files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablations.errors import DatasetError

EXTENSIONS = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
TENTH = 10
"""Without a validation folder or an agreed number, one in ten training images becomes the validation split."""


@dataclass(frozen=True)
class FileList:
    """Image files of one split.

    Attributes:
        root: The data set's folder.
        paths: (N,) paths below `root`, with forward slashes, sorted.
        sizes: (N,) bytes.
        labels: (N,) class of each file.
        class_names: Names of the classes, sorted; a label is a position in it.
    """

    root: Path
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: Iterable[int]) -> FileList:
        """Returns the files at the positions `index`, in that order."""
        chosen = list(index)
        return FileList(
            self.root,
            tuple(self.paths[i] for i in chosen),
            tuple(self.sizes[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
            self.class_names,
        )


@dataclass(frozen=True)
class Listing:
    """The files of a data set as its folders give them.

    Attributes:
        train: Training files; the validation split is still among them if there is no folder for it.
        validation: Validation files, or None if they have to be split off `train`.
        test: Test files.
    """

    train: FileList
    validation: FileList | None
    test: FileList

    @property
    def digest(self) -> str:
        """SHA-256 of every file's path, size and class, which shows a file added, removed, moved or resized."""
        total = hashlib.sha256()
        for entry in sorted(self._entries()):
            total.update(entry.encode(errors="surrogateescape"))
        return total.hexdigest()

    def _entries(self) -> Iterator[str]:
        for files in (self.train, self.validation, self.test):
            if files is not None:
                for path, size, label in zip(files.paths, files.sizes, files.labels, strict=True):
                    yield f"{path}\0{size}\0{files.class_names[label]}\n"

    def validation_images(self, agreed: int | None) -> int:
        """Returns the size of the validation split: of its folder, or as agreed, or a tenth of the training files.

        Raises:
            DatasetError: No file would be left to train on.
        """
        if self.validation is not None:
            return len(self.validation)
        count = agreed or max(1, round(len(self.train) / TENTH))
        check_validation_share(self.train, count)
        return count


def check_validation_share(pool: FileList, count: int) -> None:
    """Raises `DatasetError` if splitting `count` files off the training files leaves none to train on."""
    if count >= len(pool):
        raise DatasetError(
            f"{pool.root / 'train'} holds {len(pool)} images; {count} of them are to be the validation split, so "
            "more are needed"
        )


def list_train_val(root: Path, name: str, num_classes: int | None) -> Listing:
    """Lists `train/<class>/*` and `val/<class>/*`; `val` is the test split, as for ImageNet.

    Args:
        root: The data set's folder.
        name: The data set's name, for messages.
        num_classes: How many classes there must be, or None for any number.

    Raises:
        DatasetError: A folder is missing or unreadable, a class is empty, or the classes are not those expected.
    """
    layout = "train/<class>/ and val/<class>/"
    train, test = (_list_split(root, part, name, layout, num_classes) for part in ("train", "val"))
    _check_same_classes(train, test)
    return Listing(train, None, test)


def list_image_folder(root: Path, name: str, num_classes: int | None) -> Listing:
    """Lists `train/<class>/*`, and `val/<class>/*` and `test/<class>/*` where they are.

    Without `test` the folder `val` is the test split, as for ImageNet, and the validation split comes from the
    training files; it does too where there is `test` but no `val`.

    Args:
        root: The data set's folder.
        name: The data set's name, for messages.
        num_classes: How many classes there must be, or None for any number.

    Raises:
        DatasetError: There is neither `test` nor `val`; a folder is unreadable, a class is empty, or classes differ.
    """
    layout = "train/<class>/ and test/<class>/ (or val/<class>/)"
    train = _list_split(root, "train", name, layout, num_classes)
    parts = [part for part in ("val", "test") if (root / part).is_dir()]
    if not parts:
        raise DatasetError(
            f"data set {name!r}: {root} has neither test nor val beside train, so there is nothing to measure on. "
            "Move images of every class, a tenth of them for example, from train/<class>/ to test/<class>/"
        )
    others = [_list_split(root, part, name, layout, num_classes) for part in parts]
    for other in others:
        _check_same_classes(train, other)
    return Listing(train, others[0] if len(others) == 2 else None, others[-1])


def list_tiny_imagenet(root: Path, name: str, num_classes: int | None) -> Listing:
    """Lists Tiny ImageNet as it is unpacked; its official validation set is the test split.

    `root` holds `wnids.txt`, `train/<wnid>/images/*` and `val/images/*` with `val/val_annotations.txt`, or holds the
    folder `tiny-imagenet-200` that does.

    Args:
        root: The data set's folder.
        name: The data set's name, for messages.
        num_classes: How many classes there must be, or None for any number.

    Raises:
        DatasetError: A file or folder is missing or unreadable, or an image has no class or an unknown one.
    """
    inner = root / "tiny-imagenet-200"
    root = inner if inner.is_dir() else root
    try:
        classes = tuple(sorted(set((root / "wnids.txt").read_text(encoding="utf-8", errors="replace").split())))
        found = [_list_class(root / "train" / wnid / "images") for wnid in classes]
        images = _list_class(root / "val" / "images")
        notes = (root / "val" / "val_annotations.txt").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        layout = "wnids.txt, train/<wnid>/images/, val/images/ and val/val_annotations.txt, as its archive has them"
        raise _unreadable(name, error, layout) from error
    if num_classes not in (None, len(classes)):
        raise DatasetError(f"{root / 'wnids.txt'} names {len(classes)} classes, expected {num_classes}")
    folders = [f"train/{wnid}/images" for wnid in classes]
    train = _file_list(root, classes, list(zip(folders, found, strict=True)))
    return Listing(train, None, _annotated(root, classes, images, notes))


def _annotated(root: Path, classes: tuple[str, ...], images: list[tuple[str, int]], notes: str) -> FileList:
    place, numbers = root / "val" / "val_annotations.txt", {wnid: label for label, wnid in enumerate(classes)}
    wnids = {columns[0]: columns[1] for columns in (line.split("\t") for line in notes.splitlines()) if columns[1:]}
    unknown = [file for file, _ in images if wnids.get(file) not in numbers]
    if unknown:
        raise DatasetError(
            f"{place} gives {unknown[0]!r} the class {wnids.get(unknown[0])!r}, which is not in wnids.txt; "
            f"{len(unknown)} of {len(images)} images have no known class. Unpack the archive again"
        )
    if not images:
        raise DatasetError(f"{root / 'val' / 'images'} has no image file ({', '.join(EXTENSIONS)})")
    labels = tuple(numbers[wnids[file]] for file, _ in images)
    return FileList(root, tuple(f"val/images/{f}" for f, _ in images), tuple(s for _, s in images), labels, classes)


def _list_split(root: Path, part: str, name: str, layout: str, num_classes: int | None) -> FileList:
    folder = root / part
    try:
        with os.scandir(folder) as entries:
            classes = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        found = [_list_class(folder / wanted) for wanted in classes]
    except OSError as error:
        raise _unreadable(name, error, f"{layout} of image files") from error
    if num_classes not in (None, len(classes)):
        raise DatasetError(f"{folder} has {len(classes)} class folders, expected {num_classes}")
    if not classes:
        raise DatasetError(f"{folder} has no class folder; data set {name!r} needs {layout} of image files")
    return _file_list(root, tuple(classes), [(f"{part}/{c}", files) for c, files in zip(classes, found, strict=True)])


def _file_list(root: Path, classes: tuple[str, ...], folders: list[tuple[str, list[tuple[str, int]]]]) -> FileList:
    empty = [folder for folder, files in folders if not files]
    if empty:
        raise DatasetError(
            f"{root / empty[0]} has no image file ({', '.join(EXTENSIONS)}); {len(empty)} class folders of "
            f"{len(classes)} are empty"
        )
    rows = [(f"{folder}/{file}", size, label) for label, (folder, files) in enumerate(folders) for file, size in files]
    paths, sizes, labels = zip(*rows, strict=True)
    return FileList(root, paths, sizes, labels, classes)


def _list_class(folder: Path) -> list[tuple[str, int]]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name, entry.stat().st_size)
            for entry in entries
            if entry.name.lower().endswith(EXTENSIONS) and entry.is_file()
        )


def _check_same_classes(train: FileList, other: FileList) -> None:
    if train.class_names != other.class_names:
        odd = sorted(set(train.class_names) ^ set(other.class_names))
        part = other.paths[0].partition("/")[0]
        raise DatasetError(
            f"{train.root / 'train'} and {train.root / part} must have the same class folders; only one of them has "
            f"{', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}"
        )


def _unreadable(name: str, error: OSError, layout: str) -> DatasetError:
    return DatasetError(
        f"data set {name!r}: {error.filename} cannot be read ({error.strerror}). It needs a folder with {layout}; "
        "give it as data.root"
    )
