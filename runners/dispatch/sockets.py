"""This module makes a short folder for the sockets of worker processes, whose paths may have about 100 characters."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from multiprocessing import process
from pathlib import Path

from ablations.errors import DispatchError

_LONGEST_FOLDER = 50
"""In characters. Python adds some forty to it, Ray some fifty; Linux allows 107, macOS 103."""


def use_short_sockets() -> None:
    """Let multiprocessing and Ray put their sockets into a short folder if the path for temporary files is long.

    Raises:
        DispatchError: If no short folder can be made.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER:
        return
    folder = _make_short_folder()
    # The entry in which multiprocessing notes the folder that it makes itself when it first needs one.
    settings = process.current_process()._config  # type: ignore[attr-defined]
    settings.setdefault("tempdir", str(folder))
    # Ray reads this variable before TMPDIR.
    os.environ.setdefault("RAY_TMPDIR", str(folder))


@cache
def _make_short_folder() -> Path:
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"):
        if not parent or len(os.fsencode(parent)) > _LONGEST_FOLDER - 10:
            continue
        try:
            folder = tempfile.mkdtemp(prefix="dy-", dir=parent)
        except OSError:
            continue
        # With the process number, as a forked process inherits the registration and must not remove the folder.
        atexit.register(_remove, folder, os.getpid())
        return Path(folder)
    raise DispatchError(
        f"TMPDIR is {tempfile.gettempdir()}, too long for the sockets of worker processes, and no short folder "
        "can be made instead. Set TMPDIR to a folder whose path has at most 50 characters."
    )


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
