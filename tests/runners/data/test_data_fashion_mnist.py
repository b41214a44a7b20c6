"""Fashion-MNIST: where it is looked for, what is said when it is not there, the split, and the download on request."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision

from ablations.errors import DatasetError
from runners.data import load_dataset
from runners.data.readers import fashion_mnist
from runners.data.readers.idx import IdxFile

DEBIAN_FOLDER = fashion_mnist.DEBIAN_FOLDER
FILES = (*fashion_mnist.TRAIN_FILES, *fashion_mnist.TEST_FILES)
needs_debian = pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs `apt install dataset-fashion-mnist`")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without any of the places where the set may be."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_files(folder: Path, files: tuple[IdxFile, ...] = FILES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / f"{file.stem}.gz").write_bytes(b"")


@needs_debian
def test_the_debian_package_gives_the_registered_set() -> None:
    dataset = load_dataset("fashion_mnist")
    assert dataset.digest == dataset.facts.digest
    assert [split.labels.bincount().tolist() for _, split in dataset.splits()] == [[5500] * 10, [500] * 10, [1000] * 10]


def test_a_missing_set_names_places_and_three_remedies(nowhere: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset("fashion_mnist", root=nowhere / "mine")
    message = str(caught.value)
    for place in ("mine", "debian", "mine/FashionMNIST/raw"):
        assert str(nowhere / place) in message
    for remedy in ("data.root", "apt install dataset-fashion-mnist", "torchvision download"):
        assert remedy in message


def test_without_a_root_the_download_folder_is_in_runs(nowhere: Path) -> None:
    with pytest.raises(DatasetError, match="runs/data/FashionMNIST/raw"):
        load_dataset("fashion_mnist")
    put_files(nowhere / "runs/data/FashionMNIST/raw")
    assert fashion_mnist.find_fashion_mnist(None, download=False) == Path("runs/data/FashionMNIST/raw")


def test_the_users_folder_comes_first_then_debian_then_the_download(nowhere: Path) -> None:
    root = nowhere / "mine"
    for folder in (root / "FashionMNIST" / "raw", nowhere / "debian", root):
        put_files(folder)
        assert fashion_mnist.find_fashion_mnist(root, download=False) == folder


def test_an_incomplete_folder_names_what_it_lacks(nowhere: Path) -> None:
    put_files(nowhere / "mine", FILES[:2])
    with pytest.raises(DatasetError, match="mine lacks t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"):
        load_dataset("fashion_mnist", root=nowhere / "mine")


def test_a_corrupt_file_names_itself_and_the_digests(nowhere: Path) -> None:
    put_files(nowhere)
    content = struct.pack(">IIII", 0x0803, 60_000, 28, 28)
    path = nowhere / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DatasetError) as caught:
        load_dataset("fashion_mnist", root=nowhere)
    found = hashlib.sha256(content).hexdigest()
    for part in (str(path), f"Expected SHA-256 {FILES[0].sha256}", f"found {found}", "ends after 16 of"):
        assert part in str(caught.value)


class FakeDownload:
    """Stands in for torchvision's class: notes what is asked and puts files there, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, [""]

    def __call__(self, root: str, *, train: bool, download: bool) -> None:
        self.asked.append(root)
        if self.error:
            raise self.error
        put_files(Path(root) / "FashionMNIST" / "raw")


def test_nothing_is_downloaded_unasked(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDownload()
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fake)
    with pytest.raises(DatasetError, match="not found"):
        load_dataset("fashion_mnist", root=nowhere)
    assert fake.asked == [""]


@pytest.mark.parametrize("present", [0, 3], ids=["nothing there", "a torn download there"])
def test_a_download_asked_for_is_made_where_it_is_looked_for(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, present: int
) -> None:
    put_files(nowhere / "FashionMNIST" / "raw", FILES[:present])
    fake = FakeDownload()
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fake)
    assert fashion_mnist.find_fashion_mnist(nowhere, download=True) == nowhere / "FashionMNIST" / "raw"
    assert fake.asked[1:] == [str(nowhere)]


def test_a_failed_download_is_a_plain_error(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", FakeDownload(OSError("no route to host")))
    with pytest.raises(DatasetError, match=r"could not be downloaded .* no route to host.*apt install"):
        load_dataset("fashion_mnist", root=nowhere, download=True)


def test_a_set_that_is_there_is_not_downloaded_again(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_files(nowhere)
    fake = FakeDownload()
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fake)
    assert fashion_mnist.find_fashion_mnist(nowhere, download=True) == nowhere
    assert fake.asked == [""]


def test_images_and_labels_are_paired(tmp_path: Path) -> None:
    pixels = np.arange(3 * 28 * 28).astype(np.uint8).reshape(3, 28, 28)
    files = []
    for stem, values in (("a", pixels), ("b", np.array([2, 0, 1], np.uint8))):
        content = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()
        (tmp_path / stem).write_bytes(content)
        files.append(IdxFile(stem, values.shape, hashlib.sha256(content).hexdigest()))
    split = fashion_mnist.read_pair(tmp_path, (files[0], files[1]))
    np.testing.assert_array_equal(split.images.numpy()[:, 0], pixels)
    assert split.labels.tolist() == [2, 0, 1]
