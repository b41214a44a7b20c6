"""What is known of how fast this machine works: measurements and launches, in a JSON file in the runs folder.

Measurements come from `runners.estimates.calibration` and from trainings and evaluations that have finished. Only the
newest of each kind of work are kept, and those of another version of the project are not heeded. A damaged file counts
as none, since everything in it can be measured again. No torch here.
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
"""What is added to the spread of a time that was measured with another number of tasks at once."""
_OTHER_HOST_SPREAD = 0.15
_NO_NUMBER = 1e18
"""No time in seconds and no size in bytes."""
_FEW_STEPS_SPREAD = 0.1
"""What is added where only a few steps were timed: a training takes longer than that, and a machine has its days."""


@dataclass(frozen=True)
class Load:
    """Under what something was timed, or is to be estimated.

    Attributes:
        device: `cpu`, or the model of a GPU.
        workers: How many tasks run at once on the machine.
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
    """One time that some work was timed.

    Attributes:
        source: `calibrated` from a few steps, `learned` from a whole training or evaluation, `counted` if not timed.
        time: When, in seconds since 1970.
        version: Of the project, see `Machine`.
        load: Under what.
        host: The machine's name.
        speed: What was found; 0 where it was not looked at.
        parameters: How many parameters the network has; 0 if they were not counted.
        network: What names the network, see `ablations.planning.lint.network_of`.
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
    """Returns which files of measurements of a runs folder cannot be read."""
    found = (_FILE.damage(path) for path in sorted((runs_dir / _FOLDER).glob("[!.]*.json")))
    return [damage for damage in found if damage is not None]


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
        """Where all this is kept."""
        return self._folder / f"{self.machine.name}.json"

    def _read(self) -> None:
        own = _FILE.find(self.file)
        self._measured = _measured_in(own)
        self._launches = list(_launches_in(own))
        # Another machine that is just like this one, for example another node of a cluster, is the next best.
        self._elsewhere = {}
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            other = _FILE.find(path)
            if path != self.file and _hardware_of(other) == self.machine.hardware:
                for key, measured in _measured_in(other).items():
                    self._elsewhere.setdefault(key, []).extend(measured)

    def device(self, asked: str) -> str:
        """Returns the kind of the device that is meant by `cpu`, `cuda`, `cuda:1` or `auto`, as far as can be told.

        A machine may have a GPU that torch cannot use; what was measured under `auto` tells.
        """
        gpus, index = self.machine.gpus, asked.partition(":")[2]
        if asked == "cpu" or not gpus:
            return "cpu"
        wanted = gpus[int(index)] if index.isdecimal() and int(index) < len(gpus) else gpus[0]
        devices = {one.load.device for measured in self._measured.values() for one in measured}
        return "cpu" if asked == "auto" and "cpu" in devices and wanted not in devices else wanted

    @property
    def launches(self) -> tuple[Record, ...]:
        """The newest launches on this machine, the first one first."""
        return tuple(self._launches)

    def speeds(self, keys: Iterable[str], load: Load) -> dict[str, Speed]:
        """Returns how fast the work called by `keys` goes under a load, as far as it was measured."""
        found = {}
        for key in dict.fromkeys(keys):
            own, other = self._usable(self._measured, key, load), self._usable(self._elsewhere, key, load)
            if own or other:
                found[key] = _combined(_closest(own or other, load), load, self.machine)
        return found

    def _usable(self, known: Mapping[str, Sequence[Measurement]], key: str, load: Load) -> list[Measurement]:
        measured = known.get(key, ())
        return [one for one in measured if one.version == self.machine.version and one.load.device == load.device]

    def parameters(self) -> dict[str, int]:
        """Returns the parameters of the networks that were counted, by `ablations.planning.lint.network_of`."""
        every = (one for known in (self._elsewhere, self._measured) for measured in known.values() for one in measured)
        return {one.network: one.parameters for one in every if one.network and one.parameters}

    def add(self, found: Mapping[str, Sequence[Measurement]], launch: Record | None = None) -> None:
        """Keeps measurements by key, and a launch; where nothing can be written, for as long as this process lives.

        What other processes have written meanwhile stays.
        """
        if not found and launch is None:
            return
        with suppress(OSError, OutputError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with exclusively(self._folder / ".lock"):
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
            "measurements": {key: [asdict(one) for one in measured] for key, measured in self._measured.items()},
            "launches": [launch.as_mapping() for launch in self._launches],
        }


def _measured_in(content: Mapping[str, Any] | None) -> dict[str, list[Measurement]]:
    return content["measurements"] if content is not None else {}


def _launches_in(content: Mapping[str, Any] | None) -> Iterator[Record]:
    with suppress(TypeError, KeyError, ValueError, AttributeError, OverflowError):
        yield from [Record.from_mapping(one) for one in (content["launches"] if content is not None else ())]


def _hardware_of(content: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    return content["machine"].hardware if content is not None else None


def _newest(measured: Sequence[Measurement], version: str) -> list[Measurement]:
    """Returns the measurements of this version that were added last, in the order in which they were added.

    As many that were learned as that were calibrated are kept. A clock that was set back does not make them old.
    """
    current = [measurement for measurement in measured if measurement.version == version]
    learned = [measurement for measurement in current if measurement.source == "learned"]
    calibrated = [measurement for measurement in current if measurement.source != "learned"]
    return [*calibrated[-_MOST_MEASUREMENTS:], *learned[-_MOST_MEASUREMENTS:]]


def _closest(measured: Sequence[Measurement], load: Load) -> list[Measurement]:
    """Returns the measurements under the load that is most like this one."""

    def distance(one: Measurement) -> tuple[int, float]:
        return abs(one.load.threads - load.threads), abs(math.log(one.load.workers / load.workers))

    least = min(map(distance, measured))
    return [one for one in measured if distance(one) == least]


def _combined(measured: Sequence[Measurement], load: Load, machine: Machine) -> Speed:
    """Returns what measurements say together: of each number the median, learned ones before calibrated ones."""
    cores = machine.cores
    crowding = max(1.0, load.tasks / cores) / max(1.0, measured[0].load.tasks / cores)
    if load.device != "cpu":
        crowding = 1.0
    learned = [one.speed for one in measured if one.source == "learned"]
    speeds = [one.speed for one in measured]
    times = {name: crowding * _median(name, learned, speeds) for name in ("step", "image", "setup")}
    alone = [speed.evaluation_image for speed in learned if speed.evaluation_image is not None]
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
        memory=max(speed.memory for speed in speeds),
        gpu_memory=max(speed.gpu_memory for speed in speeds),
        weights=max(speed.weights for speed in speeds),
        is_learned=any(speed.step > 0 or speed.setup > 0 for speed in learned),
    )


def _median(name: str, learned: Sequence[Speed], speeds: Sequence[Speed]) -> float:
    """Returns the median of a number over those that looked at it."""
    for group in (learned, speeds):
        values = [getattr(speed, name) for speed in group if getattr(speed, name) > 0]
        if values:
            return float(statistics.median(values))
    return 0.0


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(map(math.log, values)) if len(values) > 1 else 0.0
