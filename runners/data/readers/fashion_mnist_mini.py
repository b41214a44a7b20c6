"""This module reads the embedded data set, a class-balanced part of Fashion-MNIST that comes with the code.

The file, its digest, its licence and the script that made it are in `runners/data/embedded`.

The format is one xz stream of a JSON header line and raw arrays, without any pickle. The header names the image shape
and the splits with their sizes. Then follow, split by split, pixels (uint8), labels (uint8) and each image's index in
the set it was drawn from (uint32, little-endian). Legend: N images, C, H, W.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError
from runners.data.registry import register_loader
from runners.data.splits import Dataset, Split, make_dataset

EMBEDDED_FILE = Path(__file__).parent.parent / "embedded" / "fashion_mnist_mini.xz"
_REMEDY = "It is part of this project: get it again with `git checkout` or by installing the package again."


@register_loader("fashion_mnist_mini")
def load_fashion_mnist_mini(facts: DatasetFacts, *, root: Path | None, download: bool) -> Dataset:
    """Read the embedded images, which lie beside the code; `root` and `download` are ignored.

    Raises:
        DatasetError: The file is missing or corrupt.
    """
    splits: dict[str, Split] = {}
    for name, strip in read_embedded(EMBEDDED_FILE).items():
        labels = torch.from_numpy(strip.labels.astype(np.int64))
        splits[name] = Split(torch.from_numpy(strip.images.copy()), labels)
    return make_dataset(facts, train=splits["train"], validation=splits["validation"], test=splits["test"])


def read_embedded(path: Path) -> dict[str, StripSplit]:
    """Read a strip after checking it against the digest in the `.sha256` file beside it.

    Returns:
        The splits `train`, `validation` and `test` with each image's index in Fashion-MNIST's training or test set.

    Raises:
        DatasetError: A file is missing, or the strip is corrupt; the message names expected and found SHA-256.
    """
    try:
        packed = path.read_bytes()
        expected = path.with_suffix(".sha256").read_text(encoding="ascii", errors="replace").partition(" ")[0]
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}. {_REMEDY}") from error
    digest = hashlib.sha256(packed).hexdigest()
    if digest != expected:
        raise DatasetError(f"{path} is corrupt: expected SHA-256 {expected}, found {digest}. {_REMEDY}")
    try:
        return decode_strip(packed)
    except ValueError as error:
        raise DatasetError(f"{path} (SHA-256 {digest}) is not an image strip: {error}. {_REMEDY}") from error


FORMAT = "dyconv-ablations image strip 1"
# Fixed, because liblzma's presets may change: the same arrays must give the same bytes. lc=4 suits pixels best.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 4, "lp": 0, "pb": 2, "dict_size": 1 << 24}]
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class StripSplit:
    """One split: images (N, C, H, W) uint8, labels (N,) uint8, source_index (N,) uint32."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    source_index: npt.NDArray[np.uint32]


def encode_strip(splits: Mapping[str, StripSplit]) -> bytes:
    """Pack splits of one image shape; the same splits give the same bytes."""
    shapes = {split.images.shape[1:] for split in splits.values()}
    (shape,) = shapes
    header = {
        "format": FORMAT,
        "image_shape": list(shape),
        "splits": {name: len(split.labels) for name, split in splits.items()},
    }
    pieces = [json.dumps(header).encode() + b"\n"]
    for split in splits.values():
        pieces += [split.images.tobytes(), split.labels.tobytes(), split.source_index.astype("<u4").tobytes()]
    return lzma.compress(b"".join(pieces), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=_FILTERS)


def decode_strip(packed: bytes) -> dict[str, StripSplit]:
    """Unpack the bytes that `encode_strip` made.

    Raises:
        ValueError: The bytes are not such a file, or not a whole one.
    """
    try:
        # At most 1 GiB, so that a crafted file cannot fill the memory.
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
        content = unpacker.decompress(packed, max_length=_MAX_BYTES)
    except lzma.LZMAError as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error
    if not unpacker.eof:
        raise ValueError("its compressed stream ends early")
    line, _, body = content.partition(b"\n")
    shape, sizes = _parse_header(line)
    # Pixels, one byte of label, four bytes of index.
    per_image = math.prod(shape) + 1 + 4
    if len(body) != per_image * sum(sizes.values()):
        raise ValueError(f"it holds {len(body):,} bytes, its header says {per_image * sum(sizes.values()):,}")
    splits, start = {}, 0
    for name, size in sizes.items():
        splits[name] = _read_split(body[start : start + per_image * size], size, shape)
        start += per_image * size
    return splits


def _parse_header(line: bytes) -> tuple[tuple[int, ...], dict[str, int]]:
    try:
        header = json.loads(line)
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}, expected {FORMAT!r}")
        return tuple(header["image_shape"]), dict(header["splits"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError("it has no readable header") from error


def _read_split(content: bytes, size: int, shape: tuple[int, ...]) -> StripSplit:
    pixels = size * math.prod(shape)
    return StripSplit(
        images=np.frombuffer(content[:pixels], dtype=np.uint8).reshape(size, *shape),
        labels=np.frombuffer(content[pixels : pixels + size], dtype=np.uint8),
        source_index=np.frombuffer(content[pixels + size :], dtype="<u4").astype(np.uint32),
    )
