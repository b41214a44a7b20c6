"""`BatchSource` is the interface through which training and evaluation get batches, from memory or from files.

`MemorySource` implements it for a `Dataset`, `runners.data.readers.image_folder` for folders of image files. Legend: B
images in a batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ablations.datasets.facts import DatasetFacts
from runners.data.batches import CPU, Batch, evaluation_batches, evaluation_order, steps_per_epoch, training_batches
from runners.data.hashing import Int64Array
from runners.data.splits import Dataset, Split, SplitName, subset, with_drawn_validation
from runners.data.transforms import Augmentation


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """The numbers of images of each split to use; None is all of them. `seed` decides which.

    Attributes:
        split_seed: The seed that draws the validation images, before the numbers are applied; None leaves the data set
            split as it comes.
    """

    train: int | None = None
    validation: int | None = None
    test: int | None = None
    seed: int = 0
    split_seed: int | None = None

    def of(self, split: SplitName) -> int | None:
        """Return the number of images of one split, None for all."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The settings by which batches are made.

    Attributes:
        evaluation_batch_size: Images per evaluation batch, at least 2.
        seed: Seed of order and augmentation.
        augmentation: Changes of training images; evaluation images are never changed.
        workers: Processes that decode files; read by file-based sources only and without effect on the batches.
    """

    batch_size: int
    evaluation_batch_size: int = 256
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    device: torch.device = CPU
    memory_format: torch.memory_format = torch.contiguous_format
    workers: int = 0


class BatchSource(Protocol):
    """Batches of one data set under one `BatchSettings`.

    Every batch is images (B, C, H, W) float32, normalised, and labels (B,) int64, on the settings' device.
    """

    @property
    def facts(self) -> DatasetFacts:
        """The registered facts of the data set."""

    @property
    def digest(self) -> str:
        """SHA-256 that names the content of the whole data set, before `SplitSizes` are applied."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, in label order."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that `training` yields from step 0."""

    def num_images(self, split: SplitName) -> int:
        """Return the number of images of a split that are in use."""

    def training(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield an epoch's full batches from `start_step` on, each a function of (seed, epoch, step) alone."""

    def evaluation(self, split: SplitName) -> Iterator[Batch]:
        """Yield every image of a split once, not augmented, in a fixed random order; no batch of one image."""

    def evaluation_order(self, split: SplitName) -> Int64Array:
        """Return the index in the split of each image of `evaluation`, in its order: (N,)."""


class MemorySource:
    """Batches from a `Dataset`.

    Raises:
        SpecError: A size is larger than its split, or the training images do not fill one batch.
    """

    def __init__(self, dataset: Dataset, settings: BatchSettings, sizes: SplitSizes | None = None) -> None:
        sizes = sizes or SplitSizes()
        if sizes.split_seed is not None:
            dataset = with_drawn_validation(dataset, sizes.split_seed)
        self._dataset, self._settings = dataset, settings
        # The training split is cut, too; its statistics stay those of the whole one.
        self._splits: dict[SplitName, Split] = {
            name: _limited(split, sizes.of(name), sizes.seed, dataset.facts.num_classes)
            for name, split in dataset.splits()
        }
        # Counted at once, so that too few images are an error before anything is trained.
        self._steps = steps_per_epoch(self.num_images("train"), settings.batch_size)

    @property
    def facts(self) -> DatasetFacts:
        return self._dataset.facts

    @property
    def digest(self) -> str:
        return self._dataset.digest

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, numbers where the facts give none."""
        return self.facts.class_names or tuple(map(str, range(self.facts.num_classes)))

    @property
    def steps_per_epoch(self) -> int:
        return self._steps

    def num_images(self, split: SplitName) -> int:
        return len(self._splits[split])

    def training(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches from `start_step` on, see `training_batches`."""
        settings = self._settings
        return training_batches(
            self._splits["train"],
            settings.batch_size,
            seed=settings.seed,
            epoch=epoch,
            normalization=self._dataset.normalization,
            augmentation=settings.augmentation,
            device=settings.device,
            start_step=start_step,
            memory_format=settings.memory_format,
        )

    def evaluation(self, split: SplitName) -> Iterator[Batch]:
        """Yield a split's batches, see `evaluation_batches`."""
        return evaluation_batches(
            self._splits[split],
            self._settings.evaluation_batch_size,
            normalization=self._dataset.normalization,
            device=self._settings.device,
            memory_format=self._settings.memory_format,
        )

    def evaluation_order(self, split: SplitName) -> Int64Array:
        return evaluation_order(self.num_images(split))


def _limited(split: Split, count: int | None, seed: int, num_classes: int) -> Split:
    return split if count is None else subset(split, count, seed=seed, num_classes=num_classes)
