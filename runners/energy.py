"""This module measures the energy that this machine takes during a launch, where the machine tells it.

Processors count it themselves (RAPL of Intel and AMD, which Linux shows as `intel-rapl` in sysfs), and so do NVIDIA's
GPUs (NVML). Both count everything that runs on the machine meanwhile. No torch here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
_ZONES = "intel-rapl:*"
_PACKAGE, _GPU = "package", "gpu:"
_MICROJOULES, _MILLIJOULES = 1e6, 1e3
# A package's counter begins at 0 again after about 262 kJ, which takes a quarter of an hour at 300 W.
_POLL_SECONDS = 60.0


@dataclass(frozen=True)
class Reading:
    """The state of a counter of energy.

    Attributes:
        joules: What it has counted.
        range_joules: Where it begins at 0 again, infinite if it does not.
    """

    joules: float
    range_joules: float = math.inf


Counters = Callable[[], Mapping[str, Reading]]
"""The counters of one kind: a function that reads them, by name; none where the machine does not tell."""


def read_processors(powercap: Path = POWERCAP) -> dict[str, Reading]:
    """Return the counters of the processors' packages, without main memory; none where they cannot be read.

    Source: https://docs.kernel.org/power/powercap/powercap.html (zones, `energy_uj`, `max_energy_range_uj`).

    Args:
        powercap: The folder in which Linux shows zones.
    """
    readings: dict[str, Reading] = {}
    for zone in sorted(powercap.glob(_ZONES)):
        try:
            # Zones of cores are within their package's count. Memory (`dram`) has a zone on few machines, and `psys`
            # counts packages a second time: packages alone are what all machines have.
            if not _text(zone / "name").startswith(_PACKAGE):
                continue
            counted = float(_text(zone / "energy_uj")) / _MICROJOULES
            limit = float(_text(zone / "max_energy_range_uj")) / _MICROJOULES
        except (OSError, ValueError):
            # Since CVE-2020-8694 most systems let root alone read them. A part of the packages would be no sum.
            return {}
        # By the zone, as the kernel tells these apart; names of packages need not differ.
        readings[zone.name] = Reading(counted, limit)
    return readings


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def read_gpus() -> dict[str, Reading]:
    """Return the counters of NVIDIA's GPUs; none without a GPU that counts, or without the package nvidia-ml-py."""
    try:
        import pynvml
    except ImportError:
        return {}
    nvml: Any = pynvml
    try:
        # Opened and closed for each reading, so that a launch does not hold the driver between them.
        nvml.nvmlInit()
        try:
            readings: dict[str, Reading] = {}
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                # Since the driver was loaded, in a count of 64 bits that never begins again.
                readings[f"{_GPU}{index}"] = Reading(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / _MILLIJOULES)
            return readings
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError:
        # GPUs before Volta do not count.
        return {}


@dataclass
class Meter:
    """The energy that a machine's counters have counted since `begin`. `poll` has to be called before they wrap twice.

    Args:
        counters: The kinds of counters.
    """

    counters: tuple[Counters, ...] = (read_processors, read_gpus)
    _last: dict[str, Reading] = field(default_factory=dict)
    _joules: float = 0.0
    _is_whole: bool = False

    def begin(self) -> None:
        """Read all counters for the first time."""
        self._last, self._joules = self._read(), 0.0
        # Without any counter there is no sum, which is not a sum of zero.
        self._is_whole = bool(self._last)

    def poll(self) -> None:
        """Add what the counters have counted since they were read last."""
        readings = self._read()
        # A counter that has gone, or may not be read any more, leaves a sum that means nothing.
        self._is_whole = self._is_whole and readings.keys() == self._last.keys()
        if not self._is_whole:
            return
        for name, reading in readings.items():
            counted = reading.joules - self._last[name].joules
            if counted < 0 and math.isinf(reading.range_joules):
                # A counter without an end fell, for example as its driver was loaded anew: what it counted is lost.
                self._is_whole = False
                return
            if counted < 0:
                # It began at 0 again, once at most: that is what polling is for.
                counted += reading.range_joules
            self._joules += counted
        self._last = readings

    @property
    def parts(self) -> str:
        """The parts of the machine whose energy was counted, in words."""
        names = {"GPUs" if name.startswith(_GPU) else "processors" for name in self._last}
        return " and ".join(sorted(names, reverse=True))

    @property
    def joules(self) -> float | None:
        """What was counted from `begin` to the last `poll`; `None` if the machine does not tell it."""
        return self._joules if self._is_whole else None

    def _read(self) -> dict[str, Reading]:
        readings: dict[str, Reading] = {}
        for read in self.counters:
            readings |= read()
        return readings


@contextmanager
def measured(meter: Meter, poll_seconds: float = _POLL_SECONDS) -> Iterator[Meter]:
    """Let a meter count inside the block, polled by a thread; afterwards it has the energy of the whole block."""
    meter.begin()
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(poll_seconds):
            meter.poll()

    # A daemon, so that a launch which dies does not hang on its meter.
    thread = threading.Thread(target=poll, name="energy", daemon=True)
    # Most machines do not tell their energy to everybody: then there is nothing to poll.
    if meter.joules is not None:
        thread.start()
    try:
        yield meter
    finally:
        stop.set()
        # The last poll must be the only reader: two at once would count the same energy twice.
        if thread.is_alive():
            thread.join()
        meter.poll()
