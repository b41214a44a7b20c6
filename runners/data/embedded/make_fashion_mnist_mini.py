"""This script makes `fashion_mnist_mini.xz` and its `.sha256` from Fashion-MNIST's four files, always the same bytes.

Run from the project's folder, with Debian's `dataset-fashion-mnist` installed:

    python -m runners.data.embedded.make_fashion_mnist_mini --out runners/data/embedded/fashion_mnist_mini.xz
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ablations.datasets.registry import facts_of
from ablations.errors import AblationError
from runners.data.hashing import Int64Array, balanced_choice
from runners.data.readers.fashion_mnist import DEBIAN_FOLDER, TEST_FILES, TRAIN_FILES, read_pair
from runners.data.readers.fashion_mnist_mini import StripSplit, encode_strip
from runners.data.splits import Split
from runners.seeding import derive_key

SEED = 2020  # the year of the paper; any number would do, as long as it stays


def draw_strip(source: Path) -> dict[str, StripSplit]:
    """Draw the three class-balanced splits from the files in `source`.

    Raises:
        DatasetError: A file is missing or corrupt.
    """
    facts = facts_of("fashion_mnist_mini")
    pool, test_pool = read_pair(source, TRAIN_FILES), read_pair(source, TEST_FILES)
    count = facts.train_images + facts.validation_images
    # Validation is drawn from the images that were drawn for both, so no image is in two splits.
    pool_index = _draw(pool, np.arange(len(pool)), count, "training pool")
    validation = _draw(pool, pool_index, facts.validation_images, "validation")
    test = _draw(test_pool, np.arange(len(test_pool)), facts.test_images, "test")
    return {
        "train": _take(pool, np.setdiff1d(pool_index, validation)),
        "validation": _take(pool, validation),
        "test": _take(test_pool, test),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the two files, print their contents, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=DEBIAN_FOLDER, help="folder of the four files (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the .xz file to write")
    options = parser.parse_args(arguments)
    try:
        splits = draw_strip(options.source)
        packed = encode_strip(splits)
        digest = hashlib.sha256(packed).hexdigest()
        options.out.write_bytes(packed)
        options.out.with_suffix(".sha256").write_text(f"{digest}  {options.out.name}\n", encoding="ascii")
    except (AblationError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for name, split in splits.items():
        sys.stdout.write(f"{name}: {len(split.labels):,} images, per class {np.bincount(split.labels).tolist()}\n")
    sys.stdout.write(f"{options.out}: {len(packed):,} bytes from {options.source}, seed {SEED}\nSHA-256 {digest}\n")
    return 0


def _draw(pool: Split, candidates: Int64Array, count: int, purpose: str) -> Int64Array:
    # A key for each purpose: the three draws are independent of each other.
    key = derive_key("fashion_mnist_mini", purpose, SEED)
    return candidates[balanced_choice(pool.labels.numpy()[candidates], count, key, 10)]


def _take(pool: Split, index: Int64Array) -> StripSplit:
    return StripSplit(
        images=pool.images.numpy()[index],
        labels=pool.labels.numpy()[index].astype(np.uint8),
        source_index=index.astype(np.uint32),
    )


if __name__ == "__main__":
    sys.exit(main())
