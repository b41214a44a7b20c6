"""This module writes files whole or not at all (`ablations.atomic`), and flushes them to the disk.

`write_once`, `Lock` and `exclusively` let one process out of several act, on one machine or over a shared file system.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.atomic import temporary_file
from ablations.errors import OutputError

if TYPE_CHECKING:
    from filelock import FileLock

# The errors of `flock` where a network file system has no locks.
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
# The errors of `os.link` where a file system has no hard links, or has too many of this file.
_WITHOUT_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})


def write_atomically(path: Path, write: Callable[[Path], None], *, flush: bool = True) -> None:
    """Call `write` with a temporary path beside `path`, then rename the result to `path`.

    Args:
        flush: Whether it must be there after a power failure.

    Raises:
        OutputError: If the folder is not writable or the disk is full.
    """
    with _explained(path), temporary_file(path) as temporary:
        _write(temporary, write, flush)
        temporary.replace(path)
        if flush:
            # The content is on the disk; without this, the new name may not be.
            flush_folder(path.parent)


def write_once(path: Path, write: Callable[[Path], None], *, flush: bool = True) -> bool:
    """Write `path` as `write_atomically` does, unless it exists; return True if it was written.

    Of several processes, on one machine or on several that share a file system, one succeeds.

    Raises:
        OutputError: If the folder is not writable or the disk is full.
    """
    with _explained(path), temporary_file(path) as temporary:
        _write(temporary, write, flush)
        written = _link_once(temporary, path)
        temporary.unlink(missing_ok=True)
        if flush:
            flush_folder(path.parent)
        return written


def _write(temporary: Path, write: Callable[[Path], None], flush: bool) -> None:
    write(temporary)
    if flush:
        flush_file(temporary)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder.", error.errno
        ) from None


def _link_once(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may link the file and lose the answer; the repeated request then fails.
        # Two links mean that the first request was ours and went through.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        return _rename_once(temporary, path)
    return True


def _rename_once(temporary: Path, path: Path) -> bool:
    """Rename the file unless `path` exists, under a lock, where the file system has no hard links.

    A process that dies releases the lock, so that nothing but the lock file is left behind.
    """
    with exclusively(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return False
        temporary.replace(path)
    return True


def flush_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder, so that a renaming survives a power failure; only POSIX systems need it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, flush: bool = True) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_atomically(path, lambda temporary: _write_text(temporary, _json(value)), flush=flush)


def write_json_once(path: Path, value: Any, *, flush: bool = True) -> bool:
    """Write `value` as JSON unless the file exists; return True if it was written."""
    return write_once(path, lambda temporary: _write_text(temporary, _json(value)), flush=flush)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class Lock:
    """The right to do something that one process has at a time, of all that see the lock file.

    The kernel releases the lock of a process that dies.

    Args:
        is_needed: False if the work goes on without the lock where a network file system has none.
    """

    def __init__(self, path: Path, *, is_needed: bool = True) -> None:
        self._path, self._is_needed = path, is_needed
        self._file_lock: FileLock | None = None
        self.is_held = False

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock, now or, if `wait`, as soon as it is free; return True if it is held.

        Raises:
            OSError: If the lock file cannot be written, or the file system has no locks and the lock is needed.
        """
        from filelock import FileLock, Timeout

        if self._file_lock is None:
            # One thread may release what another one has acquired.
            self._file_lock = FileLock(self._path, thread_local=False)
        if not self.is_held:
            try:
                self._file_lock.acquire(blocking=wait)
            except Timeout:
                return False
            except OSError as error:
                if self._is_needed or error.errno not in _WITHOUT_LOCKS:
                    raise
            self.is_held = True
        return True

    def release(self) -> None:
        """Release the lock if it is held."""
        if self._file_lock is not None:
            self._file_lock.release()
        self.is_held = False


@contextmanager
def exclusively(lock_file: Path) -> Iterator[None]:
    """Run a block while no other process runs one with the same lock file.

    Raises:
        OutputError: If the lock file cannot be written.
    """
    lock = Lock(lock_file)
    try:
        lock.acquire(wait=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {lock_file}: {error.strerror or error}. Choose another folder.", error.errno
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_writable(folder: Path, needed_bytes: int = 0) -> None:
    """Create `folder`; raise if nothing can be written there or less than `needed_bytes` is free.

    Raises:
        OutputError: With what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Under a random name, and only if there is nothing there: neither a link nor the probe of another container,
        # where a process may have the same number, is ever written to.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe.") as probe:
            probe.write(b"x")
            probe.flush()
        status = os.statvfs(folder)
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}. Choose another folder.", error.errno
        ) from None
    # Blocks for users without privileges (f_bavail), not all free blocks: the file system reserves some for root.
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        raise OutputError(
            f"{folder} has {free / 1e6:,.0f} MB free, about {needed_bytes / 1e6:,.0f} MB are needed. "
            "Free space or choose another folder."
        )
