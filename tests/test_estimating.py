"""From timing a few steps to a launch within its hours and a report that holds the two against each other."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path

import pytest
from mlflow import MlflowClient

import run_ablation
from ablations import vocabulary as names
from ablations.launches import Record
from runners.energy import Meter, Reading
from runners.launching import session

STUDY = """\
name: mine
question: Does width help?
reference: narrow
equal_size: true
baseline: {model.layer: static}
variants:
  narrow: {model.width: 0.35}
  wide: {model.width: 0.5}
"""


def command(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run a verb on the study in a folder; return what it printed, with single spaces.

    It runs in this process, so that MLflow is imported, and the server of workers is started, once for all.
    """
    verb, *options = arguments
    output, exit_code = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        try:
            # MLflow keeps connections by the name of the store, so that a relative one would be another test's.
            run_ablation.main([verb, "mine.yaml", "--runs-dir", str(folder / "runs"), *options])
        except SystemExit as end:
            exit_code = end.code if isinstance(end.code, int) else 0
    assert exit_code == code, output.getvalue()
    return " ".join(output.getvalue().split())


TASKS = ("--workers", "2", "--device", "cpu", "--preset", "smoke")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study."""
    folder = tmp_path_factory.mktemp("estimating")
    (folder / "mine.yaml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def calibrated(folder: Path) -> str:
    """What `plan --calibrate --strict` prints where nothing is known, after the study was planned without."""
    before = command(folder, "plan", *TASKS)
    assert "it cannot be told yet: 2 networks" in before
    assert "Lint unequal-size: 2 networks are yet to be counted" in before
    assert not (folder / "runs").exists()
    return command(folder, "plan", *TASKS, "--calibrate", "--strict", code=1)


@pytest.fixture(scope="module")
def launched(folder: Path, calibrated: str) -> str:
    """What `run --max-hours` prints then."""
    return command(folder, "run", *TASKS, "--max-hours", "1", "--format", "md")


def test_a_calibrated_plan_knows_its_time_and_the_sizes(calibrated: str) -> None:
    assert "Timing 2 networks with 2 workers" in calibrated
    assert "Time: it cannot" not in calibrated
    assert "with 2 workers; of computing, trainings" in calibrated
    assert "lint unequal-size in mine: the study compares networks as equally large" in calibrated


def test_a_launch_says_what_was_estimated_and_writes_down_what_it_took(folder: Path, launched: str) -> None:
    assert "Time: " in launched
    assert "lint unequal-size in mine" in launched
    last = json.loads((folder / "runs" / "last_run.json").read_text())["launch"]
    record = Record.from_mapping(last)
    assert (record.studies, record.nodes, record.workers, record.is_whole) == (("mine",), 4, 2, True)
    assert record.estimated is not None
    # On a machine with other work, both times are what they are.
    assert 0.02 < record.ratio < 50
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    (summary,) = client.search_runs([experiment.experiment_id], "tags.`abl.kind` = 'study'")
    assert json.loads(summary.data.tags[names.TAG_LAUNCHES]) == [last]


def test_the_report_holds_the_two_against_each_other_with_the_same_bytes_each_time(folder: Path, launched: str) -> None:
    file = folder / "runs" / "reports" / "mine-smoke.md"
    first = file.read_bytes()
    assert b"**Last launch:** estimated " in first
    assert b"times that" in first
    command(folder, "report", "--preset", "smoke", "--format", "md")
    assert file.read_bytes() == first


def test_whole_trainings_are_known_from_then_on(folder: Path, launched: str) -> None:
    (file,) = (folder / "runs" / "speeds").glob("*.json")
    by_key = json.loads(file.read_text())["measurements"]
    learned = [entry for entries in by_key.values() for entry in entries if entry["source"] == "learned"]
    assert len(learned) == 4
    assert all(entry["speed"]["step"] > 0 and entry["speed"]["memory"] > 50e6 for entry in learned)
    assert "To do: 2 trainings" in command(folder, "plan", *TASKS, "--seeds", "3")


def test_a_launch_writes_down_the_energy_that_its_machine_tells(
    folder: Path, launched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count(1)

    def read() -> dict[str, Reading]:
        return {"intel-rapl:0": Reading(1000.0 * next(looks), 1e6)}

    meter = Meter((read,))
    monkeypatch.setattr(session, "energy_meter", lambda dispatch: meter)
    command(folder, "run", *TASKS, "--force", "mine/narrow", "--format", "md", "--output", str(folder / "energy.md"))
    record = Record.from_mapping(json.loads((folder / "runs" / "last_run.json").read_text())["launch"])
    assert record.energy == meter.joules
    assert record.energy is not None
    assert record.energy >= 1000.0
    assert record.energy_of == "processors"
    report = (folder / "energy.md").read_text()
    assert "energy (kWh)" in report
    assert "kWh in 1 of 2 launches on record, counted by processors themselves" in report


@pytest.mark.parametrize("dispatch", ["ray", "slurm"])
def test_the_energy_of_jobs_elsewhere_is_not_measured(dispatch: str) -> None:
    assert session.energy_meter(dispatch).counters == ()
    assert session.energy_meter("processes").counters != ()
