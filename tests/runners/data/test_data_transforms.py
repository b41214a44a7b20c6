"""Augmentation of images in memory through torchvision: pure in (seed, epoch, image), and only when asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ablations.errors import SpecError
from runners.data import Augmentation, Normalization, Split, training_batches

CROPS = Augmentation(resized_crop=True)
OPERATIONS = Augmentation(rand_augment=2, rand_augment_magnitude=15)
EVERYTHING = Augmentation(crop_padding=2, resized_crop=True, flip=True, rand_augment=1)
KINDS = pytest.mark.parametrize("augmentation", [CROPS, OPERATIONS, EVERYTHING], ids=["crop", "operations", "all"])
CHANNELS = pytest.mark.parametrize("channels", [1, 3])


def train(split: Split, augmentation: Augmentation, batch_size: int = 4, seed: int = 0, epoch: int = 0) -> Tensor:
    plain = Normalization(*(torch.full((split.images.shape[1],), value) for value in (0.0, 1 / 255)))
    batches = training_batches(
        split, batch_size, seed=seed, epoch=epoch, normalization=plain, augmentation=augmentation
    )
    return torch.cat([images for images, _ in batches])


def alike(count: int, channels: int = 1) -> Split:
    """The same image `count` times."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (1, channels, 16, 16), dtype=torch.uint8, generator=generator)
    return Split(image.repeat(count, 1, 1, 1), torch.arange(count))


def views(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@KINDS
@CHANNELS
def test_equal_images_are_changed_each_in_its_own_way_and_anew_each_epoch(
    augmentation: Augmentation, channels: int
) -> None:
    split = alike(24, channels)
    first, epoch, seed = (views(train(split, augmentation, seed=s, epoch=e)) for s, e in ((0, 0), (0, 1), (1, 0)))
    assert len(first) >= 16
    assert len(first - epoch) >= 12
    assert len(first - seed) >= 12


@KINDS
def test_an_image_is_changed_the_same_way_in_any_batch(
    make_split: Callable[..., Split], augmentation: Augmentation
) -> None:
    split = make_split(24, size=16)
    assert torch.equal(train(split, augmentation, 2), train(split, augmentation, 12))


@KINDS
def test_no_global_generator_is_read_or_moved(make_split: Callable[..., Split], augmentation: Augmentation) -> None:
    split = make_split(8, size=16)
    reference = train(split, augmentation)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(train(split, augmentation), reference)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resized_crop_is_a_part_of_the_image_enlarged() -> None:
    # A horizontal ramp: after a crop, scaled to the old width, it is a ramp again, over fewer values.
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).view(1, 1, 1, 32).repeat(16, 1, 32, 1)
    images = train(Split(ramp, torch.arange(16)), CROPS)
    assert images.shape == (16, 1, 32, 32)
    assert bool((images.diff(dim=-1) >= 0).all())
    assert torch.equal(images, images[:, :, :1].expand_as(images))
    spread = images[..., -1] - images[..., 0]
    assert bool((spread < 8 * 31).any())
    assert bool((spread > 40).all())


def test_more_operations_and_magnitude_change_an_image_more() -> None:
    split = alike(40)
    plain = split.images[:1].float()

    def distance(augmentation: Augmentation) -> float:
        return float((train(split, augmentation) - plain).abs().mean())

    one, many = (Augmentation(rand_augment=n, rand_augment_magnitude=9) for n in (1, 4))
    weak, strong = (Augmentation(rand_augment=2, rand_augment_magnitude=m) for m in (1, 25))
    assert 0 < distance(one) < distance(many)
    assert distance(weak) < distance(strong)


@pytest.mark.parametrize("wrong", [{"rand_augment": -1}, {"rand_augment_magnitude": 31}])
def test_operations_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="magnitude 0 to 30"):
        Augmentation(**wrong)  # type: ignore[arg-type]
