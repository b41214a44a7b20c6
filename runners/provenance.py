"""Records the origin of a result: commit, versions, processor. Does not import the libraries in question."""

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
    """Return the commit of the running code, with a mark if tracked files differ from it."""
    folder = Path(__file__).resolve().parent.parent
    sha = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Commit(sha or "unknown", bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip()


def versions() -> dict[str, str]:
    """Return the versions of Python, the packages that matter, the kernels of `dyconv` and the platform."""
    by_name = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    by_name["kernels"] = "compiled" if any(_DYCONV.glob("_native.*.*")) else "torch's own"
    by_name["platform"] = f"{platform.system()} {platform.machine()}"
    return by_name


def machine(device: str = "cpu") -> dict[str, str]:
    """Return processor, instructions, threads and GPU: beside versions, the last digits of a result depend on them.

    Instructions and threads are torch's, and are left out where torch is not imported.

    Args:
        device: The device of the network: `cpu`, `cuda:1`.
    """
    by_name = {"processor": processor()}
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        by_name["instructions"] = str(torch.backends.cpu.get_cpu_capability())
        by_name["threads"] = str(torch.get_num_threads())
        if device.startswith("cuda") and torch.cuda.is_available():
            by_name["gpu"] = str(torch.cuda.get_device_name(device))
    return by_name


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of the processor, or `unknown`.

    Args:
        cpuinfo: The file in which Linux describes processors.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    # Reversed, so that the first processor of several decides.
    fields = dict(reversed([_entry(line) for line in text.splitlines() if ":" in line]))
    model = fields.get("model name", "")
    arm_numbers = [fields[key] for key in ("CPU implementer", "CPU part") if key in fields]
    if not model and arm_numbers:
        # Linux names an ARM processor by numbers alone.
        model = " ".join(["ARM", *arm_numbers])
    return model or platform.processor() or "unknown"


def _entry(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), " ".join(value.split())
