"""This module reads the options `--slurm KEY=VALUE`, checks them, and translates them for submitit and sbatch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ablations.errors import OptionError, UnknownNameError

# In minutes.
_LONGEST = 366 * 24 * 60
_PLAIN = re.compile(r"[\w.,:;@+\-\[\]=/&|*()!% ]{1,500}")


@dataclass(frozen=True)
class SlurmOptions:
    """The options of each job; `None` leaves one to the cluster.

    Attributes:
        account: The account that pays.
        qos: Quality of service.
        constraint: Features that a node must have.
        exclude: Nodes to stay away from.
        gres: Generic resources, for clusters that give GPUs in this way only.
        gpus: GPUs for each device of a training: `""` for none, else `"1"` or, with a type, `"a100:1"`.
        cpus: Cores for each device of a training; by default as many as `--threads`.
        mem: Memory of a job, for example `16G`.
        time: Time limit of a job in minutes; at the limit it is put back into the queue and goes on from there.
        signal: Seconds before the limit at which a job is stopped and put back.
        requeues: The number of times that a job may reach its limit.
        setup: A line of shell that runs before the job, for example to load a module.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    gres: str | None = None
    gpus: str = ""
    cpus: int | None = None
    mem: str | None = None
    time: int = 60
    signal: int = 90
    requeues: int = 100
    setup: str | None = None

    def check(self, device: str) -> None:
        """Raise if these options and `--device` contradict each other.

        Raises:
            OptionError: With what to change.
        """
        asks = bool(self.gpus or self.gres)
        if device == "cuda" and not asks:
            raise OptionError("--device cuda needs --slurm gpus=1, or the jobs get no GPU.")
        if device == "cpu" and self.gpus:
            raise OptionError(f"--slurm gpus={self.gpus} asks for what --device cpu does not use. Leave one out.")
        if self.signal >= self.time * 60:
            raise OptionError(
                f"--slurm signal={self.signal} stops a job {self.signal} s before its limit of {self.time} minutes: at "
                "once. Give more time, or a smaller signal."
            )

    def sbatch_arguments(self, devices: int, threads: int) -> list[str]:
        """Return the options of a job for a training on `devices` devices, as arguments of sbatch."""
        options = {**self._plain(), "cpus-per-task": self._cores(devices, threads), "time": self.time}
        if self.gpus:
            options["gpus-per-node"] = self._gpus(devices)
        return [f"--{key}={value}" for key, value in options.items()]

    def parameters(self, devices: int, threads: int) -> dict[str, Any]:
        """Return the same options as parameters of submitit's executor."""
        cores = self._cores(devices, threads)
        parameters: dict[str, Any] = {
            "time": self.time,
            "signal_delay_s": self.signal,
            "cpus_per_task": cores,
            "stderr_to_stdout": True,
            # Since 22.05 a step no longer inherits this from its job.
            "srun_args": [f"--cpus-per-task={cores}"],
            # submitit's own default key would be refused by clusters that check workload keys.
            "wckey": None,
            "setup": [],
            # A node that is lost puts its jobs back into the queue.
            "additional_parameters": {**self._plain(), "requeue": True},
        }
        if self.setup:
            parameters["setup"].append(self.setup)
        if self.gpus:
            parameters["gpus_per_node"] = self._gpus(devices)
        return parameters

    def _plain(self) -> dict[str, str]:
        names = ("partition", "account", "qos", "constraint", "exclude", "reservation", "gres", "mem")
        options = {name: getattr(self, name) for name in names}
        return {name: value for name, value in options.items() if value is not None}

    def _cores(self, devices: int, threads: int) -> int:
        return (self.cpus or threads) * devices

    def _gpus(self, devices: int) -> str:
        kind, _, _ = self.gpus.rpartition(":")
        return f"{kind}:{devices}" if kind else str(devices)


def read_slurm_options(pairs: Sequence[str]) -> SlurmOptions:
    """Return the options in `pairs`, each `KEY=VALUE`.

    Raises:
        OptionError: If one is malformed, given twice, or has a value it cannot have.
        UnknownNameError: If there is no such key.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise OptionError(f"--slurm {pair}: it must be KEY=VALUE, for example partition=gpu.")
        if key not in _KEYS:
            raise UnknownNameError("SLURM option", key, _KEYS)
        if key in options:
            raise OptionError(f"--slurm {key} is given twice. Keep one.")
        try:
            options[key] = _READERS.get(key, _plain)(text)
        except ValueError as error:
            raise OptionError(f"--slurm {pair}: {error}.") from None
    return SlurmOptions(**options)


def _plain(text: str) -> str:
    # The text ends up in the header of a script, a line per option.
    if not _PLAIN.fullmatch(text):
        raise ValueError("it must be one line of at most 500 letters, digits and signs")
    return text


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("it must be one line of shell")
    return text


def _count(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            raise ValueError(f"it must be a whole number from {lowest} to {highest}")
        return int(text)

    return read


def _gpus(text: str) -> str:
    match = re.fullmatch(r"(?:([A-Za-z][\w.\-]*):)?([01])", text)
    if match is None:
        raise ValueError("it must be 0, 1 or TYPE:1; a training gets one GPU per device, see train.devices")
    return text if match[2] == "1" else ""


def _memory(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[KMGT]?", text):
        raise ValueError("it must be a number with K, M, G or T, for example 16G")
    return text


def _minutes(text: str) -> int:
    """Return the minutes, rounded up, of a time in sbatch's forms: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d\d?))?(?::(\d\d?))?", text)
    if match is None:
        raise ValueError("it must be minutes, HH:MM:SS or D-HH:MM:SS")
    days, *fields = map(int, match.groups("0"))
    # The first field is hours after a day, or with three fields; otherwise it is minutes.
    if match[1]:
        seconds = days * 86400 + fields[0] * 3600 + fields[1] * 60 + fields[2]
    elif match[4]:
        seconds = fields[0] * 3600 + fields[1] * 60 + fields[2]
    else:
        seconds = fields[0] * 60 + fields[1]
    if not 60 <= seconds <= _LONGEST * 60:
        raise ValueError("it must be at least a minute and at most a year")
    return -(-seconds // 60)


_KEYS = tuple(field.name for field in fields(SlurmOptions))
_READERS: dict[str, Callable[[str], Any]] = {
    "gpus": _gpus,
    "cpus": _count(1, 1024),
    "mem": _memory,
    "time": _minutes,
    "signal": _count(1, 3600),
    "requeues": _count(0, 100_000),
    "setup": _line,
}
