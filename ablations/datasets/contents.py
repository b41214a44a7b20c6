"""`read_contents` reads each image file once, for its SHA-256 and for faults; later it only looks if it has changed.

The result is remembered outside the data folder, in the user's cache folder, by size, times and inode of each file. A
memory that is lost, damaged or cannot be written costs a reading and nothing else. Legend: N files.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ablations.atomic import write_bytes
from ablations.datasets.folders import printable

FORMAT = "dyconv-ablations picture contents 1"
"""The version of a memory. It is raised when other files count as decodable, so that all files are read again."""

UNSETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again without its times showing it: file systems keep
times in steps of up to 2 s. It is read again the next time, as git does with what it calls racily clean files."""

_BATCH = 512
# Each save writes the whole memory, so there are few.
_SAVE_EVERY = 100_000
# Progress is printed of readings that take longer than the first, every so often.
_QUIET_SECONDS = 3.0
_PROGRESS_SECONDS = 15.0
# Readings of a file that changes meanwhile, until it is given up.
_ATTEMPTS = 3

Stamp = tuple[int, int, int, int]
"""Size in bytes, mtime and ctime in ns, inode. No program can set ctime, as `cp -p` sets mtime."""

Clock = Callable[[], int]
"""A function that returns the time in ns since the epoch."""


@dataclass(frozen=True)
class Content:
    """The content of one file.

    Attributes:
        sha256: SHA-256 of its bytes, hexadecimal; empty if it could not be read.
        fault: A clause with the reason why it is no usable picture, or empty.
    """

    sha256: str
    fault: str = ""


@dataclass
class Memory:
    """The remembered contents of the files below one folder.

    Attributes:
        paths: The files that may keep the memory; the first that can be read or written does.
        entries: Path below the folder → stamp and SHA-256, of files that can be decoded: those that cannot are few, and
            another version of Pillow may know better.
    """

    paths: tuple[Path, ...]
    entries: dict[str, tuple[Stamp, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, paths: tuple[Path, ...]) -> Memory:
        """Read a memory; one that is missing, damaged or of another version is empty."""
        for path in paths:
            try:
                # The first line has the format and the digest of the second, so a torn or edited memory is noticed.
                head, _, body = path.read_bytes().partition(b"\n")
                if not _is_private(path.parent) or head.decode() != _head(body):
                    continue
                entries: dict[str, tuple[Stamp, str]] = {}
                for name, (size, mtime, ctime, inode, sha256) in json.loads(body).items():
                    entries[name] = ((size, mtime, ctime, inode), str(sha256))
                return cls(paths, entries)
            except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
                continue
        return cls(paths)

    def save(self) -> None:
        """Write the memory whole or not at all; of several processes, the last one's stays."""
        body = json.dumps({name: [*stamp, sha256] for name, (stamp, sha256) in self.entries.items()}).encode("ascii")
        content = _head(body).encode() + b"\n" + body
        # If none can be written, the files are read again the next time.
        for path in self.paths:
            if _write(path, content):
                return


def _write(path: Path, content: bytes) -> bool:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(path.parent):
            return False
        write_bytes(path, content)
    except OSError:
        return False
    return True


def read_contents(
    root: Path, paths: Sequence[str], folders: Sequence[Path], *, clock: Clock = time.time_ns
) -> dict[str, Content]:
    """Return the content of each file below a folder; files that have not changed are not read again.

    Args:
        paths: (N,) paths below it, with forward slashes.
        folders: Folders for the memory, such as `memory_folders`; the first that can be written is used.
        clock: The clock that tells if a file is settled.
    """
    # The real path, so that a folder has one memory under all links to it.
    name = hashlib.sha256(os.path.realpath(root).encode(errors="surrogateescape")).hexdigest()[:32]
    memory = Memory.load(tuple(folder / f"{name}.json" for folder in folders))
    # Decoders and hashes let go of the interpreter, and network file systems answer many requests at once.
    with ThreadPoolExecutor(min(32, 4 + (os.cpu_count() or 1))) as pool:
        remembered = _unchanged(root, paths, memory, pool) if memory.entries else {}
        unread = [path for path in paths if path not in remembered]
        if unread:
            unchanged = Memory(memory.paths, {path: memory.entries[path] for path in remembered})
            remembered |= _read_all(root, unread, unchanged, pool, clock)
    return {path: remembered[path] for path in paths}


def _unchanged(root: Path, paths: Sequence[str], memory: Memory, pool: ThreadPoolExecutor) -> dict[str, Content]:
    """Return the remembered content of the files whose stamps have not changed."""

    def look(batch: Sequence[str]) -> dict[str, Content]:
        contents = {}
        for path in batch:
            stamp, sha256 = memory.entries.get(path, (None, ""))
            if stamp is not None and stamp == stamp_of(f"{root}/{path}"):
                contents[path] = Content(sha256)
        return contents

    unchanged: dict[str, Content] = {}
    for contents in pool.map(look, _batches(paths)):
        unchanged |= contents
    return unchanged


def _read_all(
    root: Path, paths: list[str], memory: Memory, pool: ThreadPoolExecutor, clock: Clock
) -> dict[str, Content]:
    """Read files and remember their contents, also if the reading is interrupted."""
    progress = _Progress(root, len(paths))
    contents: dict[str, Content] = {}
    unsaved = 0
    try:
        # Pillow warns of odd notes in files that it can decode. Filters are the process's, so not in each thread.
        with warnings.catch_warnings(action="ignore"):
            for batch in _batches(paths):
                results = pool.map(lambda path: _read(f"{root}/{path}", clock), batch)
                for path, (stamp, content) in zip(batch, results, strict=True):
                    contents[path] = content
                    if stamp is not None:
                        memory.entries[path] = (stamp, content.sha256)
                        unsaved += 1
                progress.tell(len(contents))
                if unsaved >= _SAVE_EVERY:
                    memory.save()
                    unsaved = 0
    finally:
        if unsaved:
            memory.save()
    return contents


def _batches(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _BATCH):
        yield paths[start : start + _BATCH]


def _read(path: str, clock: Clock) -> tuple[Stamp | None, Content]:
    """Return the content of a file, and its stamp if a later change is sure to show in it."""
    # Pillow takes a tenth of a second to import, which nobody pays whose files have not changed.
    from ablations.datasets.pictures import PictureError, check_picture

    try:
        # The same stamp before and after: nobody wrote into the file in between.
        for _ in range(_ATTEMPTS):
            started, before = clock(), stamp_of(path)
            content = Path(path).read_bytes()
            if before is not None and before == stamp_of(path):
                break
        else:
            return None, Content("", "changes while it is read")
    except OSError as error:
        return None, Content("", f"cannot be read: {error.strerror or error}")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        check_picture(content)
    except PictureError as error:
        # Without a stamp, as files that cannot be decoded are not remembered.
        return None, Content(sha256, str(error))
    _, mtime, ctime, _ = before
    if max(mtime, ctime) >= started - UNSETTLED_NS:
        return None, Content(sha256)
    return before, Content(sha256)


def stamp_of(path: str) -> Stamp | None:
    """Return the values that change when a file changes, or `None` if it is no regular file that can be reached."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def memory_folders(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Return the folders for memories: one in the user's cache folder, and one in the temporary folder.

    The data folder may be read-only or shared, and the runs folder is not known here.
    """
    home = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    # All users share the temporary folder, so there the name has the user's number.
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return Path(home) / "dyconv-ablations", Path(tempfile.gettempdir()) / f"dyconv-ablations-{user}"


def _is_private(folder: Path) -> bool:
    """Return True if nobody else can write into a folder; its memory decides which results count as measured."""
    status = folder.stat()
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _head(body: bytes) -> str:
    return f"{FORMAT} {hashlib.sha256(body).hexdigest()}"


class _Progress:
    """The progress of a long reading, printed on stderr; a short one prints nothing."""

    def __init__(self, root: Path, total: int) -> None:
        self._root, self._total = root, total
        self._next = time.monotonic() + _QUIET_SECONDS

    def tell(self, done: int) -> None:
        time_now = time.monotonic()
        if time_now < self._next or done >= self._total:
            return
        self._next = time_now + _PROGRESS_SECONDS
        with suppress(OSError, ValueError):
            sys.stderr.write(
                f"reading the {self._total:,} image files of {printable(str(self._root))} that are new or have "
                f"changed, once: {done / self._total:.0%}\n"
            )
            sys.stderr.flush()
