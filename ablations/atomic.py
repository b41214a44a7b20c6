"""This module writes files whole or not at all: under a temporary name beside the final one, then renamed.

A reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp")


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield a new path beside `path`, to be written and renamed; at the end, remove what is still there."""
    # Not the process number: two machines, or two containers, may have the same one.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
    finally:
        # After an error, that error is the one to report.
        with suppress(OSError):
            temporary.unlink()


def final_name(temporary: Path) -> str | None:
    """Return the name that a temporary file was to get, or `None` if it is no temporary file."""
    match = _TEMPORARY.fullmatch(temporary.name)
    return match.group(1) if match is not None else None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; the old file, if any, is untouched by an error.

    Raises:
        OSError: If it cannot be written.
    """
    with temporary_file(path) as temporary:
        # Mode x refuses an existing file, or a link.
        with temporary.open("xb") as file:
            file.write(content)
        temporary.replace(path)
