"""This module reads bundles and checks that they are the bytes that were packed, naming each part that is not.

A bundle comes from anywhere: nothing is unpacked to the disk, sizes are limited before anything is read, and a broken
file is an error or a difference in words.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ablations.errors import BundleError
from ablations.visible import visible
from reports.archive import layout, listing
from reports.archive.listing import LARGEST, Listing

_HEADER = b"PK\x03\x04"
_LISTING_START = b'bundle.json{"about":'
# The list ends with a line break, and the header of the next file follows at once.
_LISTING_STOP = b"}\n" + _HEADER
_SIZE_OFFSET = 22
"""The size of a file in its local header (APPNOTE 4.3.7)."""
_NAMED = 20
"""At most so many differences of one kind are named one by one."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose bytes were checked.

    Attributes:
        path: The file that it was read from, for messages.
        sha256: SHA-256 of the whole file.
        size: Bytes of the whole file.
    """

    path: Path
    listing: Listing
    sha256: str
    size: int
    _files: Mapping[str, bytes]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its files in their order, without `bundle.json`."""
        return tuple(self._files)

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            BundleError: If it has no such file.
        """
        if name not in self._files:
            raise BundleError(f"the bundle {self.path} has no {name}. Make it again with `bundle`.")
        return self._files[name]


def make_bundle(files: Mapping[str, bytes], about: Mapping[str, object]) -> bytes:
    """Return the bytes of the bundle of these files, `bundle.json` first and the others by name."""
    # The order of a dictionary depends on how it was filled, and the bytes must depend on its content alone.
    ordered = {name: files[name] for name in sorted(files)}
    return layout.pack({listing.NAME: listing.listing_text(ordered, about), **ordered})


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file that may be a bundle.

    Raises:
        BundleError: If it cannot be read, or is larger than any bundle.
    """
    try:
        # The size is asked of the file system first: what is too large must not be read to find that out.
        if path.stat().st_size > LARGEST:
            raise BundleError(f"{path} is larger than any bundle ({LARGEST >> 20:,} MiB). It is not read.")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}.") from None


def open_bundle(path: Path) -> Bundle:
    """Return the bundle in a file.

    Raises:
        BundleError: If it cannot be read, is no bundle, or was changed.
    """
    bundle, differences = check_bundle(path)
    if bundle is None or differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        first = differences[0].rstrip(".")
        raise BundleError(f"the bundle {path} is not as it was packed: {first}{more}. Get an unchanged copy.")
    return bundle


def check_bundle(path: Path) -> tuple[Bundle | None, tuple[str, ...]]:
    """Return the bundle in a file, and a line for each part that is not as it was packed.

    There is no bundle if its list cannot be read. With differences, its files are those that stand where the list says.

    Raises:
        BundleError: If the file cannot be read, or is larger than any bundle.
    """
    data = read_bytes(path)
    contents, text, problem = _find_listing(data)
    if contents is None:
        # A damaged bundle and a file of another kind need different help: get a copy, or name the right file.
        if not data.startswith(_HEADER) and _LISTING_START not in data:
            return None, (f"the file is no bundle: it does not begin with {listing.NAME}.",)
        return None, (problem,)
    sizes = {listing.NAME: len(text), **contents.sizes}
    files = {}
    # Places follow from the list, whose digest was checked, and never from the zip's own directory.
    for name, start in layout.offsets(sizes).items():
        files[name] = data[start : start + sizes[name]]
    bundle = Bundle(path, contents, hashlib.sha256(data).hexdigest(), len(data), _without_listing(files))
    # Of the right length, every byte has its place; of another, files stand elsewhere and regions say nothing.
    if len(data) == layout.packed_size(sizes):
        return bundle, tuple(_changed_regions(data, files, contents, sizes))
    return bundle, tuple(_moved(data, contents, sizes))


def _without_listing(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != listing.NAME}


def _find_listing(data: bytes) -> tuple[Listing | None, bytes, str]:
    """Return the list of a bundle and its bytes, or `None` and the reason why it cannot be read."""
    problems = []
    for text in _listing_candidates(data):
        try:
            return listing.read_listing(text), text, ""
        except BundleError as error:
            problems.append(str(error))
    # The first candidate is where an undamaged bundle has its list, so that its problem is the one to tell.
    return None, b"", problems[0]


def _listing_candidates(data: bytes) -> Iterator[bytes]:
    """Yield what may be the bytes of `bundle.json`, so that it is found where the zip around it is damaged, too."""
    start = layout.content_offset(listing.NAME)
    # As its header says.
    yield data[start : start + int.from_bytes(data[_SIZE_OFFSET : _SIZE_OFFSET + 4], "little")]
    # To where the next file begins: canonical JSON has no line break within.
    yield data[start : data.find(_LISTING_STOP, start) + 2]
    # Behind its name, if something was put in front of the whole file.
    start = data.find(_LISTING_START) + len(listing.NAME)
    yield data[start : data.find(_LISTING_STOP, start) + 2]


def _changed_regions(
    data: bytes, files: Mapping[str, bytes], contents: Listing, sizes: Mapping[str, int]
) -> Iterator[str]:
    """Yield a line for each part of the zip that is not what its list and its files make."""
    changed = []
    for name, content in _without_listing(files).items():
        if hashlib.sha256(content).hexdigest() != contents.files[name].sha256:
            changed.append(name)
            yield f"{name} was changed: its SHA-256 is not that in {listing.NAME}"
    # Packed anew, the file shows any change outside of contents: of times, permissions, comments, bytes between files.
    expected = layout.pack(files)
    if expected == data:
        return
    for region in layout.regions(sizes):
        # The checksum in the headers of a changed file follows from its content.
        if region.file in changed or region.is_content:
            continue
        if data[region.start : region.stop] != expected[region.start : region.stop]:
            yield f"{region.name} was changed: it is not what `bundle` writes"


def _moved(data: bytes, contents: Listing, sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield the differences of a file that is longer or shorter than its list makes it."""
    expected = layout.packed_size(sizes)
    if len(data) < expected:
        yield f"{expected - len(data):,} bytes are missing: the list makes {expected:,}, the file has {len(data):,}"
    else:
        yield f"{len(data) - expected:,} bytes were added: the list makes {expected:,}, the file has {len(data):,}"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            lines = list(_unlike_listing(archive, contents))
    except Exception as error:  # zipfile raises whatever a broken file makes it stumble over
        lines = [f"the zip's directory cannot be read ({type(error).__name__})"]
    # A file that somebody made may hold a million names.
    yield from lines[:_NAMED]
    if len(lines) > _NAMED:
        yield f"… and {len(lines) - _NAMED} more files"


def _unlike_listing(archive: zipfile.ZipFile, contents: Listing) -> Iterator[str]:
    # Counted once: somebody may have packed a million names.
    names = Counter(archive.namelist())
    # A zip may hold a name twice, of which programs unpack one or the other.
    for name, count in names.items():
        if name not in contents.files and name != listing.NAME:
            yield f"{visible(name, lines=False)[:80]} was added"
        elif count > 1:
            yield f"{name} is there {count} times"
    for name, file in contents.files.items():
        if name not in names:
            yield f"{name} was removed"
            continue
        entry = archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            # What is compressed is not unpacked: it may be larger than all memory.
            yield f"{name} is compressed, so that another program has packed the bundle anew"
        elif entry.file_size != file.size or hashlib.sha256(archive.read(name)).hexdigest() != file.sha256:
            yield f"{name} was changed: its SHA-256 is not that in {listing.NAME}"
