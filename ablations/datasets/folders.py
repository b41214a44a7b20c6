"""This module lists the image files of a data set in folders, one function per layout, and counts unused files.

Only names are read here. `ablations.datasets.folder_contents` reads the files, `runners.data.readers.image_folder`
decodes them for batches. No torch is needed. Legend: N files.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ablations.errors import DatasetError

EXTENSIONS = (
    ".apng",
    ".bmp",
    ".dib",
    ".gif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
)
"""The endings of image files, in small or capital letters: those of torchvision, and other common ones."""

SYSTEM_NAMES = frozenset(
    (
        "__macosx",
        "__pycache__",
        "@eadir",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    )
)
"""Files and folders that systems leave behind, in small letters, beside all whose names begin with a dot."""

TENTH = 10
"""Without a validation folder or an agreed number, one in ten training images becomes the validation split."""

# Numbers of kinds of unused files, and of classes, that a message names.
_MOST_KINDS = 5
_MOST_CLASSES = 5


@dataclass(frozen=True)
class FileList:
    """Image files of one split.

    Attributes:
        paths: (N,) paths below `root`, with forward slashes, sorted within each class.
        labels: (N,) class of each file.
        class_names: Names of the classes, sorted; a label is a position in it.
    """

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: Iterable[int]) -> FileList:
        """Return the files at the positions `index`, in that order."""
        paths, labels = [], []
        for i in index:
            paths.append(self.paths[i])
            labels.append(self.labels[i])
        return FileList(self.root, tuple(paths), tuple(labels), self.class_names)


@dataclass(frozen=True)
class Listing:
    """The files of a data set as its folders give them.

    Attributes:
        train: Training files; the validation split is still among them if there is no folder for it.
        validation: Validation files, or None if they have to be split off `train`.
        left_out: The number of unused entries by kind, such as `.txt`.
    """

    train: FileList
    validation: FileList | None
    test: FileList
    left_out: Counter[str] = field(default_factory=Counter)

    def splits(self) -> tuple[FileList, ...]:
        """Return the file lists of training, validation (if there is a folder for it) and test."""
        if self.validation is None:
            return self.train, self.test
        return self.train, self.validation, self.test

    def validation_images(self, agreed: int | None) -> int:
        """Return the size of the validation split: of its folder, or as agreed, or a tenth of the training files.

        Raises:
            DatasetError: No file would be left to train on.
        """
        if self.validation is not None:
            return len(self.validation)
        # At least one, or a set of a handful of images would have nothing to select by.
        count = agreed or max(1, round(len(self.train) / TENTH))
        check_validation_share(self.train, count)
        return count


def left_out_words(left_out: Counter[str]) -> str:
    """Return unused entries in words: `left out: 3 × .txt, 1 × hidden or system file`; "" if there are none."""
    if not left_out:
        return ""
    # The most frequent first, and by name where there are as many: the same folder must give the same text.
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    counts = [f"{count:,} × {kind}" for kind, count in kinds[:_MOST_KINDS]]
    remainder = sum(count for _, count in kinds[_MOST_KINDS:])
    if remainder:
        counts.append(f"{remainder:,} × other kinds")
    return f"left out: {', '.join(counts)}"


def printable(text: str) -> str:
    """Return a file's name as a terminal can show it: line breaks, control characters and stray bytes are escaped."""
    escaped = ""
    for letter in text:
        escaped += letter if letter.isprintable() else ascii(letter)[1:-1]
    return escaped


def check_validation_share(pool: FileList, count: int) -> None:
    """Raise `DatasetError` if splitting `count` files off the training files leaves none to train on."""
    if count >= len(pool):
        raise DatasetError(
            f"{pool.root / 'train'} holds {len(pool)} images; {count} of them are to be the validation split, so "
            "more are needed"
        )


def list_train_val(root: Path, name: str, num_classes: int | None) -> Listing:
    """List `train/<class>/*` and `val/<class>/*`; `val` is the test split, as for ImageNet.

    Raises:
        DatasetError: A folder is missing or unreadable, a class is empty, or the classes are not those expected.
    """
    layout = "train/<class>/ and val/<class>/"
    left_out: Counter[str] = Counter()
    train = _list_split(root, "train", name, layout, num_classes, left_out)
    test = _list_split(root, "val", name, layout, num_classes, left_out)
    _check_same_classes(train, test)
    return Listing(train, None, test, left_out)


def list_image_folder(root: Path, name: str, num_classes: int | None) -> Listing:
    """List `train/<class>/*`, and `val/<class>/*` and `test/<class>/*` where they are.

    Without `test` the folder `val` is the test split, as for ImageNet, and the validation split comes from the
    training files; it does too where there is `test` but no `val`.

    Raises:
        DatasetError: There is neither `test` nor `val`; a folder is unreadable, a class is empty, or classes differ.
    """
    layout = "train/<class>/ and test/<class>/ (or val/<class>/)"
    left_out: Counter[str] = Counter()
    train = _list_split(root, "train", name, layout, num_classes, left_out)
    held_out = []
    for split in ("val", "test"):
        if (root / split).is_dir():
            held_out.append(_list_split(root, split, name, layout, num_classes, left_out))
    if not held_out:
        raise DatasetError(
            f"data set {name!r}: {root} has neither test nor val beside train, so there is nothing to measure on. "
            "Move images of every class, a tenth of them for example, from train/<class>/ to test/<class>/"
        )
    for files in held_out:
        _check_same_classes(train, files)
    # A single folder is what is measured on; a split that selects must never be the same one.
    if len(held_out) == 1:
        return Listing(train, None, held_out[0], left_out)
    validation, test = held_out
    return Listing(train, validation, test, left_out)


def list_tiny_imagenet(root: Path, name: str, num_classes: int | None) -> Listing:
    """List Tiny ImageNet as it is unpacked; its official validation set is the test split.

    `root` holds `wnids.txt`, `train/<wnid>/images/*` and `val/images/*` with `val/val_annotations.txt`, or holds the
    folder `tiny-imagenet-200` that does.

    Raises:
        DatasetError: A file or folder is missing or unreadable, or an image has no class or an unknown one.
    """
    left_out: Counter[str] = Counter()
    # The folder in which the archive was unpacked will do as well.
    inner = root / "tiny-imagenet-200"
    if inner.is_dir():
        root = inner
    try:
        wnids = (root / "wnids.txt").read_text(encoding="utf-8", errors="replace").split()
        # Sorted, as labels are positions in this tuple and the file is in no useful order.
        classes = tuple(sorted(set(wnids)))
        folders = {}
        for wnid in classes:
            folders[f"train/{wnid}/images"] = _list_images(root, f"train/{wnid}/images", left_out)
        images = _list_images(root, "val/images", left_out)
        notes = (root / "val" / "val_annotations.txt").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        layout = "wnids.txt, train/<wnid>/images/, val/images/ and val/val_annotations.txt, as its archive has them"
        raise _unreadable(name, error, layout) from error
    if num_classes not in (None, len(classes)):
        raise DatasetError(f"{root / 'wnids.txt'} names {len(classes)} classes, expected {num_classes}")
    train = _file_list(root, classes, folders, left_out)
    return Listing(train, None, _annotated(root, classes, images, notes), left_out)


def _annotated(root: Path, classes: tuple[str, ...], images: list[str], notes: str) -> FileList:
    labels_by_wnid = {wnid: label for label, wnid in enumerate(classes)}
    wnids: dict[str, str] = {}
    for line in notes.splitlines():
        # Columns: file name, class, and a bounding box, which is not used.
        columns = line.split("\t")
        if len(columns) > 1:
            wnids[columns[0]] = columns[1]
    labels, unknown = [], []
    for path in images:
        name = path.removeprefix("val/images/")
        wnid = wnids.get(name)
        if wnid in labels_by_wnid:
            labels.append(labels_by_wnid[wnid])
        else:
            unknown.append(name)
    if unknown:
        raise DatasetError(
            f"{root / 'val' / 'val_annotations.txt'} gives {unknown[0]!r} the class {wnids.get(unknown[0])!r}, which "
            f"is not in wnids.txt; {len(unknown)} of {len(images)} images have no known class. Unpack the archive again"
        )
    if not images:
        raise DatasetError(f"{root / 'val' / 'images'} has no image file ({', '.join(EXTENSIONS)})")
    return FileList(root, tuple(images), tuple(labels), classes)


def _list_split(
    root: Path, split: str, name: str, layout: str, num_classes: int | None, left_out: Counter[str]
) -> FileList:
    folder = root / split
    try:
        classes = _class_folders(folder, left_out)
        folders = {}
        for class_name in classes:
            folders[f"{split}/{class_name}"] = _list_images(root, f"{split}/{class_name}", left_out)
    except OSError as error:
        raise _unreadable(name, error, f"{layout} of image files") from error
    _check_class_names(folder, classes)
    if num_classes not in (None, len(classes)):
        raise DatasetError(f"{folder} has {len(classes)} class folders, expected {num_classes}")
    if not classes:
        raise DatasetError(f"{folder} has no class folder; data set {name!r} needs {layout} of image files")
    return _file_list(root, tuple(classes), folders, left_out)


def _class_folders(folder: Path, left_out: Counter[str]) -> list[str]:
    """Return the names of the class folders, sorted, and count what lies beside them."""
    classes = []
    with os.scandir(folder) as entries:
        for entry in entries:
            kind = _system_kind(entry)
            if kind:
                left_out[kind] += 1
            elif entry.is_dir():
                classes.append(entry.name)
            # Counted apart from other files: images beside the class folders are mostly a mistake.
            elif _is_image(entry.name):
                left_out["image in no class folder"] += 1
            else:
                left_out[_extension(entry.name)] += 1
    return sorted(classes)


def _check_class_names(folder: Path, classes: list[str]) -> None:
    for class_name in classes:
        # Surrogates stand for bytes that are no UTF-8, which no table or tracking store could take.
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in class_name):
            raise DatasetError(
                f"the class folder {printable(class_name)} in {folder} has control characters, or bytes that are no "
                "UTF-8, in its name, which reports print. Rename it"
            )


def _file_list(
    root: Path, classes: tuple[str, ...], folders: Mapping[str, list[str]], left_out: Counter[str]
) -> FileList:
    """Return the files of a split, given those of each class folder in the order of the classes."""
    empty = [folder for folder, files in folders.items() if not files]
    if empty:
        message = (
            f"{root / empty[0]} has no image file ({', '.join(EXTENSIONS)}); {len(empty)} class folders of "
            f"{len(classes)} are empty"
        )
        if left_out:
            message += f" ({left_out_words(left_out)})"
        raise DatasetError(message)
    paths: list[str] = []
    labels: list[int] = []
    for label, files in enumerate(folders.values()):
        paths += files
        labels += [label] * len(files)
    return FileList(root, tuple(paths), tuple(labels), classes)


def _list_images(root: Path, folder: str, left_out: Counter[str]) -> list[str]:
    """Return the image files below a folder, however deep, as paths below `root`, sorted; count what is left out.

    Raises:
        OSError: A folder cannot be read.
    """
    # The order of a directory differs between file systems, and that of a training must not.
    return sorted(_walk(root, folder, left_out, frozenset()))


def _walk(root: Path, folder: str, left_out: Counter[str], above: frozenset[tuple[int, int]]) -> Iterator[str]:
    # Links are followed, so a link to a folder above would never end; device and inode recognise it.
    status = os.stat(root / folder)
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        left_out["link to a folder around it"] += 1
        return
    with os.scandir(root / folder) as entries:
        for entry in entries:
            path, kind = f"{folder}/{entry.name}", _system_kind(entry)
            if kind:
                left_out[kind] += 1
            elif entry.is_dir():
                yield from _walk(root, path, left_out, above | {identity})
            elif not _is_image(entry.name):
                left_out[_extension(entry.name)] += 1
            elif entry.is_file() or entry.is_symlink():
                # A link that leads nowhere is an image that is missing, which reading it will say.
                yield path
            else:
                left_out["pipe, socket or device"] += 1


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _system_kind(entry: os.DirEntry[str]) -> str:
    """Return the kind of a hidden file or of one that a system has left behind, or "" for any other."""
    if not entry.name.startswith(".") and entry.name.lower() not in SYSTEM_NAMES:
        return ""
    return "hidden or system folder" if entry.is_dir() else "hidden or system file"


def _extension(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return printable(suffix) or "file without extension"


def _check_same_classes(train: FileList, held_out: FileList) -> None:
    if train.class_names == held_out.class_names:
        return
    unmatched = sorted(set(train.class_names) ^ set(held_out.class_names))
    listed = ", ".join(unmatched[:_MOST_CLASSES])
    if len(unmatched) > _MOST_CLASSES:
        listed += " …"
    # Paths begin with the folder of their split.
    split = held_out.paths[0].partition("/")[0]
    raise DatasetError(
        f"{train.root / 'train'} and {train.root / split} must have the same class folders; only one of them has "
        f"{listed}"
    )


def _unreadable(name: str, error: OSError, layout: str) -> DatasetError:
    return DatasetError(
        f"data set {name!r}: {error.filename} cannot be read ({error.strerror}). It needs a folder with {layout}; "
        "give it as data.root"
    )
