"""The embedded images: content, balance, disjoint splits, corruption, and that the script makes them again."""

from __future__ import annotations

import hashlib
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ablations.datasets.registry import facts_of
from ablations.errors import DatasetError
from runners.data import load_dataset
from runners.data.embedded import make_fashion_mnist_mini as script
from runners.data.readers.fashion_mnist import DEBIAN_FOLDER, TEST_FILES, TRAIN_FILES, read_pair
from runners.data.readers.fashion_mnist_mini import EMBEDDED_FILE, StripSplit, decode_strip, encode_strip, read_embedded

needs_debian = pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs `apt install dataset-fashion-mnist`")


def test_it_is_what_the_facts_say() -> None:
    facts, dataset = facts_of("fashion_mnist_mini"), load_dataset("fashion_mnist_mini")
    assert dataset.digest == facts.digest
    for (_, split), count in zip(dataset.splits(), (8_000, 1_000, 3_000), strict=True):
        assert tuple(split.images.shape) == (count, 1, 28, 28)
        assert split.labels.bincount().tolist() == [count // 10] * 10
    pixels = dataset.train.images.double() / 255
    torch.testing.assert_close(dataset.mean.double(), pixels.mean().view(1))
    torch.testing.assert_close(dataset.std.double(), pixels.std(correction=0).view(1))


def test_training_and_validation_images_are_different_ones() -> None:
    parts = read_embedded(EMBEDDED_FILE)
    train, validation = (set(parts[name].source_index.tolist()) for name in ("train", "validation"))
    assert (len(train), len(validation), len(set(parts["test"].source_index.tolist()))) == (8_000, 1_000, 3_000)
    assert not train & validation


@needs_debian
def test_images_and_labels_are_those_of_the_original_at_the_recorded_index() -> None:
    pool, test_pool = read_pair(DEBIAN_FOLDER, TRAIN_FILES), read_pair(DEBIAN_FOLDER, TEST_FILES)
    for name, part in read_embedded(EMBEDDED_FILE).items():
        original, index = (test_pool if name == "test" else pool), part.source_index.astype(np.int64)
        np.testing.assert_array_equal(part.images, original.images.numpy()[index])
        np.testing.assert_array_equal(part.labels, original.labels.numpy()[index])


@needs_debian
@pytest.mark.torture
def test_the_script_makes_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fashion_mnist_mini.xz"
    assert script.main(["--source", str(DEBIAN_FOLDER), "--out", str(out)]) == 0
    assert out.read_bytes() == EMBEDDED_FILE.read_bytes()
    assert out.with_suffix(".sha256").read_text() == EMBEDDED_FILE.with_suffix(".sha256").read_text()
    printed = capsys.readouterr().out
    assert hashlib.sha256(out.read_bytes()).hexdigest() in printed
    assert "validation: 1,000 images" in printed


def test_the_script_says_what_it_misses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--source", str(tmp_path), "--out", str(tmp_path / "out.xz")]) == 1
    assert f"error: Fashion-MNIST in {tmp_path} lacks train-images-idx3-ubyte" in capsys.readouterr().err
    assert not (tmp_path / "out.xz").exists()


def test_the_file_is_small_and_licensed() -> None:
    assert EMBEDDED_FILE.stat().st_size < 5_000_000
    licence = (EMBEDDED_FILE.parent / "LICENSE-fashion-mnist.txt").read_text()
    assert "Zalando SE" in licence
    assert "Permission is hereby granted" in licence


@pytest.mark.parametrize("damage", ["truncated", "bit flip", "empty"])
def test_a_corrupt_file_names_itself_and_the_digests(tmp_path: Path, damage: str) -> None:
    packed = bytearray(EMBEDDED_FILE.read_bytes())
    if damage == "bit flip":
        packed[len(packed) // 2] ^= 1
    broken = {"truncated": bytes(packed[:-100]), "bit flip": bytes(packed), "empty": b""}[damage]
    path = tmp_path / EMBEDDED_FILE.name
    path.write_bytes(broken)
    expected = Path(shutil.copy(EMBEDDED_FILE.with_suffix(".sha256"), tmp_path)).read_text().split()[0]
    with pytest.raises(DatasetError) as caught:
        read_embedded(path)
    for part in (str(path), f"expected SHA-256 {expected}", f"found {hashlib.sha256(broken).hexdigest()}"):
        assert part in str(caught.value)


@pytest.mark.parametrize("suffix", [".xz", ".sha256"])
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    for name in {".xz", ".sha256"} - {suffix}:
        (tmp_path / "set").with_suffix(name).write_bytes(b"0")
    with pytest.raises(DatasetError, match=rf"set\{suffix} cannot be read: No such file"):
        read_embedded(tmp_path / "set.xz")


def small_strip() -> dict[str, StripSplit]:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 1, 3, 4)
    part = StripSplit(images, np.array([1, 0], np.uint8), np.array([70_000, 3], np.uint32))
    return {"train": part, "test": StripSplit(images[:1] + 1, part.labels[:1], part.source_index[:1])}


def test_a_strip_is_read_as_it_was_written() -> None:
    strip = small_strip()
    found = decode_strip(encode_strip(strip))
    assert list(found) == ["train", "test"]
    for name, part in strip.items():
        for field in ("images", "labels", "source_index"):
            np.testing.assert_array_equal(getattr(found[name], field), getattr(part, field))


def test_a_strip_that_is_none_is_a_plain_error(tmp_path: Path) -> None:
    whole = encode_strip(small_strip())
    for packed, reason in (
        (b"hello, world", "cannot be decompressed"),
        (whole[:-30], "ends early"),
        (lzma.compress(b"hello"), "no readable header"),
        (lzma.compress(b'{"format": "other"}\n'), "its format is 'other'"),
        (lzma.compress(lzma.decompress(whole)[:-1]), "its header says"),
    ):
        path = tmp_path / "set.xz"
        path.write_bytes(packed)
        path.with_suffix(".sha256").write_text(hashlib.sha256(packed).hexdigest())
        with pytest.raises(DatasetError, match=reason) as caught:
            read_embedded(path)
        assert str(path) in str(caught.value)
