"""This module makes the bytes of a bundle from its files, and says which part of the bundle a byte belongs to.

Files are stored and not compressed: two versions of zlib may compress the same text to other bytes, and what is not
compressed cannot unpack to more than it is. All that a zip says beside names and contents (times, permissions, the
system) is fixed. So the same files are the same bytes on every machine, and a reader can make them again to compare.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# The earliest that a zip can state (APPNOTE 4.4.6): the time of packing would make each bundle another file.
_TIME = (1980, 1, 1, 0, 0, 0)
# The version of the creating system would differ between Windows and Linux otherwise (APPNOTE 4.4.2).
_UNIX = 3
_PERMISSIONS = 0o100644
_LOCAL_HEADER = 30
"""Bytes of a local header before the name (APPNOTE 4.3.7)."""
_DIRECTORY_HEADER = 46
"""Bytes of an entry of the central directory before the name (APPNOTE 4.3.12)."""


@dataclass(frozen=True)
class Region:
    """A part of a bundle's bytes, from `start` to before `stop`.

    Attributes:
        name: The part in words.
        file: The file that it belongs to, or empty.
        is_content: True for the content of that file.
    """

    name: str
    start: int
    stop: int
    file: str = ""
    is_content: bool = False


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the zip that holds these files in their order; names must be ASCII."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = _UNIX
            # Unix permissions are the upper two bytes of this field.
            entry.external_attr = _PERMISSIONS << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def offsets(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return where the content of each file begins in the zip of files of these sizes, in their order."""
    starts = {}
    position = 0
    for name, size in sizes.items():
        starts[name] = position + content_offset(name)
        position = starts[name] + size
    return starts


def content_offset(name: str) -> int:
    """Return the number of bytes between the beginning of a file's local header and its content."""
    # No extra field follows the name, as sizes and offsets stay below 4 GiB and no zip64 record is needed.
    return _LOCAL_HEADER + len(name)


def packed_size(sizes: Mapping[str, int]) -> int:
    """Return the size of the zip of files of these sizes."""
    return _directory_start(sizes) + sum(_DIRECTORY_HEADER + len(name) for name in sizes) + _END_RECORD


_END_RECORD = 22
"""Bytes of the end record, without a comment (APPNOTE 4.3.16)."""


def _directory_start(sizes: Mapping[str, int]) -> int:
    return sum(content_offset(name) + size for name, size in sizes.items())


def regions(sizes: Mapping[str, int]) -> Iterator[Region]:
    """Yield all parts of the zip of files of these sizes, from its first byte to its last."""
    for name, start in offsets(sizes).items():
        yield Region(f"the header of {name}", start - content_offset(name), start, name)
        yield Region(name, start, start + sizes[name], name, is_content=True)
    position = _directory_start(sizes)
    for name in sizes:
        stop = position + _DIRECTORY_HEADER + len(name)
        yield Region(f"the zip's directory, at {name}", position, stop, name)
        position = stop
    yield Region("the end record of the zip", position, position + _END_RECORD)
