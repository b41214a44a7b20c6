"""This module makes batches from a split in memory: vectorised, and a function of (seed, epoch, step) alone.

The order of an epoch and each image's crop and flip are hashes of (seed, epoch, image), so a training that resumes at
step k sees bit for bit the batches of one that never stopped, and no global generator is read or moved. Images stay
uint8 until they are on the device. Legend: N images in the split, B images in a batch, C channels, H height, W width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from ablations.errors import SpecError
from runners.data.hashing import Int64Array, permutation
from runners.data.splits import Normalization, Split
from runners.data.transforms import Augmentation, augment
from runners.seeding import derive_key

Batch = tuple[Tensor, Tensor]
"""Images (B, C, H, W) float32 and labels (B,) int64, both on the device."""

CPU = torch.device("cpu")


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Return the number of full batches of an epoch.

    The images left over by the last full batch are not seen in that epoch; each epoch leaves out others.

    Raises:
        SpecError: `batch_size` is less than 1, or a split has fewer images than one batch.
    """
    if batch_size < 1:
        raise SpecError(f"the batch size must be at least 1, found {batch_size}")
    if num_images < batch_size:
        raise SpecError(
            f"{num_images} training images do not fill one batch of {batch_size}; lower the batch size or train on "
            "more images"
        )
    return num_images // batch_size


def training_order(num_images: int, seed: int, epoch: int) -> Int64Array:
    """Return the order in which an epoch visits the images, shape (N,)."""
    return permutation(derive_key("training order", seed, epoch), num_images)


def training_batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    normalization: Normalization,
    augmentation: Augmentation | None = None,
    device: torch.device = CPU,
    start_step: int = 0,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[Batch]:
    """Yield the full batches of one epoch from `start_step` on; the last, short one is dropped.

    Batch number `step` is a function of (split, batch_size, seed, epoch, step) alone.

    Raises:
        SpecError: The split is smaller than one batch, see `steps_per_epoch`.
        ValueError: `start_step` is not between 0 and the number of steps.
    """
    # Outside the generator, so that errors come with the call and not with the first batch.
    steps = step_range(start_step, steps_per_epoch(len(split), batch_size))
    order = training_order(len(split), seed, epoch)
    key = derive_key("augmentation", seed, epoch)
    transfer = Transfer(normalization, device, memory_format)

    def batches() -> Iterator[Batch]:
        # Each step is computed from its number, so that a resume skips steps for free.
        for step in steps:
            image_index = order[step * batch_size : (step + 1) * batch_size]
            index = torch.from_numpy(image_index)
            images = augment(split.images[index], augmentation or Augmentation(), key=key, image_index=image_index)
            yield transfer(images, split.labels[index])

    return batches()


def evaluation_batches(
    split: Split,
    batch_size: int,
    *,
    normalization: Normalization,
    device: torch.device = CPU,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[Batch]:
    """Yield every image of a split once, in an order that depends on its size alone.

    The order is a fixed random permutation, so that neighbours in a batch are not of one class. The last batch may be
    short; see `evaluation_slices` for why it is never one image.

    Raises:
        SpecError: `batch_size` is less than 2.
    """
    order = torch.from_numpy(evaluation_order(len(split)))
    slices = evaluation_slices(len(split), batch_size)
    transfer = Transfer(normalization, device, memory_format)

    def batches() -> Iterator[Batch]:
        for positions in slices:
            index = order[positions]
            yield transfer(split.images[index], split.labels[index])

    return batches()


def evaluation_order(num_images: int) -> Int64Array:
    """Return the fixed order in which an evaluation visits the images, shape (N,)."""
    return permutation(derive_key("evaluation order"), num_images)


def evaluation_slices(num_images: int, batch_size: int) -> list[slice]:
    """Return the batches of an evaluation as slices of its order.

    A strategy that gives each image the attention of another one needs two images in a batch. So a last batch of one
    image joins the batch before it, which then has `batch_size + 1`; only a split of one image gives a batch of one.

    Raises:
        SpecError: `batch_size` is less than 2.
    """
    if batch_size < 2:
        raise SpecError(f"an evaluation needs batches of at least 2 images, found a batch size of {batch_size}")
    edges = [*range(0, num_images, batch_size), num_images]
    if num_images % batch_size == 1 and num_images > 1:
        del edges[-2]  # joins the last two batches
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def step_range(start_step: int, steps: int) -> range:
    """Return the steps of an epoch that are left.

    Raises:
        ValueError: `start_step` is not between 0 and `steps`.
    """
    if not 0 <= start_step <= steps:
        raise ValueError(f"start_step must be from 0 to {steps}, found {start_step}")
    return range(start_step, steps)


class Transfer:
    """Moves uint8 batches to a device and normalises them there.

    A GPU copies from pinned memory in a stream of its own, so that the next batch arrives while the step before it is
    computed; uint8 makes it a quarter of the size.
    """

    def __init__(self, normalization: Normalization, device: torch.device, memory_format: torch.memory_format) -> None:
        # On the scale of uint8, so that pixels need no division by 255.
        self._mean, self._std = (
            (statistic * 255).view(1, -1, 1, 1).to(device) for statistic in (normalization.mean, normalization.std)
        )
        self._device, self._memory_format = device, memory_format
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # Mean and deviation were copied in the other stream.
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def __call__(self, images: Tensor, labels: Tensor) -> Batch:
        """Return images (B, C, H, W), given as uint8, as float32, and labels (B,), both on the device."""
        if self._stream is None:
            return self._moved(images, labels)
        images, labels = images.pin_memory(), labels.pin_memory()
        with torch.cuda.stream(self._stream):
            batch = self._moved(images, labels)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        for tensor in batch:
            # Memory of the one stream may not be given away again while the other still reads it.
            tensor.record_stream(computing)
        return batch

    def _moved(self, images: Tensor, labels: Tensor) -> Batch:
        images = images.to(self._device, non_blocking=True)
        # In place from here on: the conversion to float made a new tensor.
        pixels = images.to(torch.float32, memory_format=self._memory_format)
        return pixels.sub_(self._mean).div_(self._std), labels.to(self._device, non_blocking=True)
