"""The Python of docs/python.md runs as it stands there, one example after the other, and prints what the page says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations import registry
from ablations.errors import OptionError
from ablations.invocation import invoked_as, suggested_command
from runners import api
from runners.api.plans import find_plan
from runners.launching.settings import LaunchSettings
from runners.state.looks import recorded_looks
from tests.registries import registries_kept

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def test_the_page_says_what_its_python_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(registry, "_builders", {})
    values: dict[str, Any] = {}
    checked = 0
    with registries_kept():
        for code, expected in EXAMPLES:
            exec(code, values)
            printed = capsys.readouterr().out
            # A launch prints how it goes before the example prints what came of it.
            assert printed.endswith(expected), printed
            checked += bool(expected)
            if "api.results" in code:
                # Whoever reads results has seen them, as whoever reads a report has.
                planned = values["planned"]
                looks = recorded_looks(Path("my_runs"), ["temperature"], planned.plan.request.scale)
                assert [(look.finished, look.planned) for look in looks] == [(4, 16)]
    assert (len(EXAMPLES), checked) == (9, 8)
    frame, table = values["frame"], values["table"]
    assert (tmp_path / "my_runs" / "temperature.csv").read_text().count("\n") == 1 + len(frame) == 5
    # The frames agree with each other.
    means = frame.groupby("variant")["test/top1"].mean()
    assert table.set_index("variant")["mean"].to_dict() == pytest.approx(means.to_dict())
    delta = table.set_index("variant").loc["tau_1", "delta"]
    assert delta == pytest.approx(means["tau_1"] - means["tau_30"])
    assert values["files"]["md"].read_text().count("were asked for, with the reference") == 1


def test_every_function_of_the_page_is_there() -> None:
    functions = set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
    assert functions == set(api.__all__) - {"PlannedStudies"}
    assert all(getattr(api, name).__doc__ for name in functions)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = api.train


def test_settings_of_a_launch_are_given_once(tmp_path: Path) -> None:
    planned = api.plan("temperature/tau_1", preset="smoke", runs_dir=tmp_path / "runs")
    with pytest.raises(OptionError, match="Leave out workers"):
        api.run(planned, workers=2, launch=LaunchSettings())
    # Refused before anything is written.
    assert not (tmp_path / "runs").exists()


def test_a_script_suggests_commands_that_name_what_it_asked_for(tmp_path: Path) -> None:
    before = suggested_command("run")
    with invoked_as({"studies": ("temperature/tau_1",), "preset": "smoke", "runs_dir": tmp_path}):
        command = suggested_command("plan", calibrate=True)
        assert command.endswith(f" plan temperature/tau_1 --preset smoke --runs-dir {tmp_path} --calibrate")
    assert suggested_command("run") == before


def test_settings_and_paths_are_planned_as_they_were_given(tmp_path: Path) -> None:
    settings = {"train.epochs": 1, "model.where": {"role": ["depthwise"]}, "train.learning_rate": 0.05}
    planned = api.plan("temperature/tau_1", preset="smoke", settings=settings, runs_dir=tmp_path)
    assert dict(planned.plan.request.overrides) == settings
    # The command line makes the same plan.
    overrides = tuple(f"{key}={value}" for key, value in settings.items())
    assert find_plan(replace(planned.selection, overrides=overrides)).cells == planned.plan.cells
