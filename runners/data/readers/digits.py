"""This module reads handwritten digits from scikit-learn, an optional extra: the smallest real data set here.

Source: Alpaydin and Kaynak, 1998, doi:10.24432/C50P49 (its test part). Images have 8 x 8 pixels of 17 grey levels;
each pixel is repeated to 2 x 2, because networks that halve the resolution five times have no use for 8.
Legend: N images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError
from runners.data.registry import register_loader
from runners.data.splits import Dataset, Split, hold_out, make_dataset
from runners.seeding import derive_key

_LEVELS = 16


@register_loader("digits")
def load_digits(facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
    """Read the digits from scikit-learn's package; `root` and `download` are ignored.

    Raises:
        DatasetError: scikit-learn is not installed, or has other images than it should.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DatasetError(
            f"data set 'digits' comes with scikit-learn, which cannot be imported ({error}). What to do: install the "
            'extra, pip install "dyconv-ablations[digits]"'
        ) from error
    bunch = datasets.load_digits()
    all_digits = Split(to_images(bunch.images), torch.from_numpy(bunch.target.astype(np.int64)))
    remaining, test = _hold_out(all_digits, facts.test_images, "test", facts)
    train, validation = _hold_out(remaining, facts.validation_images, "validation", facts)
    return make_dataset(facts, train=train, validation=validation, test=test)


def to_images(levels: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> torch.Tensor:
    """Return grey levels 0 to 16, (N, 8, 8), as images of 0 to 255, (N, 1, 16, 16) uint8."""
    # Rounded to the nearest of 256 levels, then each pixel repeated along both axes.
    pixels = np.rint(levels * (255 / _LEVELS)).astype(np.uint8)
    return torch.from_numpy(pixels[:, None].repeat(2, axis=2).repeat(2, axis=3))


def _hold_out(split: Split, count: int, name: str, facts: DatasetFacts) -> tuple[Split, Split]:
    key = derive_key(f"digits {name} split", 1)
    return hold_out(split, count, key=key, num_classes=facts.num_classes)
