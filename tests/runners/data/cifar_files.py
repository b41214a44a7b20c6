"""Writes files like those of CIFAR's python version: pickles as Python 2 wrote them, protocol 2, with byte strings.

Python 3 writes byte strings and numpy arrays differently, so the opcodes are put together by hand here.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from runners.data.readers.cifar import CifarFiles


def python2_pickle(value: Any) -> bytes:
    """Returns `value` (dictionaries, lists, byte strings, integers, arrays of bytes) as Python 2 pickled it."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, bytes):
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, np.ndarray):
        return _array(value)
    return b"J" + struct.pack("<i", value)


def _array(values: np.ndarray) -> bytes:
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    name = values.dtype.str[1:].encode()
    kind = b"cnumpy\ndtype\n" + _opcodes(name) + b"K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2
    shape = b"(" + b"".join(_opcodes(size) for size in values.shape) + b"t"
    by_column = values.flags.f_contiguous and not values.flags.c_contiguous
    content = values.tobytes(order="F" if by_column else "C")
    return (
        empty + b"(K\x01" + shape + kind + b"K\x00tb" + (b"\x88" if by_column else b"\x89") + _opcodes(content) + b"tb"
    )


def batch(count: int, num_classes: int, *, first: int = 0, key: bytes = b"labels") -> dict[bytes, Any]:
    """Returns a batch of images whose pixels and labels follow from their running number."""
    generator = np.random.default_rng(first)
    return {
        b"batch_label": b"made by a test",
        key: [(first + i) % num_classes for i in range(count)],
        b"data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
        b"filenames": [b"image_%d.png" % (first + i) for i in range(count)],
    }


def write_cifar(root: Path, files: CifarFiles, sizes: tuple[int, int], num_classes: int) -> CifarFiles:
    """Writes a small data set into the folder `files` name and returns what describes it."""
    folder = root / files.folder
    folder.mkdir(parents=True)
    sums, first = {}, 0
    for name in (*files.train, *files.test):
        count = sizes[1] if name in files.test else sizes[0] // len(files.train)
        content = python2_pickle(batch(count, num_classes, first=first, key=files.labels))
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        first += count
    train, test = ({name: sums[name] for name in part} for part in (files.train, files.test))
    return CifarFiles(files.folder, train, test, files.labels, files.torchvision)
