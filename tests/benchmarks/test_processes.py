"""Processor time is told of processes that nobody waits for, and told apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import processor_seconds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts orphans")

_BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
_LEAVES = """
import subprocess, sys
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
subprocess.Popen([sys.executable, "-c", middle, {burn!r}])
"""


def _command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_a_command_leaves_behind_is_counted_as_others(tmp_path: Path) -> None:
    code = _LEAVES.format(burn=_BURN.format(seconds=1.0))
    measured = processor_seconds(_command(code), tmp_path, os.environ)
    assert 1.0 <= measured.others < 2.0
    assert measured.own < 0.5


def test_what_a_command_does_and_waits_for_is_its_own(tmp_path: Path) -> None:
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_BURN.format(seconds=0.5)!r}])\n"
    measured = processor_seconds(_command(code + _BURN.format(seconds=0.5)), tmp_path, os.environ)
    assert 1.0 <= measured.own < 2.0
    assert measured.others == pytest.approx(0, abs=0.1)


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        processor_seconds(_command("raise SystemExit(3)"), tmp_path, os.environ)
