"""This module reads IDX files (the MNIST format), plain or gzipped, into numpy arrays and checks their digests.

Digests are of the decompressed content, because archives that pack the same content differ. No torch here.
Source of the format: https://yann.lecun.com/exdb/mnist (bottom of the page).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ablations.errors import DatasetError

ENDINGS = ("", ".gz")
"""Endings of an IDX file's name: plain, or packed."""

_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True)
class IdxFile:
    """The expected content of an IDX file.

    Attributes:
        stem: File name without `.gz`.
        shape: Dimensions of the array, for example (60000, 28, 28).
        sha256: SHA-256 (hexadecimal) of the decompressed content.
    """

    stem: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def num_bytes(self) -> int:
        """Size of the decompressed content: magic number, one 32-bit size per dimension, values."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    def find(self, folder: Path) -> Path | None:
        """Return the plain or else the gzipped file in `folder`, or None."""
        candidates = (folder / f"{self.stem}{ending}" for ending in ENDINGS)
        return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path, expected: IdxFile) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Returns:
        A read-only array of shape `expected.shape`.

    Raises:
        DatasetError: The file cannot be read or decompressed, or differs from the expected content; the message names
            the file, the expected and the found SHA-256.
    """
    content = _read_content(path, expected)
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected.sha256:
        raise _corrupt(path, expected, _fault(content, expected), digest)
    # The digest fits: only an `expected` with a wrong shape can be at fault.
    fault = _fault(content, expected)
    if fault is not None:
        raise _corrupt(path, expected, fault, digest)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(expected.shape)).reshape(expected.shape)


def _read_content(path: Path, expected: IdxFile) -> bytes:
    # One byte more than expected shows that a file is longer, and a gzip bomb is not unpacked any further.
    limit = expected.num_bytes + 1
    try:
        if path.suffix != ".gz":
            with path.open("rb") as plain:
                return plain.read(limit)
        with gzip.open(path, "rb") as packed:
            return packed.read(limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        digest = f"{hashlib.sha256(path.read_bytes()).hexdigest()} (of the packed file)"
        raise _corrupt(path, expected, f"it cannot be decompressed ({error})", digest) from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error


def _fault(content: bytes, expected: IdxFile) -> str | None:
    # Two zero bytes, the type of the values, the number of dimensions; then one big-endian size per dimension.
    magic = struct.pack(">HBB", 0, _UNSIGNED_BYTE, len(expected.shape))
    if content[:4] != magic:
        return f"its magic number is 0x{content[:4].hex()}, expected 0x{magic.hex()}"
    header = content[4 : 4 + 4 * len(expected.shape)]
    shape = struct.unpack(f">{len(header) // 4}I", header[: len(header) // 4 * 4])
    if shape != expected.shape:
        return f"its header says {_sizes(shape)}, expected {_sizes(expected.shape)}"
    if len(content) < expected.num_bytes:
        return f"it ends after {len(content):,} of {expected.num_bytes:,} bytes"
    if len(content) > expected.num_bytes:
        return f"it is longer than {expected.num_bytes:,} bytes"
    return None


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "nothing"


def _corrupt(path: Path, expected: IdxFile, fault: str | None, digest: str) -> DatasetError:
    return DatasetError(
        f"{path} is corrupt: {fault or 'its values differ'}. Expected SHA-256 {expected.sha256} of the "
        f"decompressed content, found {digest}. Remove the file and fetch it again."
    )
