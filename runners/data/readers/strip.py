"""The format of the embedded image files: one xz stream of a JSON header line and raw arrays; no pickle anywhere.

The header names the image shape and the splits with their sizes. Then follow, split by split, pixels (uint8), labels
(uint8) and each image's index in the set it was drawn from (uint32, little-endian). Legend: N images, C, H, W.
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    """Packs splits of one image shape; the same splits give the same bytes."""
    shapes = {split.images.shape[1:] for split in splits.values()}
    (shape,) = shapes
    header = {
        "format": FORMAT,
        "image_shape": list(shape),
        "splits": {name: len(split.labels) for name, split in splits.items()},
    }
    parts = [json.dumps(header).encode() + b"\n"]
    for split in splits.values():
        parts += [split.images.tobytes(), split.labels.tobytes(), split.source_index.astype("<u4").tobytes()]
    return lzma.compress(b"".join(parts), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=_FILTERS)


def decode_strip(packed: bytes) -> dict[str, StripSplit]:
    """Unpacks what `encode_strip` packed.

    Raises:
        ValueError: It is not such a file, or not a whole one.
    """
    try:
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
        content = unpacker.decompress(packed, max_length=_MAX_BYTES)
    except lzma.LZMAError as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error
    if not unpacker.eof:
        raise ValueError("its compressed stream ends early")
    line, _, body = content.partition(b"\n")
    shape, sizes = _parse_header(line)
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


def _read_split(part: bytes, size: int, shape: tuple[int, ...]) -> StripSplit:
    pixels = size * math.prod(shape)
    return StripSplit(
        images=np.frombuffer(part[:pixels], dtype=np.uint8).reshape(size, *shape),
        labels=np.frombuffer(part[pixels : pixels + size], dtype=np.uint8),
        source_index=np.frombuffer(part[pixels + size :], dtype="<u4").astype(np.uint32),
    )
