"""The Triton programs as Triton compiles them, which its interpreter does not tell: for GPUs that need not be here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dyconv.kernels.cuda import launching
from dyconv.kernels.cuda.launching import Tile

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]


def _compiled(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.dyconv.kernels.compile_programs", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# A process of its own loads torch: some seconds.
@pytest.mark.torture
def test_triton_understands_every_program(tmp_path: Path) -> None:
    checked = _compiled(tmp_path, "frontend")
    assert [one["program"] for one in checked] == [
        "mixed_product",
        "kernel_gradient",
        "depthwise",
        "depthwise_kernel_gradient",
    ]
    assert all(one["verified"] for one in checked)


@pytest.mark.torture
def test_programs_fit_the_devices_and_use_their_tensor_cores(tmp_path: Path) -> None:
    for one in _compiled(tmp_path):
        assert one["shared_bytes"] <= launching._SHARED_BYTES, one
        # What does not fit the registers goes to memory: a few numbers may.
        assert one["stack_bytes"] <= 128, one
        if one["program"] in ("mixed_product", "kernel_gradient"):
            assert one["matrix_instructions"], one
        # Small tiles take less than is allowed for, as their pixels are multiplied from registers. Without loads ahead
        # float32 takes more than the sum of what is multiplied; that is little.
        tile = Tile(*one["tile"])
        if one["program"] == "mixed_product" and tile.stages > 1:
            size = 4 if one["dtype"] == "fp32" else 2
            assert one["shared_bytes"] <= tile.shared_bytes(one["num_kernels"], size), one
