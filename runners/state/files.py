"""Files written whole or not at all: to a temporary file, flushed to disk, renamed; and by one of several at most."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ablations.errors import OutputError

_WITHOUT_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})


def write_atomically(path: Path, write: Callable[[Path], None], *, flush: bool = True) -> None:
    """Calls `write` with a temporary path beside `path`, then renames the result to `path`.

    Args:
        path: The file.
        write: Writes it.
        flush: Whether it must be there after a power failure.

    Raises:
        OutputError: If the folder is not writable or the disk is full.
    """
    with _temporary(path, write, flush) as temporary:
        temporary.replace(path)
        if flush:
            flush_folder(path.parent)


def write_once(path: Path, write: Callable[[Path], None], *, flush: bool = True) -> bool:
    """Writes `path` as `write_atomically` does, unless it is there already; returns whether it was written.

    Of several processes, on one machine or on several that share a file system, one succeeds.

    Raises:
        OutputError: If the folder is not writable or the disk is full.
    """
    with _temporary(path, write, flush) as temporary:
        written = _link_once(temporary, path)
        temporary.unlink(missing_ok=True)
        if flush:
            flush_folder(path.parent)
        return written


@contextmanager
def _temporary(path: Path, write: Callable[[Path], None], flush: bool) -> Iterator[Path]:
    """Yields the path of what `write` has written beside `path`; removes it if anything goes wrong."""
    # Not the process number: two machines, or two containers, may have the same one.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        write(temporary)
        if flush:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        yield temporary
    except OutputError:
        with suppress(OSError):
            temporary.unlink()
        raise
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder.", error.errno
        ) from None


def _link_once(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may do it and lose the answer; asked again, it says that the file is there.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        return _rename_once(temporary, path)
    return True


def _rename_once(temporary: Path, path: Path) -> bool:
    """Does without hard links: by one process at most, as they take turns, and whole, as the file is renamed.

    A process that dies lets go of the lock, so that nothing but the lock file is left behind.
    """
    with exclusively(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return False
        temporary.replace(path)
    return True


def flush_folder(folder: Path) -> None:
    """Makes the renaming last through a power failure; only POSIX systems can, and need to."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, flush: bool = True) -> None:
    """Writes `value` as JSON, whole or not at all."""
    write_atomically(path, lambda temporary: _write_text(temporary, _json(value)), flush=flush)


def write_json_once(path: Path, value: Any, *, flush: bool = True) -> bool:
    """Writes `value` as JSON unless the file is there already; returns whether it was written."""
    return write_once(path, lambda temporary: _write_text(temporary, _json(value)), flush=flush)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@contextmanager
def exclusively(lock_file: Path) -> Iterator[None]:
    """Runs a block while no other process runs one with the same lock file; a process that dies lets go of it.

    Raises:
        OutputError: If the lock file cannot be written.
    """
    from filelock import FileLock

    try:
        lock = FileLock(lock_file)
        lock.acquire()
    except OSError as error:
        raise OutputError(
            f"cannot write {lock_file}: {error.strerror or error}. Choose another folder.", error.errno
        ) from None
    try:
        yield
    finally:
        lock.release()


def read_json(path: Path) -> Any | None:
    """Returns the content of a JSON file, `None` if it is not there or not JSON;
    `runners.state.schemas` knows the schemas."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def check_writable(folder: Path, needed_bytes: int = 0) -> None:
    """Creates `folder` and raises if nothing can be written there or less than `needed_bytes` is free.

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
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        raise OutputError(
            f"{folder} has {free / 1e6:,.0f} MB free, about {needed_bytes / 1e6:,.0f} MB are needed. "
            "Free space or choose another folder."
        )
