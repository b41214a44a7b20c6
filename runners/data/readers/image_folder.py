"""This module makes batches from folders of image files, for data sets that are too large for memory.

`FolderSource` keeps the contract of `MemorySource`: order and augmentation are functions of (seed, epoch, image) alone,
so the number of worker processes changes nothing. Images are decoded and cropped in workers and stay uint8 until they
are on the device. `ablations.datasets.folder_contents` lists the files and digests their content. `open_folder_set`
opens any registered folder set. Legend: B images in a batch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.folder_contents import FolderContent, read_folder
from ablations.datasets.folders import FileList, Listing, check_validation_share, list_train_val, printable
from ablations.datasets.pictures import PictureError, open_picture
from ablations.datasets.registry import folder_content, get_folder_set
from ablations.errors import DatasetError, SpecError
from runners.data.batches import (
    Batch,
    Transfer,
    evaluation_order,
    evaluation_slices,
    step_range,
    steps_per_epoch,
    training_order,
)
from runners.data.hashing import Int64Array, balanced_choice
from runners.data.sources import BatchSettings, BatchSource, SplitSizes
from runners.data.splits import Normalization, SplitName, check_digest, drawn_validation
from runners.data.transforms import apply, evaluation_transform, file_transform
from runners.seeding import derive_key

# Statistics of ImageNet's training images, as torchvision's reference training uses them.
IMAGENET_NORMALIZATION = Normalization(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
_RESIZE_RATIO = 256 / 224

_Sample = tuple[Tensor, int] | str


class FolderSource:
    """Batches from image files: augmented for training, resize and centre crop for evaluation.

    Args:
        facts: Facts of the set; `image_size` is the size after cropping, `validation_images` the number split off.
        settings: How batches are made; `crop_padding` must be 0, `workers` processes decode.
        sizes: Numbers of images of each split to use.
        content: The files, read; or None for `train/<class>/*` and `val/<class>/*` below `root`.
        resize_ratio: The shorter side before the centre crop, relative to the size after it.

    Raises:
        DatasetError: A folder is missing, empty or has the wrong classes.
        SpecError: Sizes, batch size or augmentation do not fit.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        root: Path,
        settings: BatchSettings,
        *,
        sizes: SplitSizes | None = None,
        normalization: Normalization = IMAGENET_NORMALIZATION,
        content: FolderContent | None = None,
        resize_ratio: float = _RESIZE_RATIO,
    ) -> None:
        if settings.augmentation.crop_padding:
            raise SpecError(
                f"data set {facts.name!r} is read from files, which are not padded; crop padding must be 0, found "
                f"{settings.augmentation.crop_padding}"
            )
        content = content or read_folder(facts.name, list_train_val(root, facts.name, facts.num_classes))
        listing = content.listing
        train = validation = listing.train
        # Without training files there is nothing to split off: only the test split is measured.
        sizes = sizes or SplitSizes()
        if not facts.is_test_only:
            train, validation = split_off_validation(listing, facts)
            if sizes.split_seed is not None:
                train, validation = _with_drawn_validation(train, validation, sizes.split_seed)
        self._files: dict[SplitName, FileList] = {
            "train": _limited(train, sizes.train, sizes.seed),
            "validation": _limited(validation, sizes.validation, sizes.seed),
            "test": _limited(listing.test, sizes.test, sizes.seed),
        }
        self._facts, self._settings, self._normalization = facts, settings, normalization
        self._resize_ratio = resize_ratio
        self._digest = content.digest
        check_digest(facts, self._digest)
        self._steps = 0
        if not facts.is_test_only:
            self._steps = steps_per_epoch(self.num_images("train"), settings.batch_size)

    @property
    def facts(self) -> DatasetFacts:
        return self._facts

    @property
    def digest(self) -> str:
        """SHA-256 of every file's relative path, content and class."""
        return self._digest

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the class folders, sorted."""
        return self._files["train"].class_names

    @property
    def steps_per_epoch(self) -> int:
        return self._steps

    def num_images(self, split: SplitName) -> int:
        return len(self._files[split].paths)

    def training(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield an epoch's full batches from `start_step` on, each a function of (seed, epoch, step) alone.

        Raises:
            DatasetError: A file cannot be decoded.
            ValueError: `start_step` is not between 0 and `steps_per_epoch`.
        """
        seed, size = self._settings.seed, self._settings.batch_size
        steps = step_range(start_step, self._steps)
        order = training_order(self.num_images("train"), seed, epoch)
        batches = [order[step * size : (step + 1) * size] for step in steps]
        transform = file_transform(self._settings.augmentation, self._facts.image_size, self._resize_ratio)
        images = _ImageFiles(self._files["train"], transform)
        # Set before the loader forks its workers, which get a copy.
        images.key = derive_key("augmentation", seed, epoch)
        return self._load(images, batches)

    def evaluation(self, split: SplitName) -> Iterator[Batch]:
        """Yield every image of a split once, see `evaluation_batches` for order and sizes.

        Raises:
            DatasetError: A file cannot be decoded.
        """
        order = self.evaluation_order(split)
        slices = evaluation_slices(len(order), self._settings.evaluation_batch_size)
        batches = [order[positions] for positions in slices]
        transform = evaluation_transform(self._facts.image_size, self._resize_ratio)
        return self._load(_ImageFiles(self._files[split], transform), batches)

    def evaluation_order(self, split: SplitName) -> Int64Array:
        return evaluation_order(self.num_images(split))

    def _load(self, images: _ImageFiles, batches: Sequence[Int64Array]) -> Iterator[Batch]:
        settings = self._settings
        transfer = Transfer(self._normalization, settings.device, settings.memory_format)
        # Otherwise a dispatcher's worker would spawn processes that import torch anew at every pass.
        can_fork = settings.workers > 0 and sys.platform == "linux"
        loader: DataLoader[_Sample] = DataLoader(
            images,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=settings.workers,
            multiprocessing_context="fork" if can_fork else None,
            collate_fn=_collate,
            generator=torch.Generator().manual_seed(0),  # else the loader draws from the global one
        )
        # A worker returns the message of a failure in place of images.
        for batch in loader:
            if isinstance(batch, str):
                raise DatasetError(batch)
            yield transfer(*batch)


class _ImageFiles(Dataset[_Sample]):
    """Decodes and transforms one file; a file that cannot be decoded gives the message instead of an image.

    An exception from a worker would arrive with the worker's traceback in its text.
    """

    def __init__(self, files: FileList, transform: v2.Transform) -> None:
        self.files, self.transform, self.key = files, transform, derive_key("evaluation")

    def __getitem__(self, index: int) -> _Sample:
        path = self.files.root / self.files.paths[index]
        try:
            image = open_picture(path)
        except PictureError as error:
            return f"{printable(str(path))} {error}. Remove the file or fetch it again."
        # A key per image and epoch: the order of workers does not matter.
        return apply(self.transform, image, derive_key(self.key, index)), int(self.files.labels[index])


def split_off_validation(listing: Listing, facts: DatasetFacts) -> tuple[FileList, FileList]:
    """Return (train, validation): the folders' own, or `facts.validation_images` class-balanced training files less.

    The choice depends on the listing alone, so it is the same on every machine with the same files.

    Raises:
        DatasetError: No file would be left to train on.
    """
    pool, count = listing.train, facts.validation_images
    # A set with validation files of its own keeps its training files whole.
    if listing.validation is not None:
        return pool, listing.validation
    check_validation_share(pool, count)
    key = derive_key("image folder validation split", 1)
    validation = balanced_choice(np.asarray(pool.labels), count, key, len(pool.class_names))
    train = np.setdiff1d(np.arange(len(pool)), validation)
    return pool.take(train.tolist()), pool.take(validation.tolist())


def _with_drawn_validation(train: FileList, validation: FileList, seed: int) -> tuple[FileList, FileList]:
    """Return (train, validation) of the same files, drawn by `drawn_validation`."""
    # All splits of a listing lie below one root and have the same classes.
    pool = replace(train, paths=train.paths + validation.paths, labels=train.labels + validation.labels)
    drawn = drawn_validation(np.asarray(train.labels), np.asarray(validation.labels), seed, len(train.class_names))
    train_index, validation_index = drawn
    return pool.take(train_index.tolist()), pool.take(validation_index.tolist())


def _collate(samples: list[_Sample]) -> tuple[Tensor, Tensor] | str:
    images, labels = [], []
    for sample in samples:
        if isinstance(sample, str):
            return sample
        images.append(sample[0])
        labels.append(sample[1])
    return torch.stack(images), torch.tensor(labels, dtype=torch.int64)


def _limited(files: FileList, count: int | None, seed: int) -> FileList:
    if count is None or count == len(files.paths):
        return files
    if not 1 <= count <= len(files.paths):
        raise SpecError(f"cannot take {count} images from a split of {len(files.paths)}")
    key = derive_key("subset", seed)
    return files.take(balanced_choice(np.asarray(files.labels), count, key, len(files.class_names)).tolist())


def open_folder_set(
    facts: DatasetFacts, settings: BatchSettings, *, root: Path | None, sizes: SplitSizes
) -> BatchSource:
    """Open the folder set that `facts` name, below `root`.

    Raises:
        DatasetError: There is no root, or it is not laid out as the data set must be, or its files have changed.
    """
    folder = get_folder_set(facts.name)
    if root is None:
        raise DatasetError(folder.needs_root)
    content = folder_content(folder, root, test_only=facts.is_test_only)
    return FolderSource(facts, root, settings, sizes=sizes, content=content, resize_ratio=folder.resize_ratio)
