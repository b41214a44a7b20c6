"""This module reads Fashion-MNIST into memory, from the user's folder, Debian's package or torchvision's download.

Source: Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747. The digests are those of the publisher's files, unpacked.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError
from runners.data.readers.folders import DOWNLOAD_ROOT, find_folder, lack
from runners.data.readers.idx import ENDINGS, IdxFile, read_idx
from runners.data.registry import register_loader
from runners.data.splits import Dataset, Split, hold_out, make_dataset
from runners.seeding import derive_key

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_TITLE = "Fashion-MNIST"

TRAIN_FILES = (
    IdxFile(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
)
TEST_FILES = (
    IdxFile(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


@register_loader("fashion_mnist")
def load_fashion_mnist(facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
    """Read Fashion-MNIST and split the validation images off its training set.

    Raises:
        DatasetError: It is nowhere, incomplete or corrupt, or cannot be downloaded.
    """
    folder = find_fashion_mnist(root, download=download)
    pool, test = read_pair(folder, TRAIN_FILES), read_pair(folder, TEST_FILES)
    key = derive_key("fashion_mnist validation split", 1)
    train, validation = hold_out(pool, facts.validation_images, key=key, num_classes=facts.num_classes)
    return make_dataset(facts, train=train, validation=validation, test=test)


def find_fashion_mnist(root: Path | None, *, download: bool) -> Path:
    """Return the first folder that holds any of the four files: `root`, Debian's, torchvision's.

    Raises:
        DatasetError: There is none, or it lacks one of the four.
    """
    target = root or DOWNLOAD_ROOT
    folders = [DEBIAN_FOLDER, target / "FashionMNIST" / "raw"]
    if root is not None:
        # What the user names comes first; a copy elsewhere is no reason to ignore it.
        folders.insert(0, root)
    return find_folder(
        _TITLE,
        [file.stem for file in (*TRAIN_FILES, *TEST_FILES)],
        folders,
        endings=ENDINGS,
        remedies=_remedies(),
        download=download,
        fetch=partial(_download, target),
    )


def read_pair(folder: Path, files: tuple[IdxFile, IdxFile]) -> Split:
    """Read images (N, 28, 28) and labels (N,) of one part; the split's images are (N, 1, 28, 28).

    Raises:
        DatasetError: A file is missing or corrupt.
    """
    arrays = []
    for file in files:
        path = file.find(folder)
        if path is None:
            raise lack(_TITLE, [file.stem], folder, ENDINGS, _remedies())
        arrays.append(read_idx(path, file))
    images, labels = arrays
    # Copied, because arrays from a file are read-only.
    return Split(torch.from_numpy(images[:, None].copy()), torch.from_numpy(labels.astype(np.int64)))


def _download(target: Path) -> None:
    from torchvision import datasets

    try:
        # The class downloads all four files, whichever part it is asked for.
        datasets.FashionMNIST(str(target), train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"{_TITLE} could not be downloaded to {target}: {error}. {_remedies()}") from error


def _remedies() -> str:
    return (
        "What to do: give the folder that holds its files as data.root, or `apt install dataset-fashion-mnist` "
        f"(puts them in {DEBIAN_FOLDER}), or let torchvision download it with data.download=true."
    )
