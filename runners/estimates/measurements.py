"""Keeps what is measured of this machine's speed in a JSON file of the runs folder, and learns from finished launches.

Only the newest measurements of each kind of work are kept, and those of another version of the project are ignored.
A damaged file counts as none, since everything in it can be measured again. No torch here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from ablations.errors import OutputError
from ablations.launches import Record
from ablations.planning.nodes import Node
from runners.estimates.estimate import Speed, count_images, work_steps
from runners.hardware import Machine
from runners.state.files import exclusively, write_json
from runners.state.layout import RunsFolder
from runners.state.nodes import NodeState
from runners.state.schemas import Count, Damage, FileKind

_MOST_MEASUREMENTS, _MOST_LAUNCHES = 24, 30
# Added to the spread of a time: measured with another number of tasks at once, on another machine just like this one,
# or over a few steps only, where a training lasts longer and a machine is slower on some days.
_OTHER_LOAD_SPREAD, _OTHER_HOST_SPREAD, _FEW_STEPS_SPREAD = 0.15, 0.15, 0.1


@dataclass(frozen=True)
class Load:
    """The device, and the tasks at once with the threads of each, under which something is timed or estimated."""

    device: str
    workers: Annotated[int, Field(ge=1, le=10**6)]
    threads: Annotated[int, Field(ge=1, le=10**6)]

    def crowding(self, cores: int) -> float:
        """Return the factor by which tasks are slower because more threads compute than there are cores."""
        if self.device != "cpu":
            return 1.0
        return max(1.0, self.workers * self.threads / cores)

    def distance(self, load: Load) -> tuple[int, float]:
        """Return how different two loads are: the threads decide, then the ratio of workers."""
        return abs(self.threads - load.threads), abs(math.log(self.workers / load.workers))


@dataclass(frozen=True)
class SpeedMeasurement:
    """The speed of some work under a load: `learned` from a whole node, or `calibrated` from a few steps."""

    source: str
    version: str
    load: Load
    speed: Speed


class _File(BaseModel):
    """What is known of one machine: measurements by `speed_key`, and numbers of parameters by `lint.network_of`."""

    machine: Machine
    measurements: dict[str, list[SpeedMeasurement]] = Field(default_factory=dict)
    launches: list[dict[str, Any]] = Field(default_factory=list)
    parameters: dict[str, Count] = Field(default_factory=dict)


_FILE: FileKind[_File] = FileKind(_File)


def _speed_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.json"))


def speed_damages(runs_dir: Path) -> list[Damage]:
    """Return the damages of the files of measurements in a runs folder."""
    return _FILE.damages(_speed_files(RunsFolder(runs_dir).speeds))


class Measurements:
    """Measurements and launches of one machine in a runs folder; nothing is written before something is added."""

    def __init__(self, runs_dir: Path, machine: Machine | None = None) -> None:
        self.machine = machine or Machine.here()
        self.file = RunsFolder(runs_dir).speeds / f"{self.machine.name}.json"
        self._read()

    def _read(self) -> None:
        self.content = _FILE.find(self.file) or _File(machine=self.machine)
        # Another machine that is just like this one, for example another node of a cluster, is the next best.
        self._twins: list[_File] = []
        for path in _speed_files(self.file.parent):
            if path != self.file:
                content = _FILE.find(path)
                if content is not None and content.machine.hardware == self.machine.hardware:
                    self._twins.append(content)

    def device(self, option: str) -> str:
        """Return the kind of device that `cpu`, `cuda`, `cuda:1` or `auto` means, as far as can be told without torch.

        A machine may have a GPU that torch cannot use: if only the CPU was measured so far, `auto` means the CPU.
        """
        gpus, index = self.machine.gpus, option.partition(":")[2]
        if option == "cpu" or not gpus:
            return "cpu"
        gpu = gpus[0]
        if index.isdecimal() and int(index) < len(gpus):
            gpu = gpus[int(index)]
        devices: set[str] = set()
        for measurements in self.content.measurements.values():
            devices.update(measurement.load.device for measurement in measurements)
        if option == "auto" and "cpu" in devices and gpu not in devices:
            return "cpu"
        return gpu

    @property
    def launches(self) -> list[Record]:
        """The newest launches on this machine, the first one first."""
        with suppress(TypeError, KeyError, ValueError, OverflowError):
            return [Record.from_mapping(mapping) for mapping in self.content.launches]
        return []

    def speed(self, key: str, load: Load) -> Speed | None:
        """Return the speed of some work under a load, or `None` if it was not measured."""
        for contents, host_spread in (([self.content], 0.0), (self._twins, _OTHER_HOST_SPREAD)):
            by_distance: dict[tuple[int, float], list[SpeedMeasurement]] = {}
            for content in contents:
                for item in content.measurements.get(key, ()):
                    if item.version == self.machine.version and item.load.device == load.device:
                        by_distance.setdefault(load.distance(item.load), []).append(item)
            if by_distance:
                return _combine(by_distance[min(by_distance)], load, self.machine.cores, host_spread)
        return None

    def add(
        self,
        source: str = "",
        speeds: Sequence[tuple[str, Load, Speed]] = (),
        *,
        parameters: Mapping[str, int] | None = None,
        launch: Record | None = None,
    ) -> None:
        """Add measurements, parameters and a launch to the file; to this object alone if it cannot be written."""
        if not (speeds or parameters or launch):
            return
        version = self.machine.version
        with ExitStack() as stack:
            with suppress(OSError, OutputError):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusively(self.file.with_name(".lock")))
                # Read under the lock: another launch may have written since.
                self._read()
            content = self.content
            content.machine = self.machine
            for key, load, speed in speeds:
                earlier = [m for m in content.measurements.get(key, ()) if m.version == version]
                newest = [*earlier, SpeedMeasurement(source, version, load, speed)]
                content.measurements[key] = newest[-_MOST_MEASUREMENTS:]
            content.parameters.update(parameters or {})
            if launch is not None:
                content.launches = [*content.launches, launch.as_mapping()][-_MOST_LAUNCHES:]
            with suppress(OSError, OutputError):
                write_json(self.file, content.model_dump(mode="json", by_alias=True))


def _combine(measurements: Sequence[SpeedMeasurement], load: Load, cores: int, host_spread: float) -> Speed:
    """Return the median times under a load, learned before calibrated ones, of measurements equally far from it."""
    measured_load = measurements[0].load
    factor = load.crowding(cores) / measured_load.crowding(cores)
    learned: list[Speed] = []
    calibrated: list[Speed] = []
    evaluations: list[float] = []
    # The largest that was seen: a warning too many costs less than a killed worker.
    memory_bytes = gpu_memory_bytes = weights_bytes = 0
    for measurement in measurements:
        speed = measurement.speed
        memory_bytes = max(memory_bytes, speed.memory_bytes)
        gpu_memory_bytes = max(gpu_memory_bytes, speed.gpu_memory_bytes)
        weights_bytes = max(weights_bytes, speed.weights_bytes)
        if speed.evaluation_image_seconds is not None:
            evaluations.append(speed.evaluation_image_seconds)
        if not (speed.step_seconds or speed.setup_seconds):
            continue
        if measurement.source == "learned":
            learned.append(speed)
        else:
            calibrated.append(speed)
    timed = learned or calibrated
    steps = [speed.step_seconds for speed in timed if speed.step_seconds]
    # Independent sources of error: their variances add up.
    spreads = [_median(speed.spread for speed in timed)]
    if len(steps) > 1:
        spreads.append(statistics.stdev(map(math.log, steps)))
    if measured_load.workers != load.workers:
        spreads.append(_OTHER_LOAD_SPREAD)
    if not learned:
        spreads.append(_FEW_STEPS_SPREAD)
    spreads.append(host_spread)
    return Speed(
        step_seconds=factor * _median(steps),
        setup_seconds=factor * _median(speed.setup_seconds for speed in timed),
        evaluation_image_seconds=factor * statistics.median(evaluations) if evaluations else None,
        memory_bytes=memory_bytes,
        gpu_memory_bytes=gpu_memory_bytes,
        weights_bytes=weights_bytes,
        spread=math.hypot(*spreads),
        is_learned=bool(learned),
    )


def _median(values: Iterable[float]) -> float:
    """Return the median, 0 of no values."""
    return statistics.median([*values] or [0.0])


def learn(node: Node, state: NodeState) -> Speed | None:
    """Return the speed of a node that this machine has finished at the first attempt; `None` if it tells none."""
    result = state.result() or {}
    memory = Speed(memory_bytes=result.get("peak_memory", 0), gpu_memory_bytes=result.get("peak_gpu_memory", 0))
    if node.kind == "cost":
        return replace(memory, setup_seconds=result["seconds"])
    if node.kind == "evaluation":
        return replace(memory, evaluation_image_seconds=result["seconds"] / count_images(node.spec, "test"))
    # A tuning or a search may stop early, is not measured on the test split, and may train another network. A training
    # that fell back to a smaller micro-batch for lack of memory does not show the speed of the planned one.
    train = node.spec.train
    if node.kind != "trial" or result.get("micro_batch") != (train.micro_batch or train.batch_size):
        return None
    weights = state.weights_file.stat().st_size if state.weights_file.exists() else 0
    # Beginning and end are spread over the steps, as nothing tells them apart.
    return replace(memory, step_seconds=result["seconds"] / work_steps(node), weights_bytes=weights)
