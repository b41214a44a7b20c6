"""Splits in memory: statistics against torch, subsets, held-out images, the digest, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError, SpecError
from runners.data import Dataset, Split, channel_statistics, content_digest, hold_out, make_dataset, subset


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_statistics_are_those_of_torch(make_split: Callable[..., Split]) -> None:
    images = make_split(17, channels=3).images
    mean, std = channel_statistics(images)
    scaled = images.double() / 255
    torch.testing.assert_close(mean.double(), scaled.mean((0, 2, 3)), atol=1e-7, rtol=0)
    torch.testing.assert_close(std.double(), scaled.std((0, 2, 3), correction=0), atol=1e-7, rtol=0)


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    mean, std = channel_statistics(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8))
    assert mean.item() == pytest.approx(0.2)
    assert std.item() == 1.0


def test_a_subset_is_balanced_deterministic_and_nested(make_split: Callable[..., Split]) -> None:
    split = make_split(60)
    small, again, large = (subset(split, n, seed=4, num_classes=3) for n in (12, 12, 31))
    assert small.labels.bincount().tolist() == [4, 4, 4]
    assert sorted(large.labels.bincount().tolist()) == [10, 10, 11]
    assert torch.equal(small.images, again.images)
    assert rows(small) < rows(large) < rows(split)
    assert rows(subset(split, 12, seed=5, num_classes=3)) != rows(small)


def test_a_subset_keeps_images_with_their_labels(make_split: Callable[..., Split]) -> None:
    split = make_split(60)
    label_of = {image.numpy().tobytes(): int(label) for image, label in zip(split.images, split.labels, strict=True)}
    part = subset(split, 20, seed=0, num_classes=3)
    assert [label_of[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()


def test_a_whole_subset_is_the_split(make_split: Callable[..., Split]) -> None:
    split = make_split(7)
    assert torch.equal(subset(split, 7, seed=0, num_classes=3).images, split.images)


@pytest.mark.parametrize("count", [0, -1, 8])
def test_an_impossible_subset_is_refused(make_split: Callable[..., Split], count: int) -> None:
    with pytest.raises(SpecError, match=f"cannot take {count} images from a split of 7"):
        subset(make_split(7), count, seed=0, num_classes=3)


def test_held_out_images_are_balanced_and_gone_from_the_rest(make_split: Callable[..., Split]) -> None:
    split = make_split(30)
    rest, held = hold_out(split, 9, key=1, num_classes=3)
    assert held.labels.bincount().tolist() == [3, 3, 3]
    assert not rows(rest) & rows(held)
    assert rows(rest) | rows(held) == rows(split)


def test_the_digest_is_of_shapes_pixels_and_labels() -> None:
    splits = [Split(torch.full((1, 1, 1, 2), 7 + i, dtype=torch.uint8), torch.tensor([i])) for i in range(3)]
    text = b"".join(
        f"{name} (1, 1, 1, 2)\n".encode() + bytes([7 + i, 7 + i]) + bytes([i]) + bytes(7)
        for i, name in enumerate(("train", "validation", "test"))
    )
    assert content_digest(*splits) == hashlib.sha256(text).hexdigest()


def test_the_digest_sees_one_pixel_and_one_label(tiny: Dataset) -> None:
    images, labels = tiny.test.images.clone(), tiny.test.labels.clone()
    images[-1, 0, -1, -1] ^= 1
    labels[0] = 2
    digests = {
        content_digest(tiny.train, tiny.validation, part)
        for part in (tiny.test, Split(images, tiny.test.labels), Split(tiny.test.images, labels))
    }
    assert len(digests) == 3
    assert tiny.digest in digests


def test_content_that_is_not_the_registered_one_is_refused(
    tiny: Dataset, make_facts: Callable[..., DatasetFacts]
) -> None:
    parts = dict(tiny.splits())
    assert make_dataset(make_facts(digest=tiny.digest), **parts).digest == tiny.digest
    with pytest.raises(DatasetError, match=f"expected SHA-256 {'0' * 64}, found {tiny.digest}"):
        make_dataset(make_facts(digest="0" * 64), **parts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": 24}, r"train split should have shape \(24, 1, 6, 6\), found \(23, 1, 6, 6\)"),
        ({"channels": 3}, r"should have shape \(23, 3, 6, 6\)"),
        ({"num_classes": 2}, "labels of the train split run from 0 to 2, expected 0 to 1"),
    ],
)
def test_splits_that_contradict_the_facts_are_refused(
    tiny: Dataset, make_facts: Callable[..., DatasetFacts], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        make_dataset(make_facts(**changes), **dict(tiny.splits()))


def test_wrong_tensors_are_refused(tiny: Dataset) -> None:
    with pytest.raises(DatasetError, match="images must be uint8"):
        replace(tiny.train, images=tiny.train.images.float())
    with pytest.raises(DatasetError, match="labels must be int64"):
        replace(tiny.train, labels=tiny.train.labels[:-1])
