"""Random changes of single images through torchvision's transforms v2, each drawn by a key that names the image.

Crops by a few pixels and flips of images in memory are not here: `runners.data.batches` makes them for whole batches.
What mixes the images of a batch, mixup and CutMix, is in `runners.data.mixing`. Legend: C channels, S side in pixels.
"""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from runners.data.batches import Augmentation
from runners.seeding import seeded


def memory_transform(augmentation: Augmentation, size: int) -> v2.Transform:
    """Returns what changes an image in memory beyond shift and flip: (C, S, S) uint8 to (C, S, S) uint8."""
    steps = [v2.RandomResizedCrop(size, antialias=True)] if augmentation.resized_crop else []
    return v2.Compose([*steps, *_rand_augment(augmentation)])


def file_transform(augmentation: Augmentation, size: int, resize_ratio: float) -> v2.Transform:
    """Returns what makes a training image of a decoded file: RGB to (3, S, S) uint8."""
    steps: list[Any] = (
        [v2.RandomResizedCrop(size, antialias=True)] if augmentation.resized_crop else _centre(size, resize_ratio)
    )
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, *_rand_augment(augmentation), v2.PILToTensor()])


def evaluation_transform(size: int, resize_ratio: float) -> v2.Transform:
    """Returns what makes an evaluation image of a decoded file: RGB to (3, S, S) uint8, nothing drawn."""
    return v2.Compose([*_centre(size, resize_ratio), v2.PILToTensor()])


def apply(transform: v2.Transform, image: Tensor | Image.Image, key: int) -> Tensor:
    """Returns the transformed image; what is drawn is a function of `key` alone."""
    with seeded(key >> 1):
        result = transform(image)
    assert isinstance(result, Tensor)
    return result


def _centre(size: int, resize_ratio: float) -> list[Any]:
    return [v2.Resize(round(size * resize_ratio), antialias=True), v2.CenterCrop(size)]


def _rand_augment(augmentation: Augmentation) -> list[v2.Transform]:
    if not augmentation.rand_augment:
        return []
    return [v2.RandAugment(augmentation.rand_augment, augmentation.rand_augment_magnitude)]
