"""Real clusters on this machine for the tests: a SLURM of one node, Ray of several."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_SLURM = Path(__file__).with_name("slurm-local.sh")
_NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")


@contextmanager
def local_slurm(cpus: int) -> Iterator[Path]:
    """A real SLURM of one node, and a folder for its jobs; skips the test where there can be none."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    missing = [name for name in _NEEDED if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)} (Debian: slurm-wlm, munge)")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of one's own needs root")
    # In a short path: munge's socket is in it.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        subprocess.run([str(_SLURM), "start", folder, str(cpus)], check=True)
        patch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        try:
            yield Path(folder) / "runs"
        finally:
            subprocess.run([str(_SLURM), "stop", folder], check=True)


@contextmanager
def local_ray(nodes: int, cpus: int) -> Iterator[Any]:
    """A real Ray of so many nodes beside a head that runs nothing, each with so many CPUs; gives Ray's `Cluster`."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(head_node_args={"num_cpus": 0}, initialize_head=True)
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cpus)
        yield cluster
    finally:
        cluster.shutdown()
