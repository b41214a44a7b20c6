"""Files written whole or not at all: to a temporary file, flushed to disk, renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablations.errors import OutputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a temporary path beside `path`, then renames the result to `path`.

    Raises:
        OutputError: If the folder is not writable or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from None


def _flush_folder(folder: Path) -> None:
    """Makes the renaming last through a power failure; only POSIX systems can, and need to."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, whole or not at all."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=True)
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any | None:
    """Returns the content of a JSON file, or `None` if it is not there or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def check_writable(folder: Path, needed_bytes: int = 0) -> None:
    """Creates `folder` and raises if nothing can be written there or less than `needed_bytes` is free.

    Raises:
        OutputError: With what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
        status = os.statvfs(folder)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}. Choose another folder.") from None
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        raise OutputError(
            f"{folder} has {free / 1e6:,.0f} MB free, about {needed_bytes / 1e6:,.0f} MB are needed. "
            "Free space or choose another folder."
        )
