"""Small splits, data sets and registries for the tests of `runners.data`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from ablations.datasets.facts import DatasetFacts
from runners.data import Dataset, Split, make_dataset
from tests.registries import registries_kept

FactsMaker = Callable[..., DatasetFacts]
SplitMaker = Callable[..., Split]


@pytest.fixture
def make_facts() -> FactsMaker:
    """Facts of a tiny data set; keywords replace the defaults."""

    def make(**changes: object) -> DatasetFacts:
        fields: dict[str, object] = {
            "name": "tiny",
            "title": "Tiny",
            "num_classes": 3,
            "channels": 1,
            "image_size": 6,
            "train_images": 23,
            "validation_images": 9,
            "test_images": 13,
            "digest": None,
            "class_names": (),
            "source": "made by a test",
            "licence": "none",
        }
        return DatasetFacts(**(fields | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_split() -> SplitMaker:
    """A split of random images whose labels go round the classes."""

    def make(count: int, *, channels: int = 1, size: int = 6, num_classes: int = 3, seed: int = 0) -> Split:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(count) % num_classes)

    return make


@pytest.fixture
def tiny(make_facts: FactsMaker, make_split: SplitMaker) -> Dataset:
    """A data set of 23 + 9 + 13 images of 6 x 6 pixels."""
    parts = {"train": make_split(23, seed=1), "validation": make_split(9, seed=2), "test": make_split(13, seed=3)}
    return make_dataset(make_facts(), **parts)


@pytest.fixture
def own_registries() -> Iterator[None]:
    """Lets a test register data sets without the others seeing them."""
    with registries_kept():
        yield
