"""Batches from folders of image files, `train/<class>/*` and `val/<class>/*`, for sets too large for memory.

The same contract as `MemorySource`: order and augmentation are functions of (seed, epoch, image) alone, so the number
of worker processes changes nothing. Images are decoded and cropped in workers and stay uint8 until they are on the
device. Listing the files is in `runners.data.image_files`. Legend: B images in a batch, S image size in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ablations.datasets import DatasetFacts
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
from runners.data.hashing import Int64Array, balanced_choice, derive_key
from runners.data.image_files import FileList, listing_digest, scan_folders, split_off_validation
from runners.data.sources import BatchSettings, SplitSizes
from runners.data.splits import Normalization, SplitName, check_digest

# Statistics of ImageNet's training images, as torchvision's reference training uses them.
IMAGENET_NORMALIZATION = Normalization(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
_RESIZE_RATIO = 256 / 224

_Sample = tuple[Tensor, int] | str


class FolderSource:
    """Batches from image files: random resized crop and flip for training, resize and centre crop for evaluation.

    Args:
        facts: Facts of the set; `image_size` is the size after cropping, `validation_images` how many are split off.
        root: Folder that holds `train` and `val`.
        settings: How batches are made; `crop_padding` must be 0, `workers` processes decode.
        sizes: How many images of each split to use.
        normalization: Per-channel statistics to remove.

    Raises:
        DatasetError: A folder is missing, empty or has other classes than it should.
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
    ) -> None:
        if settings.augmentation.crop_padding:
            raise SpecError(
                f"data set {facts.name!r} is trained with random resized crops; crop padding must be 0, found "
                f"{settings.augmentation.crop_padding}"
            )
        pool, test = scan_folders(root, facts)
        train, validation = split_off_validation(pool, facts)
        sizes = sizes or SplitSizes()
        self._files: dict[SplitName, FileList] = {
            "train": _limited(train, sizes.train, sizes.seed),
            "validation": _limited(validation, sizes.validation, sizes.seed),
            "test": _limited(test, sizes.test, sizes.seed),
        }
        self._facts, self._settings, self._normalization = facts, settings, normalization
        self._digest = listing_digest(pool, test)
        check_digest(facts, self._digest)
        self._steps = steps_per_epoch(self.num_images("train"), settings.batch_size)

    @property
    def facts(self) -> DatasetFacts:
        """What is registered of the data set."""
        return self._facts

    @property
    def digest(self) -> str:
        """SHA-256 of every file's relative path and size; contents are not read."""
        return self._digest

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class folders' names, sorted."""
        return self._files["train"].class_names

    @property
    def steps_per_epoch(self) -> int:
        """Number of full training batches."""
        return self._steps

    def num_images(self, split: SplitName) -> int:
        """Returns how many images of a split are in use."""
        return len(self._files[split].paths)

    def training(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yields an epoch's full batches from `start_step` on, each a function of (seed, epoch, step) alone.

        Raises:
            DatasetError: A file cannot be decoded.
            ValueError: `start_step` is not between 0 and `steps_per_epoch`.
        """
        seed, size = self._settings.seed, self._settings.batch_size
        steps = step_range(start_step, self._steps)
        order = training_order(self.num_images("train"), seed, epoch)
        batches = [order[step * size : (step + 1) * size] for step in steps]
        images = _ImageFiles(self._files["train"], _training_transform(self._facts, self._settings))
        images.key = derive_key("augmentation", seed, epoch)
        return self._load(images, batches)

    def evaluation(self, split: SplitName) -> Iterator[Batch]:
        """Yields every image of a split once, see `evaluation_batches` for order and sizes.

        Raises:
            DatasetError: A file cannot be decoded.
        """
        count = self.num_images(split)
        order = evaluation_order(count)
        batches = [order[part] for part in evaluation_slices(count, self._settings.evaluation_batch_size)]
        return self._load(_ImageFiles(self._files[split], _evaluation_transform(self._facts)), batches)

    def _load(self, images: _ImageFiles, batches: Sequence[Int64Array]) -> Iterator[Batch]:
        settings = self._settings
        transfer = Transfer(self._normalization, settings.device, settings.memory_format)
        loader: DataLoader[_Sample] = DataLoader(
            images,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=settings.workers,
            collate_fn=_collate,
            generator=torch.Generator().manual_seed(0),  # else the loader draws from the global one
        )
        for loaded in loader:
            if isinstance(loaded, str):
                raise DatasetError(loaded)
            yield transfer(*loaded)


class _ImageFiles(Dataset[_Sample]):
    """Decodes and transforms one file; a file that cannot be decoded gives the message instead of an image.

    An exception that crosses from a worker would arrive with the worker's traceback in its text.
    """

    def __init__(self, files: FileList, transform: v2.Transform) -> None:
        self.files, self.transform, self.key = files, transform, derive_key("evaluation")

    def __getitem__(self, index: int) -> _Sample:
        path = self.files.root / self.files.paths[index]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"{path} cannot be decoded: {error}. Remove the file or fetch it again."
        return self._transformed(image, derive_key(self.key, index)), int(self.files.labels[index])

    def _transformed(self, image: Image.Image, key: int) -> Tensor:
        # torchvision's transforms know only torch's global generator: it is lent to them and put back.
        state = torch.random.get_rng_state()
        try:
            torch.default_generator.manual_seed(key >> 1)
            result = self.transform(image)
        finally:
            torch.random.set_rng_state(state)
        assert isinstance(result, Tensor)
        return result


def _training_transform(facts: DatasetFacts, settings: BatchSettings) -> v2.Transform:
    steps: list[Any] = [v2.RandomResizedCrop(facts.image_size, antialias=True)]
    if settings.augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, v2.PILToTensor()])


def _evaluation_transform(facts: DatasetFacts) -> v2.Transform:
    resize = v2.Resize(round(facts.image_size * _RESIZE_RATIO), antialias=True)
    return v2.Compose([resize, v2.CenterCrop(facts.image_size), v2.PILToTensor()])


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
    return files.take(balanced_choice(np.asarray(files.labels), count, key, len(files.class_names)))
