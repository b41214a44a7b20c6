"""Where a result comes from: commit, versions, processor. Read without importing the libraries in question."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "mlflow", "numpy", "dyconv-ablations")
_TIMEOUT_SECONDS = 10
_DYCONV = Path(__file__).resolve().parent.parent / "dyconv" / "kernels"


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


def machine(device: str = "cpu") -> dict[str, str]:
    """Returns what the last digits of a result depend on beside versions: processor, instructions, threads, GPU.

    Instructions and threads are torch's, and are left out where torch is not imported.

    Args:
        device: Where the network was: `cpu`, `cuda:1`.
    """
    found = {"processor": processor()}
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        found["instructions"] = str(torch.backends.cpu.get_cpu_capability())
        found["threads"] = str(torch.get_num_threads())
        if device.startswith("cuda") and torch.cuda.is_available():
            found["gpu"] = str(torch.cuda.get_device_name(device))
    return found


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the model of the processor, or `unknown`.

    Args:
        cpuinfo: Where Linux tells it.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    told = dict(reversed([_entry(line) for line in text.splitlines() if ":" in line]))
    # Of an ARM processor Linux tells numbers alone.
    arm = [told[key] for key in ("CPU implementer", "CPU part") if key in told]
    return told.get("model name") or " ".join(["ARM", *arm] if arm else []) or platform.processor() or "unknown"


def _entry(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), " ".join(value.split())
