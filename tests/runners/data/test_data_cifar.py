"""CIFAR: small files of its format, what is said of missing, torn and foreign ones, the split, the download."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets as torchvision_datasets

from ablations.datasets import registry
from ablations.datasets.registry import facts_of
from ablations.errors import DatasetError
from runners.data import load_dataset
from runners.data.readers import cifar
from runners.data.readers.cifar import FILES, read_batch
from tests.runners.data.cifar_files import batch, python2_pickle, write_cifar

Writer = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """Writes a small `cifar10` or `cifar100` and has its sums and sizes expected; returns the folder around it."""

    def make(name: str) -> Path:
        facts = facts_of(name)
        counts = {"train_images": 300, "validation_images": 100, "test_images": 200}
        monkeypatch.setitem(registry.DATASETS, name, dataclasses.replace(facts, digest=None, **counts))
        written = write_cifar(tmp_path / "files", FILES[name], (400, 200), facts.num_classes)
        monkeypatch.setitem(FILES, name, written)
        return tmp_path / "files"

    return make


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_images_and_labels_are_those_of_the_files_in_three_disjoint_splits(write: Writer, name: str) -> None:
    root = write(name)
    dataset = load_dataset(name, root=root)
    files, wanted = FILES[name], {}
    for part in (*files.train, *files.test):
        loaded = pickle_of(root / files.folder / part)
        for row, label in zip(loaded[b"data"], loaded[files.labels], strict=True):
            wanted[row.tobytes()] = (part in files.test, label)
    assert len(wanted) == 600
    found = {}
    for split_name, split in dataset.splits():
        for image, label in zip(split.images, split.labels, strict=True):
            found[image.numpy().tobytes()] = (split_name == "test", int(label))
    assert found == wanted
    assert [len(split) for _, split in dataset.splits()] == [300, 100, 200]
    per_class = 100 // dataset.facts.num_classes
    assert dataset.validation.labels.bincount().tolist() == [per_class] * dataset.facts.num_classes
    assert dataset.train.images.shape[1:] == (3, 32, 32)


def pickle_of(path: Path) -> dict[bytes, Any]:
    """Reads a file of the tests' own with the standard library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded: dict[bytes, Any] = pickle.loads(path.read_bytes(), encoding="bytes")
    return loaded


def test_the_folder_itself_can_be_named(write: Writer) -> None:
    root = write("cifar10")
    inner = load_dataset("cifar10", root=root / FILES["cifar10"].folder)
    assert inner.digest == load_dataset("cifar10", root=root).digest


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_registered_digest_is_that_of_the_publishers_sums_as_torchvision_has_them(name: str) -> None:
    files = FILES[name]
    published = getattr(torchvision_datasets, files.torchvision)
    assert files.folder == published.base_folder
    assert [[name, md5] for name, md5 in files.train.items()] == published.train_list
    assert [[name, md5] for name, md5 in files.test.items()] == published.test_list
    assert facts_of(name).digest == files.digest


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_missing_set_names_places_and_remedies(nowhere: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset("cifar100", root=nowhere / "mine")
    for part in (
        "CIFAR-100 was not found",
        str(nowhere / "mine" / "cifar-100-python"),
        "data.root",
        "data.download=true",
    ):
        assert part in str(caught.value)
    with pytest.raises(DatasetError, match=r"runs/data/cifar-10-batches-py\. What to do"):
        load_dataset("cifar10")


def test_an_incomplete_set_names_what_it_lacks(write: Writer) -> None:
    root = write("cifar10")
    (root / "cifar-10-batches-py" / "data_batch_3").unlink()
    (root / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(DatasetError, match=r"lacks data_batch_3 and test_batch\. What to do"):
        load_dataset("cifar10", root=root)


def test_a_torn_file_names_itself_and_the_sums(write: Writer) -> None:
    root = write("cifar100")
    path = root / "cifar-100-python" / "test"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatasetError) as caught:
        load_dataset("cifar100", root=root)
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    for part in (str(path), FILES["cifar100"].test["test"], found, "5,000 bytes"):
        assert part in str(caught.value)


def read(path: Path, content: bytes) -> object:
    path.write_bytes(content)
    return read_batch(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), b"labels", 10)


GOOD = batch(4, 10)


def test_a_batch_keeps_the_order_of_the_planes(tmp_path: Path) -> None:
    split = read(tmp_path / "batch", python2_pickle(GOOD))
    assert torch.equal(split.images[2, 1, 3], torch.from_numpy(GOOD[b"data"][2, 1024 + 96 : 1024 + 128]))  # type: ignore[attr-defined]


class Executes:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_even_with_the_right_sum_a_file_executes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    with pytest.raises(DatasetError, match=r"no batch of CIFAR images: it names .*, which plain data does not need"):
        read(tmp_path / "batch", pickle.dumps({b"data": Executes(target)}, 2))
    assert not target.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({b"labels": [0, 1, 2]}, "it has 4 images and 3 labels"),
        ({b"labels": [0, 1, 2, 10]}, "its labels run from 0 to 10, expected 0 to 9"),
        ({b"labels": [0, 1, 2, -1]}, "its labels run from -1 to 2"),
        ({b"labels": [0, 1, 2, b"cat"]}, "its labels are no list of numbers"),
        ({b"labels": b"0123"}, "its labels are no list of numbers"),
        ({b"data": np.zeros((4, 3000), np.uint8)}, "rows of 3,072 pixels"),
        ({b"data": [1, 2]}, "rows of 3,072 pixels"),
    ],
)
def test_a_file_that_holds_something_else_is_explained(tmp_path: Path, changes: dict[bytes, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path / "batch", python2_pickle({**GOOD, **changes}))


class FakeDownload:
    """Stands in for torchvision's function: notes what is asked, and unpacks nothing or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, url: str, root: str, *, filename: str, md5: str) -> None:
        self.asked.append((url, root, filename, md5))
        if self.error:
            raise self.error


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDownload:
    download = FakeDownload()
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", download)
    return download


def test_nothing_is_downloaded_unasked_or_when_it_is_there(write: Writer, nowhere: Path, fake: FakeDownload) -> None:
    with pytest.raises(DatasetError, match="was not found"):
        load_dataset("cifar10", root=nowhere)
    load_dataset("cifar10", root=write("cifar10"), download=True)
    assert fake.asked == []


def test_a_download_asked_for_is_verified_and_made_where_it_is_looked_for(nowhere: Path, fake: FakeDownload) -> None:
    facts = facts_of("cifar10")
    assert cifar.find_cifar(facts, nowhere, download=True) == nowhere / "cifar-10-batches-py"
    archive = ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", str(nowhere), "cifar-10-python.tar.gz")
    assert fake.asked == [(*archive, "c58f30108f718f92721af3b95e74349a")]


def test_a_failed_download_is_a_plain_error(nowhere: Path, fake: FakeDownload) -> None:
    fake.error = OSError("no route to host")
    with pytest.raises(DatasetError, match=r"could not be downloaded .* no route to host.*data\.root"):
        load_dataset("cifar10", root=nowhere, download=True)
