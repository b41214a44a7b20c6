"""This module defines images in memory: a split, a data set of three splits, subsets, statistics, content digest.

It reads no files and makes no batches. Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError, SpecError
from runners.data.hashing import Int64Array, balanced_choice
from runners.seeding import derive_key

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: (N, C, H, W) uint8, contiguous, on the CPU.
        labels: (N,) int64.

    Raises:
        DatasetError: Shapes or types are not those.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise DatasetError(f"images must be uint8 (N, C, H, W), found {_describe(self.images)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DatasetError(f"labels must be int64 ({len(self.images)},), found {_describe(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Normalization:
    """Per-channel statistics on the scale 0 to 1; a network gets (pixel / 255 - mean) / std.

    Attributes:
        mean: (C,) float32.
        std: (C,) float32, positive.
    """

    mean: Tensor
    std: Tensor


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in memory.

    Attributes:
        train, validation, test: The splits; no image is in two of them.
        mean, std: (C,) float32 statistics of the training split on the scale 0 to 1.
        digest: SHA-256 that names the content, as a rule `content_digest` of the splits.
    """

    facts: DatasetFacts
    train: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor
    digest: str

    @property
    def normalization(self) -> Normalization:
        """The statistics of the training split."""
        return Normalization(self.mean, self.std)

    def splits(self) -> Iterator[tuple[SplitName, Split]]:
        """Yield each split with its name."""
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test


def make_dataset(
    facts: DatasetFacts, *, train: Split, validation: Split, test: Split, digest: str | None = None
) -> Dataset:
    """Make a data set from its splits: compute statistics and digest, and check sizes and digest against the facts.

    Args:
        digest: The name of the content, if the loader knows one; None computes `content_digest`.

    Raises:
        DatasetError: Sizes, shapes, labels or the digest differ from the facts.
    """
    mean, std = channel_statistics(train.images)
    digest = digest or content_digest(train, validation, test)
    dataset = Dataset(facts=facts, train=train, validation=validation, test=test, mean=mean, std=std, digest=digest)
    _check_sizes(dataset)
    check_digest(facts, digest)
    return dataset


def check_digest(facts: DatasetFacts, digest: str) -> None:
    """Check a computed digest against the registered one, if there is one.

    Raises:
        DatasetError: They differ.
    """
    if facts.digest not in (None, digest):
        raise DatasetError(
            f"data set {facts.name!r} has other content than it should: expected SHA-256 {facts.digest}, "
            f"found {digest}. Its files or the code that splits them have changed."
        )


def subset(split: Split, count: int, *, seed: int, num_classes: int) -> Split:
    """Return `count` images of a split, class-balanced, a function of (split, count, seed) alone.

    With one seed a smaller subset is contained in a larger one. All images are returned in their own order.

    Raises:
        SpecError: `count` is less than 1 or more than there are.
    """
    if not 1 <= count <= len(split):
        raise SpecError(f"cannot take {count} images from a split of {len(split)}; give a number from 1 to that")
    # All images: the split itself, without a copy.
    if count == len(split):
        return split
    key = derive_key("subset", seed)
    index = torch.from_numpy(balanced_choice(split.labels.numpy(), count, key, num_classes))
    return Split(split.images[index], split.labels[index])


def hold_out(split: Split, count: int, *, key: int, num_classes: int) -> tuple[Split, Split]:
    """Split off `count` class-balanced images; return the remaining split and the one split off."""
    mask = torch.zeros(len(split), dtype=torch.bool)
    mask[torch.from_numpy(balanced_choice(split.labels.numpy(), count, key, num_classes))] = True
    return Split(split.images[~mask], split.labels[~mask]), Split(split.images[mask], split.labels[mask])


def drawn_validation(
    train_labels: Int64Array, validation_labels: Int64Array, seed: int, num_classes: int
) -> tuple[Int64Array, Int64Array]:
    """Draw which images of a data set validate, as many and as balanced as before; return (train, validation).

    An image that stays in training keeps its position, and one that leaves it gives its position to one of its class
    where there is one. So under one order seed, two splits show the same images at the same steps but for those that
    were exchanged.

    Args:
        train_labels: (N,) classes of the training images as the data set comes.
        validation_labels: (V,) the same of the validation images.

    Returns:
        (N,) and (V,) positions, counted through the training images and then the validation images.
    """
    count = len(train_labels)
    # The test images take no part: a result must be on the same test split under every seed.
    labels = np.concatenate([train_labels, validation_labels])
    # A key of its own: under one seed the draw must not follow the order or the initial weights.
    key = derive_key("validation split", seed)
    validation = balanced_choice(labels, len(validation_labels), key, num_classes)
    leaving = validation[validation < count]
    # As many enter as leave, since the validation split keeps its size.
    entering = np.setdiff1d(np.arange(count, len(labels)), validation)
    # Both in the order of their classes, so that the partners are of one class where the classes have equal numbers.
    leaving = leaving[np.argsort(labels[leaving], kind="stable")]
    entering = entering[np.argsort(labels[entering], kind="stable")]
    train = np.arange(count)
    train[leaving] = entering
    return train, validation


def with_drawn_validation(dataset: Dataset, seed: int) -> Dataset:
    """Return a data set whose validation images were drawn by `drawn_validation`, with its statistics.

    The digest stays: it names the content, which is the same.
    """
    train, validation = dataset.train, dataset.validation
    images, labels = torch.cat([train.images, validation.images]), torch.cat([train.labels, validation.labels])
    drawn = drawn_validation(train.labels.numpy(), validation.labels.numpy(), seed, dataset.facts.num_classes)
    train, validation = (Split(images[index], labels[index]) for index in map(torch.from_numpy, drawn))
    mean, std = channel_statistics(train.images)
    return replace(dataset, train=train, validation=validation, mean=mean, std=std)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation per channel, exact with any number of threads.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        Mean and standard deviation, each (C,) float32 on the scale 0 to 1. A channel of one value has deviation 1.
    """
    # From a histogram of the 256 values: whole numbers, whose sum does not depend on the order.
    values = np.arange(256, dtype=np.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        histogram = torch.bincount(channel.flatten(), minlength=256).numpy()
        mean = float(histogram @ values) / histogram.sum()
        means.append(mean)
        # A channel of one value would be divided by zero.
        deviations.append(float(histogram @ (values - mean) ** 2 / histogram.sum()) ** 0.5 or 1.0)
    return torch.tensor(means, dtype=torch.float32), torch.tensor(deviations, dtype=torch.float32)


def content_digest(train: Split, validation: Split, test: Split) -> str:
    """Return the SHA-256 of every split's name, shape, pixels and labels (int64, little-endian), in this order."""
    # Little-endian labels and contiguous pixels: the same bytes on every machine.
    total = hashlib.sha256()
    for name, split in (("train", train), ("validation", validation), ("test", test)):
        total.update(f"{name} {tuple(split.images.shape)}\n".encode())
        total.update(split.images.contiguous().numpy().data)
        total.update(split.labels.numpy().astype("<i8").data)
    return total.hexdigest()


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def _check_sizes(dataset: Dataset) -> None:
    facts = dataset.facts
    counts = {"train": facts.train_images, "validation": facts.validation_images, "test": facts.test_images}
    for name, split in dataset.splits():
        expected = (counts[name], facts.channels, facts.image_size, facts.image_size)
        if tuple(split.images.shape) != expected:
            raise DatasetError(
                f"data set {facts.name!r}: the {name} split should have shape {expected}, "
                f"found {tuple(split.images.shape)}"
            )
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= facts.num_classes:
            raise DatasetError(
                f"data set {facts.name!r}: labels of the {name} split run from {low} to {high}, "
                f"expected 0 to {facts.num_classes - 1}"
            )
