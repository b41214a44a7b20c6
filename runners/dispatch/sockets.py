"""A short folder for the sockets of worker processes: the system takes paths of about a hundred characters."""

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
"""Python adds some forty characters to it, Ray some fifty; of 107 on Linux, 103 on macOS."""


def use_short_sockets() -> None:
    """Let multiprocessing and Ray put their sockets into a short folder if that for temporary files is a long one.

    Raises:
        DispatchError: If there is none.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER:
        return
    folder = _make_short_folder()
    # Where multiprocessing would note the folder that it makes itself when it first needs one.
    settings = process.current_process()._config  # type: ignore[attr-defined]
    settings.setdefault("tempdir", str(folder))
    # Ray's own variable goes before TMPDIR.
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
        # Only by the process that has made it: a forked one inherits the registration.
        atexit.register(_remove, folder, os.getpid())
        return Path(folder)
    raise DispatchError(
        f"TMPDIR is {tempfile.gettempdir()}, too long for the sockets of worker processes, and no short folder "
        "can be made instead. Set TMPDIR to a folder whose path has at most 50 characters."
    )


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
