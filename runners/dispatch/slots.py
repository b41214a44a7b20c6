"""This module divides one machine into slots for tasks, each on one GPU or on the CPU, and chooses slots for a task.

It is pure: the numbers of GPUs and cores are arguments, so that a test can make up any machine. A slot has room for one
task on one device; a training on several devices takes one slot on each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass

from ablations.errors import OptionError

_GPU = re.compile(r"cuda(?::(\d{1,3}))?")


@dataclass(frozen=True)
class Slots:
    """The slots of one machine.

    Attributes:
        devices: The GPU of each slot, or `None` for the CPU; either all slots have a GPU or none has.
    """

    devices: tuple[int | None, ...]

    @property
    def most_devices(self) -> int:
        """The most devices that one training can run on: distinct GPUs, or any slots of the CPU."""
        return len(set(self.devices)) if self.has_gpus else len(self.devices)

    @property
    def has_gpus(self) -> bool:
        """True if the slots are on GPUs."""
        return None not in self.devices

    def choose(self, busy: Set[int], count: int = 1) -> tuple[int, ...] | None:
        """Return the slots for a task on `count` devices, the least busy GPUs first; `None` if it must wait.

        Args:
            busy: Slots that are taken, as positions in `devices`.
            count: Devices that the task trains on.
        """
        slots = [slot for slot in range(len(self.devices)) if slot not in busy]
        if self.has_gpus:
            load = Counter(self.devices[slot] for slot in busy)
            # One slot per GPU, that of the least busy GPU first.
            slot_of_gpu: dict[int | None, int] = {}
            for slot in sorted(slots, key=lambda slot: (load[self.devices[slot]], slot)):
                slot_of_gpu.setdefault(self.devices[slot], slot)
            slots = list(slot_of_gpu.values())
        if len(slots) < count:
            return None
        return tuple(slots[:count])

    def gpus(self, slots: tuple[int, ...]) -> tuple[int, ...]:
        """Return the GPUs of some slots, none for the CPU."""
        gpus: list[int] = []
        for slot in slots:
            gpu = self.devices[slot]
            if gpu is not None:
                gpus.append(gpu)
        return tuple(gpus)


def make_slots(gpus: tuple[int, ...], *, workers: int | None, trials_per_gpu: int, cores: int, threads: int) -> Slots:
    """Return the slots of a machine: `workers`, or one per core (divided by `threads`), or `trials_per_gpu` per GPU.

    Args:
        gpus: GPUs that may be used, by number; none means the CPU.
        workers: The number of slots, or `None` for as many as there is room for.
        trials_per_gpu: The number of tasks that may share a GPU.
        cores: Cores of this machine.
        threads: Threads that each task may use.

    Raises:
        OptionError: If there is no room for so many.
    """
    if threads > 1 and threads * (workers or 1) > cores:
        raise OptionError(
            f"--workers {workers or 1} with --threads {threads} needs {threads * (workers or 1)} cores, and there are "
            f"{cores}. Lower one of them."
        )
    if not gpus:
        return Slots((None,) * (workers or max(1, cores // threads)))
    # All GPUs once, then all again: fewer workers than slots are spread over different GPUs.
    room = gpus * trials_per_gpu
    if workers is not None and workers > len(room):
        raise OptionError(
            f"--workers {workers} is more than {len(gpus)} GPUs with {trials_per_gpu} trials each take. "
            "Lower it, or raise --trials-per-gpu if so many trials fit into a GPU's memory."
        )
    fitting = len(room) if threads == 1 else max(1, min(len(room), cores // threads))
    return Slots(room[: workers or fitting])


def usable_gpus(device: str, count: int) -> tuple[int, ...]:
    """Return the GPUs that `--device` allows on a machine with `count` of them; none means the CPU.

    Raises:
        OptionError: If the device is not there.
    """
    if device == "cpu":
        return ()
    if device == "auto":
        return tuple(range(count))
    gpus: tuple[int, ...] = ()
    match = _GPU.fullmatch(device)
    if match is not None:
        gpus = tuple(range(count))
        if match[1] is not None:
            # A slice, which is empty where there is no such GPU.
            number = int(match[1])
            gpus = gpus[number : number + 1]
    if not gpus:
        finding = f"torch finds {count} GPUs here" if count else "torch finds no GPU here"
        raise OptionError(f"--device {device}: {finding}. Use cpu, cuda, cuda:N or auto.")
    return gpus


def is_device(text: str) -> bool:
    """Return True if `text` is the name of a device, present or not."""
    return text in ("cpu", "auto") or _GPU.fullmatch(text) is not None
