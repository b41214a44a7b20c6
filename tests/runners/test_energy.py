"""Energy from counters that wrap round, may not be read, or are not there; the sum is never that of a part."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from runners import energy
from runners.energy import Meter, Reading, measured, read_gpus, read_processors

_RANGE = 262_143_328_850


def _zone(powercap: Path, number: str, name: str, microjoules: int) -> Path:
    """Make a zone as Linux shows it."""
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{_RANGE}\n")
    return folder


def _script(*readings: dict[str, Reading]) -> Iterator[dict[str, Reading]]:
    yield from readings


def test_packages_are_counted_and_nothing_twice(tmp_path: Path) -> None:
    _zone(tmp_path, "0", "package-0", 5_000_000)
    _zone(tmp_path, "1", "package-1", 7_500_000)
    # Linux lists the zones of cores and memory beside their package, and `psys` is the whole board.
    _zone(tmp_path, "0:0", "core", 4_000_000)
    _zone(tmp_path, "0:1", "dram", 1_000_000)
    _zone(tmp_path, "2", "psys", 20_000_000)
    # Another interface to the same counter.
    (tmp_path / "intel-rapl-mmio:0").mkdir()
    assert read_processors(tmp_path) == {
        "intel-rapl:0": Reading(5.0, 262_143.32885),
        "intel-rapl:1": Reading(7.5, 262_143.32885),
    }


def test_a_machine_without_counters_or_without_the_right_to_read_them_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_processors(tmp_path / "missing") == {}
    _zone(tmp_path, "0", "package-0", 5_000_000)
    second = _zone(tmp_path, "1", "package-1", 7_000_000)
    assert len(read_processors(tmp_path)) == 2
    read = Path.read_text

    def refuse(path: Path, encoding: str | None = None) -> str:
        # By hand: tests may run as root, who may read everything.
        if path == second / "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", refuse)
    # One package of two would look like the energy of the machine.
    assert read_processors(tmp_path) == {}


def test_a_counter_that_begins_again(tmp_path: Path) -> None:
    _zone(tmp_path, "0", "package-0", _RANGE - 2_000_000)
    meter = Meter((lambda: read_processors(tmp_path),))
    meter.begin()
    _zone(tmp_path, "0", "package-0", 3_000_000)
    meter.poll()
    assert meter.joules == pytest.approx(5.0)
    _zone(tmp_path, "0", "package-0", 4_500_000)
    meter.poll()
    assert meter.joules == pytest.approx(6.5)
    assert meter.parts == "processors"


def test_processors_and_gpus_add_up() -> None:
    processors = _script({"intel-rapl:0": Reading(10.0, 100.0)}, {"intel-rapl:0": Reading(4.0, 100.0)})
    gpus = _script({"gpu:0": Reading(1.0), "gpu:1": Reading(2.0)}, {"gpu:0": Reading(1.5), "gpu:1": Reading(3.0)})
    meter = Meter((lambda: next(processors), lambda: next(gpus)))
    meter.begin()
    meter.poll()
    assert meter.joules == pytest.approx(94.0 + 0.5 + 1.0)
    assert meter.parts == "processors and GPUs"


@pytest.mark.parametrize("later", [{}, {"a": Reading(3.0)}, {"a": Reading(3.0), "b": Reading(3.0), "c": Reading(0.0)}])
def test_counters_that_come_or_go_leave_no_sum(later: dict[str, Reading]) -> None:
    readings = _script({"a": Reading(1.0), "b": Reading(1.0)}, later, {"a": Reading(9.0), "b": Reading(9.0)})
    meter = Meter((lambda: next(readings),))
    meter.begin()
    assert meter.joules == 0.0
    meter.poll()
    assert meter.joules is None
    meter.poll()
    assert meter.joules is None


def test_a_counter_without_an_end_that_falls_leaves_no_sum() -> None:
    readings = _script({"a": Reading(5.0)}, {"a": Reading(7.0)}, {"a": Reading(1.0)}, {"a": Reading(2.0)})
    meter = Meter((lambda: next(readings),))
    meter.begin()
    meter.poll()
    assert meter.joules == 2.0
    meter.poll()
    assert meter.joules is None
    meter.poll()
    assert meter.joules is None


def test_no_counter_is_no_energy_rather_than_none_used() -> None:
    with measured(Meter(())) as meter:
        pass
    assert meter.joules is None


def test_a_block_is_polled_meanwhile_and_at_its_end() -> None:
    # With each look 60 of 100 joules more: two looks missed would lose a whole round.
    looks = 0

    def read() -> dict[str, Reading]:
        nonlocal looks
        looks += 1
        return {"intel-rapl:0": Reading(looks * 60.0 % 100.0, 100.0)}

    with measured(Meter((read,)), poll_seconds=0.001) as meter:
        while looks < 5:
            time.sleep(0.001)
    assert meter.joules == pytest.approx((looks - 1) * 60.0)


class _FakeNvml(ModuleType):
    """NVIDIA's module for a machine with two GPUs, or with a driver that refuses."""

    class NVMLError(Exception):
        """NVML's own error."""

    def __init__(self, *, refuses: str = "") -> None:
        super().__init__("pynvml")
        self.refuses = refuses
        self.is_open = False

    def _answer(self, name: str) -> None:
        if name == self.refuses:
            raise self.NVMLError

    def nvmlInit(self) -> None:
        self._answer("init")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        self._answer(f"gpu {handle}")
        return 1500 * (handle + 1)


def test_gpus_are_read_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = _FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert read_gpus() == {"gpu:0": Reading(1.5), "gpu:1": Reading(3.0)}
    assert not nvml.is_open


@pytest.mark.parametrize("refuses", ["init", "gpu 1"])
def test_a_driver_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, refuses: str) -> None:
    nvml = _FakeNvml(refuses=refuses)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert read_gpus() == {}
    assert not nvml.is_open


def test_without_the_package_no_gpu_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # `None` in this table makes the import fail, whether or not the package is installed.
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.read_gpus() == {}
