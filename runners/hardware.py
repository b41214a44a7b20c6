"""Describes this machine: processor, cores, GPUs, memory and disk, as far as estimates need them.

No torch: `plan` asks here and must answer at once.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ablations.spec.fingerprint import digest
from ablations.spec.parts import SPEC_VERSION
from ablations.vocabulary import slug

_CPU_FILE = Path("/proc/cpuinfo")
_MEMORY_FILE = Path("/proc/meminfo")
# Of cgroups version 2 and version 1; `max` stands for no limit.
_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_GPU_FOLDER = Path("/proc/driver/nvidia/gpus")
# A driver that hangs must not keep `plan` from answering.
_GPU_SECONDS = 3.0
_DYCONV = Path(__file__).resolve().parent.parent / "dyconv" / "kernels"
_DIGITS = 8


@dataclass(frozen=True)
class Machine:
    """A machine and the version of this project on it: measured times hold for machines that are equal to it.

    `cores` are those that may be used, `cpu` and `gpus` are models; `version` is that of this project, its computations
    and their compiled kernels.
    """

    host: str
    cpu: str
    cores: int
    gpus: tuple[str, ...]
    version: str

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        return cls(socket.gethostname(), _cpu(), cores(), _gpus(), _version())

    @property
    def hardware(self) -> tuple[Any, ...]:
        """The fields in which another machine must agree for times to be carried over."""
        # Without the host: another node of a cluster that is built alike is as fast.
        return (self.cpu, self.cores, self.gpus, self.version)

    @property
    def name(self) -> str:
        """A name that is safe in a path and unique to the machine and its hardware."""
        identity = [self.host, self.cpu, self.cores, list(self.gpus)]
        return f"{slug(self.host)}-{digest(identity)[:_DIGITS]}"


def memory_bytes() -> int | None:
    """Return the bytes of main memory that this machine has or this container may use; `None` if not known."""
    total = _first_number(_MEMORY_FILE, "MemTotal:")
    limits: list[int] = []
    if total is not None:
        limits.append(total * 1024)
    for path in _LIMIT_FILES:
        text = _read(path).strip()
        if text.isdecimal():
            limits.append(int(text))
    if not limits:
        return _memory_by_psutil()
    # The smallest counts: of the machine's memory a container may use a part.
    return min(limits)


def _memory_by_psutil() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)


def peak_memory_bytes() -> int:
    """Return the most bytes of memory that this process has taken since `forget_peak_memory`, or since its start."""
    peak = _first_number(Path("/proc/self/status"), "VmHWM:")
    if peak is not None:
        return peak * 1024
    import resource

    # macOS reports bytes, other systems kilobytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Make `peak_memory_bytes` count from now on, where the system can."""
    try:
        # Writing 5 resets the peak of resident memory, see proc(5).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes of the disk on which a folder is or will be."""
    # The folder itself may not be there yet: then it will be on the disk of the nearest one above.
    for ancestor in (folder.absolute(), *folder.absolute().parents):
        if ancestor.is_dir():
            return shutil.disk_usage(ancestor).free
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first_number(path: Path, label: str) -> int | None:
    for line in _read(path).splitlines():
        if line.startswith(label):
            return int(line.removeprefix(label).split()[0])
    return None


def _cpu() -> str:
    for line in _read(_CPU_FILE).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


@cache
def _gpus() -> tuple[str, ...]:
    # Set but empty, it hides all GPUs.
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return ()
    models = []
    for path in sorted(_GPU_FOLDER.glob("*/information")):
        for line in _read(path).splitlines():
            if line.startswith("Model:"):
                models.append(line.partition(":")[2].strip())
    return tuple(models) or _gpus_by_tool()


def _gpus_by_tool() -> tuple[str, ...]:
    """Ask NVIDIA's tool, if installed: some containers do not show the driver's folder."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in output.stdout.splitlines() if line.strip())


def _version() -> str:
    try:
        project = metadata.version("dyconv-ablations")
    except metadata.PackageNotFoundError:
        project = "unknown"
    # Compiled kernels and those of torch take different times, so that neither is an estimate of the other.
    kernels = "compiled" if any(_DYCONV.glob("_native.*.*")) else "torch"
    return f"{project}/{SPEC_VERSION}/{kernels}"


def cores() -> int:
    """Return the number of cores that this process may use."""
    # A job of a cluster may be bound to some of the cores; macOS has no such call.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
