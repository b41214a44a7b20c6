"""The load that a training measures of itself, by clocks and a GPU that the test winds."""

from __future__ import annotations

import mmap

import pytest
import torch

from runners.workers import load
from runners.workers.load import CORES, GPU_BUSY, MEMORY, LoadMeter, gpu_busy

CPU = torch.device("cpu")


class Machine:
    """Clocks that move when the test says so, and a GPU that is as busy as it says."""

    def __init__(self) -> None:
        self.clock = self.cpu = 100.0
        self.busy: float | None = None

    def meter(self) -> LoadMeter:
        return LoadMeter(CPU, lambda: self.clock, lambda: self.cpu, lambda device: self.busy)


def test_cores_are_those_of_the_epoch_alone() -> None:
    machine = Machine()
    meter = machine.meter()
    machine.clock, machine.cpu = 110.0, 125.0
    assert meter.read()[CORES] == pytest.approx(2.5)
    machine.clock, machine.cpu = 114.0, 127.0
    assert meter.read()[CORES] == pytest.approx(0.5)


def test_a_reading_in_no_time_has_no_cores() -> None:
    assert CORES not in Machine().meter().read()


def test_a_gpu_is_as_busy_as_the_mean_of_what_was_seen_in_the_epoch() -> None:
    machine = Machine()
    meter = machine.meter()
    for share in (100.0, None, 50.0):
        machine.busy = share
        meter.sample()
    assert meter.read()[GPU_BUSY] == pytest.approx(75.0)
    assert GPU_BUSY not in meter.read()


def test_memory_grows_with_what_the_process_takes() -> None:
    meter = Machine().meter()
    before = meter.read()[MEMORY]
    # New pages of the system: memory that the process has given back to itself would not be seen to grow.
    with mmap.mmap(-1, 80_000_000) as block:
        block.write(bytes(80_000_000))
        # Other parts of the process may give some back meanwhile.
        assert meter.read()[MEMORY] - before > 60


def test_a_gpu_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> int:
        raise ModuleNotFoundError("pynvml does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert gpu_busy(torch.device("cuda:0")) is None
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 37)
    assert gpu_busy(torch.device("cuda:0")) == 37.0
    assert gpu_busy(CPU) is None


def test_all_of_it_is_shown_among_system_metrics() -> None:
    metrics = (load.CORES, load.MEMORY, load.GPU_MEMORY, load.GPU_BUSY)
    assert all(name.startswith("system/") for name in metrics)
