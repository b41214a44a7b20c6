"""A source distribution and a wheel hold all that is needed, and run from an empty folder.

Dependencies are those of the tests' own environment: to install torch takes minutes. Kernels are not compiled, which
takes one more; torch does their work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = (
    "ablations",
    "dyconv",
    "runners",
    "reports",
    "run_ablation.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
# As where there is no compiler.
ENVIRONMENT = {**os.environ, "CC": "false", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def execute(*command: object, folder: Path, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    """Carry a command out in a folder and return what it prints; it must succeed."""
    words = [str(word) for word in command]
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source distribution of what is in this checkout."""
    copy, folder = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    listed = [str(path.relative_to(ROOT)) for top in TOP for path in sorted([ROOT / top, *(ROOT / top).rglob("*")])]
    for name in listed:
        source, target = ROOT / name, copy / name
        # Without what was built here.
        if source.is_file() and source.suffix not in (".so", ".pyc"):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    execute(sys.executable, "-c", build, folder=copy)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    """Return the wheel that is made of the source distribution."""
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", sources.parent)
    execute(sys.executable, "-m", "pip", "wheel", *options, sources, folder=sources.parent)
    (archive,) = sources.parent.glob("*.whl")
    return archive


def test_the_distributions_hold_what_is_no_python(sources: Path, wheel: Path) -> None:
    needed = [
        "ablations/published.yaml",
        "ablations/py.typed",
        "dyconv/kernels/csrc/_native.h",
        "dyconv/kernels/csrc/_panels_lanes.h",
        "dyconv/kernels/cuda/choices.json",
        "runners/data/embedded/LICENSE-fashion-mnist.txt",
        "reports/render/templates",
        "run_ablation.py",
    ]
    with tarfile.open(sources) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.namelist()
        (metadata,) = [archive.read(name).decode() for name in packed if name.endswith("METADATA")]
    for path in needed:
        assert any(name.startswith(path) for name in names), path
        assert any(name.startswith(path) for name in packed), path
    # Tests, pages and benchmarks are no part of what is installed.
    assert {name.partition("/")[0] for name in packed if "dist-info" not in name} == {
        "ablations",
        "dyconv",
        "runners",
        "reports",
        "run_ablation.py",
    }
    assert "Two commands" in metadata, "the description on a package index is the README"


@pytest.mark.torture
def test_a_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    installed, folder = tmp_path / "installed", tmp_path / "elsewhere"
    folder.mkdir()
    options = ("--no-deps", "--quiet", "--target", installed)
    execute(sys.executable, "-m", "pip", "install", *options, wheel, folder=folder)
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(installed)
    where = (
        "import ablations, dyconv, reports, runners as r; print(*(p.__file__ for p in (ablations, dyconv, reports, r)))"
    )
    for path in execute(sys.executable, "-c", where, folder=folder, environment=environment).split():
        assert Path(path).is_relative_to(installed)
    command = (sys.executable, installed / "bin" / "run-ablation")
    assert "aggregation" in execute(*command, "list", folder=folder, environment=environment)
    row = ("aggregation/tau_1: attention", "--preset", "smoke", "--seed", 0, "--dispatch", "inline")
    execute(*command, "run", *row, folder=folder, environment=environment)
    (report,) = (folder / "runs" / "reports").glob("*.pdf")
    execute(*command, "verify", report, folder=folder, environment=environment)
