"""What the tests of this folder share: a valid study file of twenty-odd lines and a way to load a changed one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.files.study_file import load_study
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.study import Study

STUDY_FILE = """\
name: my-kernels
question: How many kernels does a small network need?
reference: k4
published: temperature
baseline:
  train.epochs: 2
  train:
    temperature: {schedule: constant, start: 30}
    weight_decay: 1e-4
variants:
  static:
    published: static
    model.layer: static
  k2: {model.num_kernels: 2}
  k4:
    label: K = 4
    model:
      num_kernels: 4
      where:
        not:
          role: [stem, head, squeeze_excitation]
  averaged:
    intervention:
      aggregation: average
      where: {resolution: [7, 14]}
"""


@pytest.fixture(scope="session")
def study_text() -> str:
    """The text of a valid study file."""
    return STUDY_FILE


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str | bytes], Study]:
    """Loads a study from text or bytes written to `study.yaml` in a new folder."""

    def load_text(content: str | bytes) -> Study:
        path = tmp_path / "study.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return load_study(path)

    return load_text


@pytest.fixture
def plan() -> Callable[..., Plan]:
    """Plans built-in studies by name: `plan("temperature", preset="quick", overrides={...}, seeds=2, done=...)`."""

    def make(
        *names: str,
        preset: str = "quick",
        overrides: dict[str, object] | None = None,
        seeds: int | None = None,
        done: set[str] | None = None,
    ) -> Plan:
        request = Request(get_preset(preset), overrides or {}, seeds)
        return make_plan([get_study(name, request.base()) for name in names], request, done or ())

    return make
