"""Digits: scikit-learn's images, scaled exactly, in the registered splits; and what is said when it is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ablations.errors import DatasetError
from runners.data import load_dataset
from runners.data.readers.digits import to_images


def test_the_splits_are_scikit_learns_images_each_once() -> None:
    dataset, original = load_dataset("digits"), load_digits()
    assert dataset.digest == dataset.facts.digest
    found = sorted(
        (np.rint(image[0, ::2, ::2].numpy() / 255 * 16).astype(int).tobytes(), int(label))
        for _, split in dataset.splits()
        for image, label in zip(split.images, split.labels, strict=True)
    )
    wanted = sorted(
        (image.astype(int).tobytes(), int(label)) for image, label in zip(original.images, original.target, strict=True)
    )
    assert found == wanted
    assert [len(split) for _, split in dataset.splits()] == [1197, 200, 400]
    assert [split.labels.bincount().tolist() for _, split in dataset.splits()][1:] == [[20] * 10, [40] * 10]


def test_a_pixel_becomes_four_and_black_and_white_stay_what_they_are() -> None:
    image = to_images(np.array([[[0.0, 16.0], [8.0, 1.0]]]))
    assert image.tolist() == [[[[0, 0, 255, 255], [0, 0, 255, 255], [128, 128, 16, 16], [128, 128, 16, 16]]]]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DatasetError, match=r'pip install "dyconv-ablations\[digits\]"'):
        load_dataset("digits")
