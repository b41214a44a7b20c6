"""Holds what is asked for: studies and rows, their preset, settings and repeats, and the runs folder.

The command line makes a selection of its options, and `runners.api.plan` of its arguments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ablations.errors import OptionError
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request, make_request
from ablations.planning.sweeps import swept, without_sweeps
from ablations.protocol.stopping import StoppingRule
from ablations.registry import find_rows, find_studies
from ablations.stores.addresses import sqlite_address
from ablations.study import Study
from runners import plugins
from runners.state.layout import RunsFolder

MAX_SEEDS = 20
"""The most seeds of a run until its claims are decided, unless the user names another number."""


@dataclass(frozen=True)
class Selection:
    """Studies and rows with all that says how they are planned; what is not said has its default.

    Attributes:
        studies: Names and files, as they were given, some with a row or a pattern of rows after them.
        tuned_from: A file or folder of tuned values, in place of those in the runs folder.
        until_decided: Whether seeds are added until the primary claims are decided, to at most `max_seeds`.
        seeds_by_study: No option: the seeds that studies have by now, as a run until its claims are decided sets them.

    Raises:
        OptionError: If `--max-seeds` is given without `--until-decided`.
    """

    studies: tuple[str, ...] = ()
    all_studies: bool = False
    preset: str | None = None
    overrides: tuple[str, ...] = ()
    seeds: int | None = None
    seed: int | None = None
    canary: bool = False
    tuned: bool = False
    tuned_from: str | None = None
    until_decided: bool = False
    max_seeds: int | None = None
    runs_dir: Path = Path("runs")
    plugins: tuple[str, ...] = ()
    seeds_by_study: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_seeds is not None and not self.until_decided:
            raise OptionError(
                "--max-seeds needs --until-decided, of which it is the end. For a fixed number of seeds use --seeds."
            )

    @property
    def is_scaled(self) -> bool:
        """True if one of the options is given that go together when those of an earlier run are taken."""
        return bool(self.preset or self.overrides or self.seeds) or self.seed is not None

    @property
    def is_named(self) -> bool:
        """True if studies are selected."""
        return bool(self.studies or self.all_studies)

    @property
    def layout(self) -> RunsFolder:
        """The files and folders of the runs folder."""
        return RunsFolder(self.runs_dir)

    @property
    def tracking_uri(self) -> str:
        """`MLFLOW_TRACKING_URI`, or the SQLite store in the runs folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(self.layout.store.absolute())

    @property
    def stopping(self) -> StoppingRule | None:
        """The rule by which seeds are added; `None` for a fixed number.

        Raises:
            OptionError: If `--max-seeds` leaves nothing to add.
        """
        if not self.until_decided:
            return None
        return StoppingRule(MAX_SEEDS if self.max_seeds is None else self.max_seeds)

    def request(self, *, may_sweep: bool = False) -> Request:
        """Return the request for a plan, with the tuned values read from their files.

        Args:
            may_sweep: Whether a setting may have several values.

        Raises:
            OptionError: If one has, and it may not.
        """
        tuned_values = None
        if self.tuned_from:
            tuned_values = Path(self.tuned_from)
        elif self.tuned:
            tuned_values = self.layout.tuning
        request = make_request(
            self.preset,
            self.overrides,
            self.seeds,
            self.canary,
            tuned_values,
            stopping=self.stopping,
            seeds_by_study=self.seeds_by_study,
            seed=self.seed,
        )
        for key, texts in request.sweeps.items():
            if not may_sweep:
                raise OptionError(
                    f"--set {key}={','.join(texts)} is a sweep, which is for plan, run and what follows a run. Name "
                    f"one value here: --set {key}={texts[0]}."
                )
        return request

    def find_studies(self, request: Request) -> Sequence[Study]:
        """Return the selected studies at the scale of a request.

        Raises:
            StudyError: If a row is selected.
        """
        return find_studies(self.studies, self.all_studies, request)

    def plan(self) -> Plan:
        """Return the plan of the selected studies and rows; nothing is known to be done."""
        request = self.request(may_sweep=True)
        studies, rows = find_rows(self.studies, self.all_studies, request)
        request = replace(request, rows=rows)
        if request.sweeps:
            studies = [swept(study, request) for study in studies]
            request = without_sweeps(request)
        return make_plan(studies, request)

    def load_plugins(self) -> tuple[str, ...]:
        """Load the plug-ins named on the command line and the installed ones, and return the names of all."""
        modules = tuple(dict.fromkeys([*self.plugins, *plugins.installed_plugins()]))
        plugins.load_plugins(modules)
        return modules

    def as_options(self) -> dict[str, Any]:
        """Return all but the runs folder, by the names of parameters: for suggested commands and `last_run.json`."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "runs_dir"}
