"""`read_folder` reads a data set in folders before anything is trained, for the digest of all its files.

Every file is read and decoded once, see `ablations.datasets.contents`. Files that cannot be decoded are one error that
names them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ablations.datasets.contents import Content, memory_folders, read_contents
from ablations.datasets.folders import Listing, printable
from ablations.errors import DatasetError

READING = "pictures 1"
"""Part of every digest: raised when the same file is decoded to other pixels (`ablations.datasets.pictures`)."""

_MOST_NAMED = 20


@dataclass(frozen=True)
class FolderContent:
    """The files of a data set in folders, and the digest of their contents.

    Attributes:
        digest: SHA-256 of every file's path, content and class, and of the way pictures are decoded.
        repeated: Number of files of the test split that are in another split too, to the last byte.
    """

    listing: Listing
    digest: str
    repeated: int = 0


def read_folder(name: str, listing: Listing) -> FolderContent:
    """Read the files of a data set.

    Raises:
        DatasetError: Files cannot be read or decoded; the message names them, up to a number.
    """
    root = listing.train.root
    paths: list[str] = []
    for files in listing.splits():
        paths += files.paths
    contents = read_contents(root, paths, memory_folders())
    _check_faults(name, root, contents)
    # The test split is the last; the others are trained on or selected by.
    digests = {contents[path].sha256 for path in paths[: -len(listing.test)]}
    repeated = sum(contents[path].sha256 in digests for path in listing.test.paths)
    return FolderContent(listing, digest_of(listing, contents), repeated)


def digest_of(listing: Listing, contents: Mapping[str, Content]) -> str:
    """Return the SHA-256 that names a data set in any folder: of each file's path below it, bytes and class."""
    entries = []
    for files in listing.splits():
        for path, label in zip(files.paths, files.labels, strict=True):
            entries.append(f"{path}\0{contents[path].sha256}\0{files.class_names[label]}\n")
    # Sorted, so that the digest does not depend on the order of the splits; a null byte cannot be in a path.
    total = hashlib.sha256(f"{READING}\n".encode())
    for entry in sorted(entries):
        total.update(entry.encode(errors="surrogateescape"))
    return total.hexdigest()


def _check_faults(name: str, root: Path, contents: Mapping[str, Content]) -> None:
    faults = [(path, content.fault) for path, content in contents.items() if content.fault]
    if not faults:
        return
    # Names may hold line breaks, escape sequences, and bytes that no terminal shows.
    lines = [f"  {printable(path)} {fault}" for path, fault in faults[:_MOST_NAMED]]
    if len(faults) > _MOST_NAMED:
        lines.append(f"  … and {len(faults) - _MOST_NAMED:,} more")
    raise DatasetError(
        f"data set {name!r}: {len(faults):,} of {len(contents):,} image files in {root} cannot be used:\n"
        + "\n".join(lines)
        + "\nRemove them or fetch them again. Nothing has been trained on this data set."
    )
