"""IDX files: reading plain and gzipped ones, and every way in which one can be broken."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ablations.errors import DatasetError
from runners.data.readers.idx import IdxFile, read_idx

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = struct.pack(">IIII", 0x0803, 2, 3, 4) + VALUES.tobytes()
EXPECTED = IdxFile("some-idx3-ubyte", (2, 3, 4), hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("name", ["some-idx3-ubyte", "some-idx3-ubyte.gz"])
def test_plain_and_gzipped_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(CONTENT) if name.endswith("gz") else CONTENT)
    path = EXPECTED.find(tmp_path)
    assert path == tmp_path / name
    np.testing.assert_array_equal(read_idx(path, EXPECTED), VALUES)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert EXPECTED.find(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\x08\x01" + CONTENT[4:], "magic number is 0x00000801, expected 0x00000803"),
        (CONTENT[:4] + struct.pack(">III", 9, 3, 4) + CONTENT[16:], "header says 9 x 3 x 4, expected 2 x 3 x 4"),
        (CONTENT[:-5], "ends after 35 of 40 bytes"),
        (CONTENT + b"x", "longer than 40 bytes"),
        (CONTENT[:-1] + b"x", "values differ"),
        (CONTENT[:7], "header says nothing"),
        (b"", "magic number is 0x,"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_wrong_content_names_file_reason_and_digests(tmp_path: Path, content: bytes, reason: str, packed: bool) -> None:
    path = tmp_path / (EXPECTED.stem + ".gz" * packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DatasetError) as caught:
        read_idx(path, EXPECTED)
    for part in (str(path), reason, EXPECTED.sha256, f"found {hashlib.sha256(content).hexdigest()}"):
        assert part in str(caught.value)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


PACKED = gzip.compress(CONTENT)


@pytest.mark.parametrize(
    "packed",
    [PACKED[:-12], PACKED[:5], b"not gzip at all", flipped(PACKED, -10 + len(PACKED)), flipped(PACKED, 12)],
    ids=["truncated", "header cut", "no gzip", "late bit flip", "early bit flip"],
)
def test_a_broken_gzip_names_file_and_digests(tmp_path: Path, packed: bytes) -> None:
    path = tmp_path / "some-idx3-ubyte.gz"
    path.write_bytes(packed)
    with pytest.raises(DatasetError, match="corrupt") as caught:
        read_idx(path, EXPECTED)
    assert str(path) in str(caught.value)
    assert EXPECTED.sha256 in str(caught.value)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "some-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(CONTENT + bytes(50_000_000), compresslevel=1))
    with pytest.raises(DatasetError, match="longer than 40 bytes") as caught:
        read_idx(path, EXPECTED)
    assert hashlib.sha256(CONTENT + b"\0").hexdigest() in str(caught.value)


def test_an_unreadable_file_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "some-idx3-ubyte"
    folder.mkdir()
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        read_idx(folder, EXPECTED)


def test_a_known_digest_of_a_wrong_shape_is_still_refused(tmp_path: Path) -> None:
    path = tmp_path / "some-idx3-ubyte"
    path.write_bytes(CONTENT)
    with pytest.raises(DatasetError, match="header says"):
        read_idx(path, replace(EXPECTED, shape=(2, 4, 3)))
