"""This module holds the options of the command line about dispatching, and checks that they fit together."""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from ablations.errors import OptionError, UnknownNameError
from ablations.stores.addresses import shown
from runners.dispatch.slots import is_device
from runners.dispatch.slurm.options import SlurmOptions

DISPATCHERS = ("processes", "inline", "ray", "slurm")

_MOST_PROCESSES = 256
_RAY_ADDRESS = re.compile(r"auto|[\w.\-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")

_EXTRAS = {"ray": "ray", "slurm": "submitit"}
"""The optional module that a dispatcher needs; the extra that installs it has the dispatcher's name."""


@dataclass(frozen=True)
class DispatchSettings:
    """The options of a dispatcher; none of them changes a result.

    Attributes:
        name: One of `DISPATCHERS`.
        workers: Most tasks at once, or `None` for as many as there is room for.
        threads: CPU threads for each device of a task.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` for GPUs if there are any.
        trials_per_gpu: The number of tasks that may share a GPU.
        ray_address: A Ray cluster that is there already, or `None` to start one on this machine.
        slurm: The options of each SLURM job.
        folder: The folder for the files of a cluster: scripts and output of jobs.

    Raises:
        OptionError: If two settings do not fit together, or a module that they need is not installed.
        UnknownNameError: If there is no dispatcher called `name`.
    """

    name: str = "processes"
    workers: int | None = None
    threads: int = 1
    device: str = "auto"
    trials_per_gpu: int = 1
    ray_address: str | None = None
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
    folder: Path = Path("runs")

    def __post_init__(self) -> None:
        if self.name not in DISPATCHERS:
            raise UnknownNameError("dispatcher", self.name, DISPATCHERS)
        if not is_device(self.device):
            raise OptionError(f"--device {self.device} is no device. Use cpu, cuda, cuda:N or auto.")
        self._check_unread()
        if self.name == "slurm":
            self.slurm.check(self.device)
        self._check_installed()

    def _check_unread(self) -> None:
        """Raise for options that the dispatcher would not read."""
        if self.ray_address is not None and self.name != "ray":
            raise OptionError(f"--ray-address is read only with --dispatch ray, and that is {self.name}.")
        if self.ray_address is not None and not _RAY_ADDRESS.fullmatch(self.ray_address):
            raise OptionError(
                f"--ray-address {shown(self.ray_address)}: it must be HOST:PORT as `ray start` tells, or auto."
            )
        # By value: options that are all at their defaults were not given.
        if self.slurm != SlurmOptions() and self.name != "slurm":
            raise OptionError(f"--slurm is read only with --dispatch slurm, and that is {self.name}.")
        if self.name == "inline" and (self.workers or 1) > 1:
            raise OptionError(f"--workers {self.workers}: inline runs one task at a time. Use --dispatch processes.")
        if self.name == "processes" and (self.workers or 1) > _MOST_PROCESSES:
            raise OptionError(f"--workers {self.workers}: at most {_MOST_PROCESSES} processes on one machine.")
        if self.name in ("ray", "slurm") and ":" in self.device:
            raise OptionError(f"--device {self.device}: the cluster chooses the GPU. Use cuda, cpu or auto.")
        if self.trials_per_gpu > 1 and (self.device == "cpu" or self.name in ("inline", "slurm")):
            reasons = {"inline": "inline runs one task at a time", "slurm": "SLURM gives a job whole GPUs"}
            reason = reasons.get(self.name, "--device cpu uses no GPU")
            raise OptionError(f"--trials-per-gpu {self.trials_per_gpu} is read by nothing: {reason}.")

    def _check_installed(self) -> None:
        # The module is looked for and not imported, which would take seconds.
        module = _EXTRAS.get(self.name)
        if module is not None and importlib.util.find_spec(module) is None:
            raise OptionError(
                f"--dispatch {self.name} needs {module}, which is not installed: "
                f"pip install 'dyconv-ablations[{self.name}]'."
            )
        if self.name == "slurm" and shutil.which("sbatch") is None:
            raise OptionError("--dispatch slurm needs sbatch on the PATH. Run this on a login node of the cluster.")
