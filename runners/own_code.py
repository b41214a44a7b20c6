"""Makes workers run the code of the launcher, not another copy of the project that is installed or in a folder nearby.

A worker looks for the project anew, and would find the copy in its current folder, or the installed one, whatever copy
the launcher was started from.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ablations.errors import DispatchError

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the packages that this process has imported."""

_PACKAGES = ("ablations", "dyconv", "runners")
"""The packages that a training runs."""


def import_variables() -> dict[str, str]:
    """Return the environment variables with which another Python imports this copy of the project."""
    # Without it Python would look in its current folder first.
    variables = {"PYTHONSAFEPATH": "1"}
    paths = os.environ.get("PYTHONPATH", "")
    # Put first, the folder of all that is installed would hide modules of Python itself.
    installed = {os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    if str(ROOT) not in installed:
        paths = os.pathsep.join(filter(None, [str(ROOT), paths]))
    if paths:
        variables["PYTHONPATH"] = paths
    return variables


@contextmanager
def imported_by_children() -> Iterator[None]:
    """Have a Python that is started within the block import this copy of the project."""
    variables = import_variables()
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@cache
def code_digest() -> str:
    """Return the SHA-256 of the packages of this copy that a training runs, as they are at the first call."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def check_same_code(root: str, digest: str, *, is_same_machine: bool = True) -> None:
    """Raise unless this process runs the code of the launcher.

    Args:
        root: The launcher's `ROOT`.
        digest: The launcher's `code_digest()`.
        is_same_machine: Whether the launcher's folder is seen from here, so that the same path is the same code.

    Raises:
        DispatchError: If the code is another.
    """
    if (is_same_machine and root == str(ROOT)) or digest == code_digest():
        return
    raise DispatchError(
        f"a worker on {socket.gethostname()} runs the code in {ROOT}, which is not that of the launcher in {root}. "
        "Nothing was measured. Put the launcher's folder first on PYTHONPATH, or install the same version everywhere."
    )
