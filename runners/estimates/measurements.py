"""Keeps the measured speeds of this machine and its launches, in a JSON file in the runs folder.

Measurements come from `runners.estimates.calibration` and from trainings and evaluations that have finished. Only the
newest of each kind of work are kept, and those of another version of the project are ignored. A damaged file counts as
none, since everything in it can be measured again. No torch here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from ablations.errors import OutputError
from ablations.launches import Record
from runners.estimates.estimate import Speed
from runners.hardware import Machine
from runners.state.files import exclusively, write_json
from runners.state.schemas import Damage, Kind

_FOLDER = "speeds"
_MOST_MEASUREMENTS = 12
_MOST_LAUNCHES = 30
_OTHER_LOAD_SPREAD = 0.15
"""Added to the spread of a time that was measured with another number of tasks at once."""
_OTHER_HOST_SPREAD = 0.15
_NO_NUMBER = 1e18
"""No time in seconds and no size in bytes reaches this: the file is damaged."""
_FEW_STEPS_SPREAD = 0.1
"""Added where only a few steps were timed: a training lasts longer, and a machine is slower on some days."""


@dataclass(frozen=True)
class Load:
    """The device and the tasks at once, under which something was timed or is to be estimated.

    Attributes:
        device: `cpu`, or the model of a GPU.
        workers: The number of tasks at once on the machine.
        threads: Threads of each.
    """

    device: str
    workers: Annotated[int, Field(ge=1, le=10**6)]
    threads: Annotated[int, Field(ge=1, le=10**6)]

    @property
    def tasks(self) -> int:
        """Threads that compute at once."""
        return self.workers * self.threads


@dataclass(frozen=True)
class Measurement:
    """One measurement of some work.

    Attributes:
        source: `calibrated` from a few steps, `learned` from a whole training or evaluation, `counted` if not timed.
        time: When it was made, in seconds since 1970.
        version: Of the project, see `Machine`.
        load: The load of the machine at that time.
        host: The machine's name.
        speed: The measured numbers; 0 for those that were not measured.
        parameters: The number of parameters of the network; 0 if they were not counted.
        network: The key of the network, see `ablations.planning.lint.network_of`.
    """

    source: str
    time: float
    version: str
    load: Load
    host: str
    speed: Speed
    parameters: int = 0
    network: str = ""


def _has_times(measurement: Measurement) -> Measurement:
    numbers = [value for value in vars(measurement.speed).values() if value is not None]
    if not all(0 <= number < _NO_NUMBER for number in (measurement.time, *numbers)):
        raise ValueError("a time or a size that cannot be")
    return measurement


class _File(TypedDict):
    """The file of one machine."""

    machine: Machine
    measurements: dict[str, list[Annotated[Measurement, AfterValidator(_has_times)]]]
    launches: list[dict[str, Any]]


_FILE: Kind[dict[str, Any]] = Kind(_File)


def speed_damages(runs_dir: Path) -> list[Damage]:
    """Return the damages of the files of measurements in a runs folder."""
    damages = (_FILE.damage(path) for path in sorted((runs_dir / _FOLDER).glob("[!.]*.json")))
    return [damage for damage in damages if damage is not None]


class Experience:
    """Measurements and launches of one machine, in the runs folder.

    Args:
        runs_dir: The runs folder; nothing is written before something is to be kept.
        machine: The machine, this one if it is left out.
    """

    def __init__(self, runs_dir: Path, machine: Machine | None = None) -> None:
        self.machine = machine or Machine.here()
        self._folder = runs_dir / _FOLDER
        self._measured: dict[str, list[Measurement]] = {}
        self._elsewhere: dict[str, list[Measurement]] = {}
        self._launches: list[Record] = []
        self._read()

    @property
    def file(self) -> Path:
        """The file of this machine."""
        return self._folder / f"{self.machine.name}.json"

    def _read(self) -> None:
        content = _FILE.find(self.file)
        self._measured = _measured_in(content)
        self._launches = list(_launches_in(content))
        # Another machine that is just like this one, for example another node of a cluster, is the next best.
        self._elsewhere = {}
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            content_of_twin = _FILE.find(path)
            if path != self.file and _hardware_of(content_of_twin) == self.machine.hardware:
                for key, measured in _measured_in(content_of_twin).items():
                    self._elsewhere.setdefault(key, []).extend(measured)

    def device(self, asked: str) -> str:
        """Return the kind of device that `cpu`, `cuda`, `cuda:1` or `auto` means, as far as can be told without torch.

        A machine may have a GPU that torch cannot use: if only the CPU was measured so far, `auto` means the CPU.
        """
        gpus, index = self.machine.gpus, asked.partition(":")[2]
        if asked == "cpu" or not gpus:
            return "cpu"
        model = gpus[int(index)] if index.isdecimal() and int(index) < len(gpus) else gpus[0]
        devices = {measurement.load.device for measured in self._measured.values() for measurement in measured}
        return "cpu" if asked == "auto" and "cpu" in devices and model not in devices else model

    @property
    def launches(self) -> tuple[Record, ...]:
        """The newest launches on this machine, the first one first."""
        return tuple(self._launches)

    def speeds(self, keys: Iterable[str], load: Load) -> dict[str, Speed]:
        """Return the speeds of the work under a load by key, for those of `keys` that were measured."""
        speeds = {}
        for key in dict.fromkeys(keys):
            local, on_twins = self._usable(self._measured, key, load), self._usable(self._elsewhere, key, load)
            if local or on_twins:
                speeds[key] = _combined(_closest(local or on_twins, load), load, self.machine)
        return speeds

    def _usable(self, known: Mapping[str, Sequence[Measurement]], key: str, load: Load) -> list[Measurement]:
        measured = known.get(key, ())
        return [
            measurement
            for measurement in measured
            if measurement.version == self.machine.version and measurement.load.device == load.device
        ]

    def parameters(self) -> dict[str, int]:
        """Return the parameters of the networks that were counted, by `ablations.planning.lint.network_of`."""
        measurements = (
            measurement
            for by_key in (self._elsewhere, self._measured)
            for measured in by_key.values()
            for measurement in measured
        )
        return {
            measurement.network: measurement.parameters
            for measurement in measurements
            if measurement.network and measurement.parameters
        }

    def add(self, found: Mapping[str, Sequence[Measurement]], launch: Record | None = None) -> None:
        """Add measurements by key, and a launch, to the file; to this object alone if the file cannot be written.

        Measurements that other processes have written meanwhile are kept.
        """
        if not found and launch is None:
            return
        with suppress(OSError, OutputError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with exclusively(self._folder / ".lock"):
                # Read under the lock: another launch may have written since.
                self._read()
                self._take(found, launch)
                write_json(self.file, self._as_mapping())
            return
        self._take(found, launch)

    def _take(self, found: Mapping[str, Sequence[Measurement]], launch: Record | None) -> None:
        for key, measured in found.items():
            self._measured[key] = _newest([*self._measured.get(key, ()), *measured], self.machine.version)
        self._launches = [*self._launches, *([launch] if launch else ())][-_MOST_LAUNCHES:]

    def _as_mapping(self) -> dict[str, Any]:
        return {
            "machine": asdict(self.machine),
            "measurements": {
                key: [asdict(measurement) for measurement in measured] for key, measured in self._measured.items()
            },
            "launches": [launch.as_mapping() for launch in self._launches],
        }


def _measured_in(content: Mapping[str, Any] | None) -> dict[str, list[Measurement]]:
    return content["measurements"] if content is not None else {}


def _launches_in(content: Mapping[str, Any] | None) -> Iterator[Record]:
    with suppress(TypeError, KeyError, ValueError, AttributeError, OverflowError):
        yield from [Record.from_mapping(mapping) for mapping in (content["launches"] if content is not None else ())]


def _hardware_of(content: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    return content["machine"].hardware if content is not None else None


def _newest(measured: Sequence[Measurement], version: str) -> list[Measurement]:
    """Return the newest measurements of this version, in the order in which they were added.

    Learned and calibrated ones are limited separately. Order of addition counts and not time: a clock may be set back.
    """
    current = [measurement for measurement in measured if measurement.version == version]
    learned = [measurement for measurement in current if measurement.source == "learned"]
    calibrated = [measurement for measurement in current if measurement.source != "learned"]
    return [*calibrated[-_MOST_MEASUREMENTS:], *learned[-_MOST_MEASUREMENTS:]]


def _closest(measured: Sequence[Measurement], load: Load) -> list[Measurement]:
    """Return the measurements under the loads closest to `load`: threads first, then the ratio of workers."""

    def distance(one: Measurement) -> tuple[int, float]:
        return abs(one.load.threads - load.threads), abs(math.log(one.load.workers / load.workers))

    smallest = min(map(distance, measured))
    return [one for one in measured if distance(one) == smallest]


def _combined(measured: Sequence[Measurement], load: Load, machine: Machine) -> Speed:
    """Return the combined speed of measurements: the median of each number, of learned ones before calibrated ones."""
    cores = machine.cores
    # More tasks than cores share them, so times grow in proportion. All of `measured` have the load of the first.
    crowding = max(1.0, load.tasks / cores) / max(1.0, measured[0].load.tasks / cores)
    if load.device != "cpu":
        crowding = 1.0
    learned = [measurement.speed for measurement in measured if measurement.source == "learned"]
    speeds = [measurement.speed for measurement in measured]
    times = {name: crowding * _median(name, learned, speeds) for name in ("step", "image", "setup")}
    alone = [speed.evaluation_image for speed in learned if speed.evaluation_image is not None]
    # Independent sources of error: their variances add up.
    spread = math.hypot(
        _median("spread", learned, speeds),
        _spread([speed.step for speed in learned or speeds if speed.step > 0]),
        _OTHER_LOAD_SPREAD if measured[0].load.workers != load.workers else 0.0,
        0.0 if learned else _FEW_STEPS_SPREAD,
        _OTHER_HOST_SPREAD if measured[0].host != machine.host else 0.0,
    )
    return Speed(
        **times,
        evaluation_image=crowding * statistics.median(alone) if alone else None,
        spread=spread,
        # The largest that was seen: a warning too many costs less than a killed worker.
        memory=max(speed.memory for speed in speeds),
        gpu_memory=max(speed.gpu_memory for speed in speeds),
        weights=max(speed.weights for speed in speeds),
        is_learned=any(speed.step > 0 or speed.setup > 0 for speed in learned),
    )


def _median(name: str, learned: Sequence[Speed], speeds: Sequence[Speed]) -> float:
    """Return the median of a number over the learned speeds that have it, else over all that have it; 0 if none has."""
    for group in (learned, speeds):
        values = [getattr(speed, name) for speed in group if getattr(speed, name) > 0]
        if values:
            return float(statistics.median(values))
    return 0.0


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(map(math.log, values)) if len(values) > 1 else 0.0
