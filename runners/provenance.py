"""Where a result comes from: commit, versions, platform. Read without importing the libraries in question."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PACKAGES = ("torch", "torchvision", "mlflow", "numpy", "dyconv-ablations")
_TIMEOUT_SECONDS = 10
_DYCONV = Path(__file__).resolve().parent.parent / "dyconv"


@dataclass(frozen=True)
class Commit:
    """The state of the project's repository; `sha` is `unknown` outside one."""

    sha: str
    dirty: bool


def project_commit() -> Commit:
    """Returns the commit the code was run from, and whether tracked files differ from it."""
    folder = Path(__file__).resolve().parent.parent
    sha = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Commit(sha or "unknown", bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Returns the versions of Python, the packages that matter, the kernels of `dyconv` and the platform."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["kernels"] = "compiled" if any(_DYCONV.glob("_native.*.*")) else "torch's own"
    found["platform"] = f"{platform.system()} {platform.machine()}"
    return found
