"""Another split of a data set's training and validation images: which images are exchanged, and what stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ablations.errors import SpecError
from runners.data import BatchSettings, Dataset, MemorySource, SplitSizes, open_batches, register_source
from runners.data.splits import drawn_validation


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize(
    ("train", "validation"), [((8, 8, 8), (3, 3, 3)), ((9, 1, 4), (2, 5, 1)), ((5, 0, 7), (4, 1, 1))]
)
def test_a_drawn_split_exchanges_images_at_their_places(
    train: tuple[int, ...], validation: tuple[int, ...], seed: int
) -> None:
    train_labels, validation_labels = (np.repeat(np.arange(3), counts)[::-1].copy() for counts in (train, validation))
    labels = np.concatenate([train_labels, validation_labels])
    train_index, validation_index = drawn_validation(train_labels, validation_labels, seed, 3)
    assert sorted([*train_index, *validation_index]) == list(range(len(labels)))
    assert (len(train_index), len(validation_index)) == (len(train_labels), len(validation_labels))
    stays = train_index < len(train_labels)
    assert (train_index[stays] == np.flatnonzero(stays)).all()
    # As balanced as the images allow: no class could give up one for another that has two fewer.
    counts, all_counts = np.bincount(labels[validation_index], minlength=3), np.bincount(labels, minlength=3)
    for low, high in ((a, b) for a in range(3) for b in range(3)):
        assert counts[high] - counts[low] <= 1 or counts[low] == all_counts[low]
    if train == (8, 8, 8):
        assert (labels[train_index] == train_labels).all()


def test_every_image_validates_under_some_seed(tiny: Dataset) -> None:
    drawn = [
        drawn_validation(tiny.train.labels.numpy(), tiny.validation.labels.numpy(), seed, 3)[1] for seed in range(60)
    ]
    counts = np.bincount(np.concatenate(drawn), minlength=len(tiny.train) + len(tiny.validation))
    assert counts.min() > 0


def test_a_source_in_memory_has_the_statistics_of_its_training_images(tiny: Dataset) -> None:
    source = MemorySource(tiny, BatchSettings(batch_size=4), SplitSizes(split_seed=5))
    mean, std = source._dataset.mean, source._dataset.std
    pixels = source._dataset.train.images.double() / 255
    assert torch.allclose(mean.double(), pixels.mean((0, 2, 3)))
    assert torch.allclose(std.double(), pixels.std((0, 2, 3), correction=0))
    assert not torch.equal(mean, tiny.mean)
    assert source.digest == tiny.digest


@pytest.mark.usefixtures("own_registries")
def test_a_reader_of_ones_own_refuses_another_split() -> None:
    register_source("of my own", version=1)(lambda *args, **keywords: None)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"data\.split_seed = 3 asks for other validation images"):
        open_batches("of my own", BatchSettings(batch_size=4), sizes=SplitSizes(split_seed=3))
