"""This module changes single images at random, each by a key that names the image.

Images in memory are cropped by a few pixels and flipped in whole batches; all other changes are torchvision's
transforms v2. Mixup and CutMix, which mix the images of a batch, are in `runners.data.mixing`. Legend: C channels, S
side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ablations.errors import SpecError
from runners.data.hashing import Int64Array, random_integers
from runners.seeding import derive_key, seeded


def memory_transform(augmentation: Augmentation, size: int) -> v2.Transform:
    """Return the changes of an image in memory beyond shift and flip: (C, S, S) uint8 to (C, S, S) uint8."""
    steps = [v2.RandomResizedCrop(size, antialias=True)] if augmentation.resized_crop else []
    return v2.Compose([*steps, *_rand_augment(augmentation)])


def file_transform(augmentation: Augmentation, size: int, resize_ratio: float) -> v2.Transform:
    """Return the transform of a decoded file to a training image: RGB to (3, S, S) uint8."""
    steps: list[Any] = [v2.RandomResizedCrop(size, antialias=True)]
    if not augmentation.resized_crop:
        steps = _centre(size, resize_ratio)
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, *_rand_augment(augmentation), v2.PILToTensor()])


def evaluation_transform(size: int, resize_ratio: float) -> v2.Transform:
    """Return the transform of a decoded file to an evaluation image: RGB to (3, S, S) uint8, nothing drawn."""
    return v2.Compose([*_centre(size, resize_ratio), v2.PILToTensor()])


def apply(transform: v2.Transform, image: Tensor | Image.Image, key: int) -> Tensor:
    """Return the transformed image; all draws are functions of `key` alone."""
    # torchvision draws from the global generators, which are seeded for one image. A seed has 63 bits, a key 64.
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


UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a training image, each drawn per image.

    Attributes:
        crop_padding: Pixels of black added on each side before a crop of the original size is taken at random; 0 is
            no crop. Sets in memory only.
        resized_crop: Whether a random part of a random aspect is scaled to the image's size.
        flip: Whether half of the images are mirrored left to right.
        rand_augment: Operations of RandAugment on each image, after the others.
        rand_augment_magnitude: Their strength, 0 to 30.

    Raises:
        SpecError: `crop_padding` or `rand_augment` is negative, or the magnitude is not one.
    """

    crop_padding: int = 0
    resized_crop: bool = False
    flip: bool = False
    rand_augment: int = 0
    rand_augment_magnitude: int = 9

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise SpecError(f"crop padding must be 0 or more pixels, found {self.crop_padding}")
        if self.rand_augment < 0 or not 0 <= self.rand_augment_magnitude <= 30:
            raise SpecError(
                "RandAugment needs 0 or more operations of magnitude 0 to 30, found "
                f"{self.rand_augment} of {self.rand_augment_magnitude}"
            )


def augment(images: Tensor, augmentation: Augmentation, *, key: int, image_index: Int64Array) -> Tensor:
    """Change each image by draws from `key` and its own index, in whichever batch it is.

    Args:
        images: (B, C, H, W) uint8; left as they are.
        augmentation: What may change.
        key: Names seed and epoch.
        image_index: (B,) each image's index in its split.

    Returns:
        (B, C, H, W) uint8.
    """
    pixels: UInt8Array = images.numpy()
    if augmentation.crop_padding:
        # From no shift to twice the padding: the crop may move by the padding in each direction.
        choices = 2 * augmentation.crop_padding + 1
        top = random_integers(derive_key(key, "top"), image_index, choices)
        left = random_integers(derive_key(key, "left"), image_index, choices)
        pixels = crop(pixels, augmentation.crop_padding, top, left)
    if augmentation.flip:
        flipped = random_integers(derive_key(key, "flip"), image_index, 2) == 1
        # A copy, because without a crop these are still the images of the split.
        pixels = pixels.copy()
        pixels[flipped] = pixels[flipped, ..., ::-1]
    result = torch.from_numpy(pixels)
    if augmentation.resized_crop or augmentation.rand_augment:
        result = _transformed(result, augmentation, key, image_index)
    return result


def _transformed(images: Tensor, augmentation: Augmentation, key: int, image_index: Int64Array) -> Tensor:
    transform = memory_transform(augmentation, images.shape[-1])
    keys = (derive_key(key, "transform", index) for index in image_index.tolist())
    return torch.stack([apply(transform, image, image_key) for image, image_key in zip(images, keys, strict=True)])


def crop(pixels: UInt8Array, padding: int, top: Int64Array, left: Int64Array) -> UInt8Array:
    """Pad each image with black and cut its original size out at its own corner.

    numpy's indexing copies whole windows here and is three times as fast as torch's.

    Args:
        pixels: (B, C, H, W) uint8.
        padding: Pixels added on each side.
        top, left: (B,) corner in the padded image, 0 to 2 * padding; `padding` gives the image back.

    Returns:
        (B, C, H, W) uint8.
    """
    batch, channels, height, width = pixels.shape
    padded = np.zeros((batch, channels, height + 2 * padding, width + 2 * padding), dtype=np.uint8)
    padded[..., padding : padding + height, padding : padding + width] = pixels
    # A view of all windows of the original size; the index then picks one for each image.
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(batch), :, top, left])
