"""The embedded data set: a class-balanced part of Fashion-MNIST that comes with the code.

The file, its digest, its licence and the script that made it are in `runners/data/embedded`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError
from runners.data.readers.strip import StripSplit, decode_strip
from runners.data.registry import register_loader
from runners.data.splits import Dataset, Split, make_dataset

EMBEDDED_FILE = Path(__file__).parent.parent / "embedded" / "fashion_mnist_mini.xz"
_REMEDY = "It is part of this project: get it again with `git checkout` or by installing the package again."


@register_loader("fashion_mnist_mini")
def load_fashion_mnist_mini(facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
    """Reads the embedded images; `root` and `download` have no say, the file is where the code is.

    Raises:
        DatasetError: The file is missing or corrupt.
    """
    splits = {name: _to_split(part) for name, part in read_embedded(EMBEDDED_FILE).items()}
    return make_dataset(facts, train=splits["train"], validation=splits["validation"], test=splits["test"])


def read_embedded(path: Path) -> dict[str, StripSplit]:
    """Reads a strip after holding it against the digest in the `.sha256` file beside it.

    Returns:
        The splits `train`, `validation` and `test` with each image's index in Fashion-MNIST's training or test set.

    Raises:
        DatasetError: A file is missing, or the strip is corrupt; the message names expected and found SHA-256.
    """
    try:
        packed = path.read_bytes()
        expected = path.with_suffix(".sha256").read_text(encoding="ascii", errors="replace").partition(" ")[0]
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}. {_REMEDY}") from error
    found = hashlib.sha256(packed).hexdigest()
    if found != expected:
        raise DatasetError(f"{path} is corrupt: expected SHA-256 {expected}, found {found}. {_REMEDY}")
    try:
        return decode_strip(packed)
    except ValueError as error:
        raise DatasetError(f"{path} (SHA-256 {found}) is not an image strip: {error}. {_REMEDY}") from error


def _to_split(part: StripSplit) -> Split:
    return Split(torch.from_numpy(part.images.copy()), torch.from_numpy(part.labels.astype(np.int64)))
