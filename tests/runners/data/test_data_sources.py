"""`MemorySource` and the registries: the contract of a batch source, sizes, own data sets, duplicates, typos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import register_dataset
from ablations.errors import DatasetError, SpecError, UnknownNameError
from runners.data import (
    Augmentation,
    BatchSettings,
    BatchSource,
    Dataset,
    MemorySource,
    Split,
    SplitSizes,
    load_dataset,
    make_dataset,
    open_batches,
    register_loader,
    register_source,
    training_batches,
)

SETTINGS = BatchSettings(batch_size=4, evaluation_batch_size=5, seed=3, augmentation=Augmentation(crop_padding=1))


def test_a_source_gives_the_batches_of_the_functions(tiny: Dataset) -> None:
    source = MemorySource(tiny, SETTINGS)
    expected = training_batches(
        tiny.train, 4, seed=3, epoch=2, normalization=tiny.normalization, augmentation=Augmentation(crop_padding=1)
    )
    found = list(source.training(2))
    assert len(found) == source.steps_per_epoch == 5
    for (images, labels), (wanted_images, wanted_labels) in zip(found, expected, strict=True):
        assert torch.equal(images, wanted_images)
        assert torch.equal(labels, wanted_labels)
    assert torch.equal(next(source.training(2, start_step=3))[0], found[3][0])


@pytest.mark.parametrize(("split", "count"), [("train", 23), ("validation", 9), ("test", 13)])
def test_each_split_is_evaluated_whole(tiny: Dataset, split: str, count: int) -> None:
    source = MemorySource(tiny, SETTINGS)
    sizes = [len(labels) for _, labels in source.evaluation(split)]  # type: ignore[arg-type]
    assert (sum(sizes), source.num_images(split)) == (count, count)  # type: ignore[arg-type]


def test_a_source_tells_which_image_is_measured_when(tiny: Dataset) -> None:
    source = MemorySource(tiny, SETTINGS)
    images = torch.cat([images for images, _ in source.evaluation("test")])
    order = torch.from_numpy(source.evaluation_order("test"))
    pixels = (images * tiny.std.view(1, -1, 1, 1) + tiny.mean.view(1, -1, 1, 1)) * 255
    assert torch.equal(pixels.round().to(torch.uint8), tiny.test.images[order])
    assert order.tolist() != sorted(order.tolist())


def test_sizes_limit_each_split_and_leave_the_digest(tiny: Dataset) -> None:
    source = MemorySource(tiny, SETTINGS, SplitSizes(train=9, test=6))
    assert [source.num_images(split) for split in ("train", "validation", "test")] == [9, 9, 6]
    assert (source.steps_per_epoch, source.digest) == (2, tiny.digest)
    labels = torch.cat([labels for _, labels in source.evaluation("test")])
    assert labels.bincount().tolist() == [2, 2, 2]


def test_the_seed_of_sizes_is_not_that_of_batches(tiny: Dataset) -> None:
    def images(seed: int) -> set[bytes]:
        source = MemorySource(tiny, SETTINGS, SplitSizes(train=9, seed=seed))
        return {image.numpy().tobytes() for batch, _ in source.evaluation("train") for image in batch}

    assert images(0) == images(0)
    assert images(0) != images(1)


def test_too_few_images_for_a_batch_are_refused_at_opening(tiny: Dataset) -> None:
    with pytest.raises(SpecError, match="3 training images do not fill one batch of 4"):
        MemorySource(tiny, SETTINGS, SplitSizes(train=3))


def test_class_names_are_numbers_where_there_are_none(tiny: Dataset) -> None:
    assert MemorySource(tiny, SETTINGS).class_names == ("0", "1", "2")


@pytest.mark.usefixtures("own_registries")
def test_an_own_data_set_takes_ten_lines(make_facts: Callable[..., DatasetFacts], tiny: Dataset) -> None:
    register_dataset(make_facts())

    @register_loader("tiny")
    def load(facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
        train, validation, test = (Split(part.images, part.labels) for _, part in tiny.splits())
        return make_dataset(facts, train=train, validation=validation, test=test)

    assert load_dataset("tiny").digest == tiny.digest
    assert open_batches("tiny", SETTINGS, sizes=SplitSizes(train=8)).steps_per_epoch == 2


@pytest.mark.usefixtures("own_registries")
def test_the_loader_is_told_where_and_whether_to_download(
    make_facts: Callable[..., DatasetFacts], tiny: Dataset, tmp_path: Path
) -> None:
    register_dataset(make_facts())
    told: list[tuple[Path | None, bool]] = []

    @register_loader("tiny")
    def load(facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
        told.append((root, download))
        return tiny

    load_dataset("tiny")
    open_batches("tiny", SETTINGS, root=tmp_path, download=True)
    assert told == [(None, False), (tmp_path, True)]


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("register", [register_loader, register_source])
@pytest.mark.parametrize("name", ["fashion_mnist_mini", "imagenet"])
def test_a_second_loader_is_refused(register: Callable[[str], Callable[..., object]], name: str) -> None:
    with pytest.raises(DatasetError, match=f"'{name}' has two loaders"):
        register(name)(lambda *args, **options: None)


@pytest.mark.usefixtures("own_registries")
def test_a_file_based_set_opens_through_its_source_only(make_facts: Callable[..., DatasetFacts], tiny: Dataset) -> None:
    register_dataset(make_facts())

    @register_source("tiny")
    def opened(facts: DatasetFacts, settings: BatchSettings, *, root: Path | None, sizes: SplitSizes) -> BatchSource:
        return MemorySource(tiny, settings, sizes)

    assert open_batches("tiny", SETTINGS, sizes=SplitSizes(train=4)).num_images("train") == 4
    with pytest.raises(DatasetError, match="does not fit in memory"):
        load_dataset("tiny")


def test_unknown_names_are_refused() -> None:
    for opened in (lambda: load_dataset("fashion-mnist"), lambda: open_batches("fashion-mnist", SETTINGS)):
        with pytest.raises(UnknownNameError, match="fashion_mnist"):
            opened()


@pytest.mark.usefixtures("own_registries")
def test_facts_without_a_loader_are_said(make_facts: Callable[..., DatasetFacts]) -> None:
    register_dataset(make_facts())
    with pytest.raises(UnknownNameError, match="data set with a loader 'tiny'"):
        load_dataset("tiny")
