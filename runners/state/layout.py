"""This module names the files and folders of a runs folder. It reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablations.stores import store_file


@dataclass(frozen=True)
class RunsFolder:
    """The layout of the folder that `--runs-dir` names."""

    root: Path

    @classmethod
    def around(cls, state_root: Path) -> RunsFolder:
        """Return the runs folder to which a folder of state folders belongs."""
        # `state` the other way round: a task of a worker carries the folder of the states alone.
        return cls(state_root.parent)

    @property
    def state(self) -> Path:
        """The folder with a state folder per node; see `runners.state.nodes`."""
        return self.root / "state"

    @property
    def store(self) -> Path:
        """The file of the tracking store that is used unless `MLFLOW_TRACKING_URI` names another."""
        return self.root / store_file.FILE_NAME

    @property
    def artifacts(self) -> Path:
        """The artifacts of runs in that store."""
        return self.root / store_file.ARTIFACTS

    @property
    def plans(self) -> Path:
        """The plans of all launches, a file per plan; see `runners.state.launches`."""
        return self.root / "plans"

    @property
    def launches(self) -> Path:
        """The records of launches, a file per launch."""
        return self.root / "launches"

    @property
    def launch_order(self) -> Path:
        """The order in which launches began, a numbered file per launch."""
        return self.launches / "order"

    @property
    def launches_lock(self) -> Path:
        """The lock of a process that begins a launch, or during which none may begin."""
        return self.root / "launches.lock"

    @property
    def frozen(self) -> Path:
        """The plans that were frozen before their runs, a file per plan; see `ablations.planning.frozen_plan`."""
        return self.root / "frozen"

    @property
    def looks(self) -> Path:
        """The looks at results, a file per study and state of its results; see `runners.state.looks`."""
        return self.root / "looks"

    @property
    def last_run(self) -> Path:
        """The request of the last `run`; see `runners.state.last_run`."""
        return self.root / "last_run.json"

    @property
    def speeds(self) -> Path:
        """The measured speeds, a file per machine; see `runners.estimates.measurements`."""
        return self.root / "speeds"

    @property
    def tuning(self) -> Path:
        """The tuned values, a file per study and preset."""
        return self.root / "tuning"

    @property
    def journals(self) -> Path:
        """The journals of Optuna, a file per tuning or search."""
        return self.tuning / "journals"

    @property
    def slurm(self) -> Path:
        """The scripts and output of SLURM jobs."""
        return self.root / "slurm"

    @property
    def reports(self) -> Path:
        """The reports that no option sends elsewhere."""
        return self.root / "reports"

    @property
    def reports_lock(self) -> Path:
        """The lock of a process that writes a report."""
        return self.root / "reports.lock"
