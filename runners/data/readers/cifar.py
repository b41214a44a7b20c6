"""This module reads CIFAR-10 and CIFAR-100 into memory, from the user's folder or torchvision's download.

It reads the "python version": pickles, each checked against the publisher's MD5 and then opened by
`runners.data.readers.safe_pickle`, which executes nothing. Source: Krizhevsky, 2009, Learning Multiple Layers of
Features from Tiny Images; https://www.cs.toronto.edu/~kriz/cifar.html. Legend: N images.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError
from runners.data.readers.folders import DOWNLOAD_ROOT, find_folder
from runners.data.readers.safe_pickle import read_plain_pickle
from runners.data.registry import register_loader
from runners.data.splits import Dataset, Split, hold_out, make_dataset
from runners.seeding import derive_key

_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class CifarFiles:
    """The files of one of the two data sets.

    Attributes:
        folder: Name of the folder that its archive unpacks to.
        train, test: File name → MD5 of the file, in the order of the images.
        labels: Key of the labels in a file.
        torchvision: Name of torchvision's class, for the download.
    """

    folder: str
    train: dict[str, str]
    test: dict[str, str]
    labels: bytes
    torchvision: str

    @property
    def digest(self) -> str:
        """SHA-256 of names and MD5 sums, which names the content, because no other files are read."""
        # The order of the files is that of the images, so it is part of the content.
        lines = "".join(f"{name} {md5}\n" for name, md5 in (*self.train.items(), *self.test.items()))
        return hashlib.sha256(lines.encode("ascii")).hexdigest()


# MD5 sums of the publisher, as torchvision lists them.
FILES = {
    "cifar10": CifarFiles(
        folder="cifar-10-batches-py",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        labels=b"labels",
        torchvision="CIFAR10",
    ),
    "cifar100": CifarFiles(
        folder="cifar-100-python",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        labels=b"fine_labels",
        torchvision="CIFAR100",
    ),
}


@register_loader("cifar10")
@register_loader("cifar100")
def load_cifar(facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
    """Read the data set that `facts` name and split the validation images off its training set.

    Raises:
        DatasetError: It is nowhere, incomplete or corrupt, or cannot be downloaded.
    """
    files = FILES[facts.name]
    folder = find_cifar(facts, root, download=download)
    pool = _read_split(folder, files.train, files.labels, facts)
    test = _read_split(folder, files.test, files.labels, facts)
    key = derive_key(f"{facts.name} validation split", 1)
    train, validation = hold_out(pool, facts.validation_images, key=key, num_classes=facts.num_classes)
    return make_dataset(facts, train=train, validation=validation, test=test, digest=files.digest)


def find_cifar(facts: DatasetFacts, root: Path | None, *, download: bool) -> Path:
    """Return the first folder that holds any of the files: `root`, or the one an archive in it unpacks to.

    Raises:
        DatasetError: There is none, or it lacks a file.
    """
    files, target = FILES[facts.name], root or DOWNLOAD_ROOT
    folders = [target / files.folder]
    if root is not None:
        folders.insert(0, root)
    return find_folder(
        facts.title,
        (*files.train, *files.test),
        folders,
        remedies=_remedies(facts),
        download=download,
        fetch=partial(_download, facts, target),
    )


def read_batch(path: Path, md5: str, labels_key: bytes, num_classes: int) -> Split:
    """Read one file of N images with their labels; images are (N, 3, 32, 32).

    Raises:
        DatasetError: The file is missing, has another MD5 sum, or does not hold images with labels.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    # MD5 is what the publisher gives, and shows a torn file; a forged one is left to the unpickler.
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != md5:
        raise DatasetError(
            f"{path} is corrupt: expected MD5 {md5}, found {digest} in {len(content):,} bytes. Remove the file and "
            "fetch it again."
        )
    try:
        return _to_split(read_plain_pickle(content), labels_key, num_classes)
    except (pickle.UnpicklingError, ValueError) as error:
        raise DatasetError(f"{path} is no batch of CIFAR images: {error}. Fetch it again.") from error


def _to_split(batch: dict[bytes, Any], labels_key: bytes, num_classes: int) -> Split:
    images, labels = batch.get(b"data"), batch.get(labels_key)
    # The unpickler lets plain data and arrays through, of any shape.
    if not isinstance(images, np.ndarray) or images.shape[1:] != (math.prod(_SHAPE),):
        raise ValueError(f"its data are no array of N rows of {math.prod(_SHAPE):,} pixels")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise ValueError(f"its {labels_key.decode()} are no list of numbers")
    if len(labels) != len(images):
        raise ValueError(f"it has {len(images)} images and {len(labels)} labels")
    if labels and not 0 <= min(labels) <= max(labels) < num_classes:
        raise ValueError(f"its labels run from {min(labels)} to {max(labels)}, expected 0 to {num_classes - 1}")
    # A row holds the red plane, then green and blue; copied, because arrays from a file are read-only.
    pixels = images.reshape(len(images), *_SHAPE).copy()
    return Split(torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64))


def _read_split(folder: Path, checksums: dict[str, str], labels_key: bytes, facts: DatasetFacts) -> Split:
    batches = [read_batch(folder / name, md5, labels_key, facts.num_classes) for name, md5 in checksums.items()]
    return Split(torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches]))


def _download(facts: DatasetFacts, target: Path) -> None:
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    # Not through the class itself: its constructor unpickles without restriction.
    dataset_class = getattr(datasets, FILES[facts.name].torchvision)
    try:
        download_and_extract_archive(
            dataset_class.url, str(target), filename=dataset_class.filename, md5=dataset_class.tgz_md5
        )
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"{facts.title} could not be downloaded to {target}: {error}. {_remedies(facts)}") from error


def _remedies(facts: DatasetFacts) -> str:
    return (
        f"What to do: give the folder that holds {FILES[facts.name].folder} (the python version) as data.root, or let "
        "torchvision download it with data.download=true."
    )
