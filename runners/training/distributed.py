"""This module runs one training on several devices: it starts the processes and divides the work among them.

Every process makes the same global batch (batches are functions of seed, epoch and step) and takes its own slice; batch
normalisation uses the statistics of the global batch and gradients are averaged, so that the result is that of one
process with the same global batch, within float tolerance. Random draws per image inside the network (dropout,
strategies that shuffle) are made per process. Legend: B images in the global batch, C channels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ablations.errors import WorkerError
from runners.own_code import import_variables
from runners.state.schemas import FAILURE, remove_file

PROCESS_FAILURE = "process_failure.json"
"""The file in the node's folder in which the first process that fails writes the reason."""


@dataclass(frozen=True)
class World:
    """This process among those of one training: its rank and the number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Return True if this process writes results."""
        return self.rank == 0

    def part(self, values_B: Tensor) -> Tensor:
        """Return this process's slice of a global batch."""
        return values_B if self.size == 1 else values_B.tensor_split(self.size)[self.rank]

    def summing(self, parallel: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        """Return the context for one of several passes before a step; only the last one averages the gradients."""
        if self.size == 1 or is_last:
            return nullcontext()
        no_sync: Any = parallel.no_sync
        context: AbstractContextManager[None] = no_sync()
        return context

    def mean(self, value: float) -> float:
        """Return the mean of a number over the processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total) / self.size

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        if self.size > 1:
            dist.barrier()

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return the module to call instead of `model`; it averages the gradients over the processes."""
        if self.size == 1:
            return model
        # A strategy that ignores the attention gives its branch no gradient.
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)


@contextmanager
def joined() -> Iterator[World]:
    """Join the process group that torchrun started, inside a block."""
    # NCCL connects GPUs alone.
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device; `nn.SyncBatchNorm` needs a GPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised (B, C, H, W)."""
        # An evaluation uses the running statistics, which are the same in every process.
        if not self.training:
            normalised: Tensor = super().forward(input)
            return normalised
        count = input.numel() // input.shape[1] * dist.get_world_size()
        mean_C = _total(input.sum([0, 2, 3])) / count
        # Two passes: the difference of two large sums would lose the digits of a small variance.
        centred = input - mean_C[:, None, None]
        variance_C = _total(centred.square().sum([0, 2, 3])) / count
        # Running statistics take the unbiased variance, as `nn.BatchNorm2d` does.
        self._remember(mean_C.detach(), variance_C.detach() * count / max(count - 1, 1))
        scale_C = torch.rsqrt(variance_C + self.eps) * self.weight
        output: Tensor = centred * scale_C[:, None, None] + self.bias[:, None, None]
        return output

    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, momentum)
        self.running_var.lerp_(variance_C, momentum)


def _total(values_C: Tensor) -> Tensor:
    total: Tensor = _AllReduce.apply(values_C)
    return total


class _AllReduce(torch.autograd.Function):
    """A sum over the processes, forward and backward: each process's loss depends on every process's values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def with_global_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """Make the batch norms of a network work over all processes; parameters and buffers stay the same objects."""
    if device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        converted: nn.Module = convert(model)
        return converted
    for module in model.modules():
        # The class alone is changed, so that the optimiser goes on holding the same parameters.
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
    return model


def process_device(name: str) -> torch.device:
    """Return the device of this process: its own GPU, or the CPU if `name` is that or there is no GPU."""
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def start(state_folder: Path, devices: int, gpus: Sequence[int], arguments: list[str]) -> None:
    """Run a training as `devices` processes through torchrun and return when they have ended.

    Args:
        state_folder: The node's folder; the processes print to its `log.txt`.
        devices: The number of processes, one per device.
        gpus: The GPU of each process, or none for the first visible ones.
        arguments: Arguments for `python -m runners.workers.trial_process`.

    Raises:
        WorkerError: If a process fails, with the first one's reason and where its output is.
    """
    failure_path = state_folder / PROCESS_FAILURE
    # The reason of an earlier attempt must not pass for this one's.
    remove_file(failure_path)
    torchrun = [sys.executable, "-m", "runners.workers.torchrun", "--standalone", f"--nproc-per-node={devices}"]
    environment = {**os.environ, **import_variables()}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = visible_devices(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    with (state_folder / "log.txt").open("a", encoding="utf-8") as log:
        completed = subprocess.run(
            [*torchrun, "-m", "runners.workers.trial_process", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            env=environment,
        )
    if completed.returncode:
        # A process that was killed wrote no reason.
        failure = FAILURE.find(failure_path) or {"message": f"exit code {completed.returncode}", "cause": "killed"}
        cause = str(failure.get("cause", "error"))
        raise WorkerError(f"one of {devices} processes failed ({failure['message']}); see {log.name}", cause)


def visible_devices(gpus: Sequence[int], variable: str | None) -> str:
    """Return the value of `CUDA_VISIBLE_DEVICES` that shows a process only `gpus`, in this order.

    Args:
        gpus: Numbers among the GPUs that this process sees.
        variable: The value of the variable in this process, or `None` if it sees all.
    """
    if not variable:
        return ",".join(map(str, gpus))
    # The variable may name GPUs by their identifiers, and in any order.
    names = [name.strip() for name in variable.split(",")]
    return ",".join(names[gpu] for gpu in gpus)
