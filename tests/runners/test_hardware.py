"""What this machine is and has: read from files that are made up, and plausible for the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners import hardware
from runners.hardware import Machine, free_bytes, memory_bytes


def test_this_machine_is_the_same_each_time() -> None:
    here = Machine.here()
    assert here == Machine.here()
    assert here.cores == hardware.cores() >= 1
    assert here.cpu
    assert here.name == Machine.here().name
    assert os.sep not in here.name


def test_two_machines_have_two_names() -> None:
    names = {
        Machine(host, cpu, cores, gpus, "1").name
        for host in ("a", "b")
        for cpu in ("x", "y")
        for cores in (1, 2)
        for gpus in ((), ("g",))
    }
    assert len(names) == 16
    assert Machine("a", "x", 1, (), "1").name == Machine("a", "x", 1, (), "2").name


@pytest.mark.parametrize(
    ("limit", "expected"), [("max\n", 4096 * 1024), ("1000000\n", 1_000_000), ("9223372036854771712\n", 4096 * 1024)]
)
def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, expected: int) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 12 kB\nMemTotal:       4096 kB\n")
    (tmp_path / "max").write_text(limit)
    monkeypatch.setattr(hardware, "_MEMORY_FILE", tmp_path / "meminfo")
    monkeypatch.setattr(hardware, "_LIMIT_FILES", (tmp_path / "max", tmp_path / "missing"))
    assert memory_bytes() == expected


def test_memory_of_another_system_is_asked_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = memory_bytes()
    monkeypatch.setattr(hardware, "_MEMORY_FILE", tmp_path / "missing")
    monkeypatch.setattr(hardware, "_LIMIT_FILES", ())
    found = memory_bytes()
    assert found is not None
    assert real is not None
    assert found >= real * 0.99


PEAKS = """
from runners.hardware import forget_peak_memory, peak_memory_bytes

forget_peak_memory()
print(peak_memory_bytes())
block = b"x" * 80_000_000
print(peak_memory_bytes())
del block
forget_peak_memory()
print(peak_memory_bytes())
"""


def test_the_peak_rises_and_is_forgotten() -> None:
    # In a process of its own: this one may have memory left over that a block fits into.
    told = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout
    before, during, after = map(int, told.split())
    assert during - before > 60_000_000
    assert after <= during


def test_what_is_free_where_a_folder_will_be(tmp_path: Path) -> None:
    found = free_bytes(tmp_path / "not" / "there" / "yet")
    assert found is not None
    assert found > 0


def test_gpus_are_read_from_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number in (0, 1):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 7\n")
    monkeypatch.setattr(hardware, "_GPU_FOLDER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware._gpus.cache_clear()
    assert hardware._gpus() == ("NVIDIA H100 80GB HBM3",) * 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hardware._gpus.cache_clear()
    assert hardware._gpus() == ()
    hardware._gpus.cache_clear()
