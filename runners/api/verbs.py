"""The functions of the Python API: plan, run, read and report studies, from a script or a notebook.

What they do is what the verbs of the same names do. Nothing is taken from an earlier run: the arguments say it all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import OptionError
from ablations.invocation import invoked_as
from ablations.planning.frozen_plan import frozen_plans
from ablations.planning.plan import Plan
from runners.api.launching import PreparedRun
from runners.api.plans import find_plan
from runners.api.selection import Selection
from runners.console.progress import Summary
from runners.dispatch import DispatchSettings
from runners.launching.settings import LaunchSettings

if TYPE_CHECKING:
    import pandas as pd

    from reports.collect.results import Results


@dataclass(frozen=True, repr=False)
class PlannedStudies:
    """Studies as they were planned; `run`, `results`, `table`, `verdicts` and `report` take it.

    Attributes:
        selection: What was asked for.
        plan: The trainings and evaluations that it needs, and those of them that were done when it was planned.
    """

    selection: Selection
    plan: Plan

    def __repr__(self) -> str:
        phrases = []
        for study in self.plan.studies:
            words = study.name
            if study.before_rows is not None:
                words += f" ({study.row_count} of {study.before_rows.row_count} rows)"
            phrases.append(words)
        plan = self.plan
        scale = f"preset {plan.request.preset.name}"
        if plan.request.seed is not None:
            scale += f", seed {plan.request.seed}"
        return (
            f"<{', '.join(phrases)} at {scale}: {len(plan.trials)} trainings, "
            f"{len(plan.evaluations)} evaluations; {len(plan.nodes)} results needed, {len(plan.missing)} missing>"
        )


def plan(
    *studies: str,
    all_studies: bool = False,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    canary: bool = False,
    tuned: bool = False,
    runs_dir: str | Path = "runs",
    plugins: Sequence[str] = (),
) -> PlannedStudies:
    """Return the plan of some studies, or of rows of them. It starts nothing.

    Args:
        studies: Names of studies, files of studies, and either with a row or a pattern of rows after a slash:
            `"temperature/tau_30"`, `"aggregation/tau_1: *"`, `"my_study.yaml/wide"`.
        all_studies: Whether every registered study is planned.
        preset: The scale; without one `quick`.
        settings: Settings of every variant by their dotted names, as `--set` has them: `{"train.epochs": 4}`.
        seeds: The number of repeats of each variant.
        seed: One repeat of each variant, that with this seed, in place of a number of them.
        canary: Whether the reference of each study is trained again under other seeds.
        tuned: Whether variants are trained with what `tune` has found for them.
        runs_dir: The folder of states, the local tracking store and reports.
        plugins: Modules with strategies, layers, data sets or studies of your own, which are imported first.

    Raises:
        AblationError: If a name, a setting or a row is wrong; the message says what is possible.
    """
    # As JSON, which the parser of `--set` reads back as the same value and type; a path becomes its text.
    overrides = tuple(f"{key}={json.dumps(value, default=str)}" for key, value in (settings or {}).items())
    selection = Selection(
        studies=studies,
        all_studies=all_studies,
        preset=preset,
        overrides=overrides,
        seeds=seeds,
        seed=seed,
        canary=canary,
        tuned=tuned,
        runs_dir=Path(runs_dir).expanduser(),
        plugins=tuple(plugins),
    )
    selection.load_plugins()
    return PlannedStudies(selection, find_plan(selection))


def run(
    planned: PlannedStudies,
    *,
    workers: int | None = None,
    device: str = "auto",
    threads: int = 1,
    dispatch: str = "processes",
    force: Sequence[str] = (),
    again: bool = False,
    offline: bool = False,
    launch: LaunchSettings | None = None,
) -> Summary:
    """Train and evaluate what is missing, track it in MLflow, and return how it ended. No report is written.

    What fails does not raise: it is in `failures` of what is returned, each with its reason and its log file. Ctrl-C,
    or the stop button of a notebook, ends it in order; the same call goes on from there.

    Args:
        planned: What `plan` has returned. What was done since then is not done again.
        workers: Tasks at once; by default one per core, or as many as the GPUs take.
        device: `cpu`, `cuda`, `cuda:1` or `auto`.
        threads: CPU threads per task.
        dispatch: `processes`, or `inline` to carry the tasks out in this process.
        force: Variants to train and evaluate anew, as `study/variant`.
        again: Whether what failed for a lasting reason is tried again, too.
        offline: Whether nothing is tracked now.
        launch: All settings of the launch, in place of those above: for Ray, SLURM, retries and leases.

    Raises:
        OptionError: If `launch` is given beside what it has itself.
        AblationError: If nothing can be run.
    """
    if launch is not None and (workers, device, threads, dispatch, again) != (None, "auto", 1, "processes", False):
        raise OptionError(
            "launch has all settings of a launch. Leave out workers, device, threads, dispatch and again, or give them "
            "in place of it."
        )
    if launch is None:
        folder = planned.selection.runs_dir
        settings = DispatchSettings(dispatch, workers=workers, threads=threads, device=device, folder=folder)
        launch = LaunchSettings(settings, again=again)
    selection = planned.selection
    options = {name: value for name, value in selection.as_options().items() if value}
    with invoked_as({**options, "runs_dir": selection.runs_dir}):
        prepared = PreparedRun.of(selection, launch).with_forced(force)
        prepared.remember()
        return prepared.launch(offline=offline)


def results(planned: PlannedStudies) -> pd.DataFrame:
    """Return what was measured: a row per cell of the studies' tables, that is, per row and seed.

    The columns are `study`, `network` (empty for a study that trains its variants), `variant`, `seed`, `fingerprint`,
    `run_id`, `status` (`finished`, `missing`, or what else became of it), `seconds` and one per metric, for example
    `test/top1` in per cent. Values that were not measured are NaN. Reading it is a look at the results, which is
    recorded, as that of a report is.

    Raises:
        TrackingError: If the tracking store cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    return _seen(planned).cells.copy()


def table(planned: PlannedStudies) -> pd.DataFrame:
    """Return the numbers of the studies' tables: means, spreads, and differences to the reference with intervals.

    A row per row of a table. The columns are `study`, `network`, `variant`, `n` (repeats that have a value), `planned`
    (repeats that were asked for), `mean` and `sd` over seeds, `delta` (the paired difference to the reference), `low`
    and `high` (its 95 % interval), `p` and `p_holm` (corrected over the table of the study). What cannot be told is
    NaN: the mean of a row with a missing repeat, and a difference of the reference to itself. They are the numbers of
    the report; docs/explanation/statistics.md says what an interval covers.

    Raises:
        TrackingError: If the tracking store cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    import pandas as pd

    from runners.api.study_results import study_results

    rows = []
    for table in study_results(planned.plan, _seen(planned)):
        for row in table.rows:
            values: dict[str, Any] = {"study": table.study.name, "network": row.network, "variant": row.variant}
            values |= {"n": row.n, "planned": row.planned, "mean": row.mean.mean, "sd": row.mean.sd}
            if row.delta is not None:
                values |= {"delta": row.delta.mean, "low": row.delta.low, "high": row.delta.high}
            rows.append(values | {"p": row.p, "p_holm": row.p_holm})
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))


TABLE_COLUMNS = ("study", "network", "variant", "n", "planned", "mean", "sd", "delta", "low", "high", "p", "p_holm")
"""The columns of `table`."""

VERDICT_COLUMNS = ("study", "network", "claim", "rank", "verdict", "remark")
"""The columns of `verdicts`."""


def verdicts(planned: PlannedStudies) -> pd.DataFrame:
    """Return the verdict on each claim of the studies, per inspected network.

    The columns are `study`, `network`, `claim`, `rank` (`primary` or `exploratory`), `verdict` and `remark`: why it is
    undecided, or what would decide it.

    Raises:
        TrackingError: If the tracking store cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    import pandas as pd

    from reports import verdicts as judge

    rows = []
    for claim in judge(planned.plan, _seen(planned)):
        rows.append((claim.study, claim.network, claim.claim.name, claim.rank, claim.verdict, claim.remark))
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def report(
    planned: PlannedStudies,
    *,
    formats: Sequence[str] = ("pdf", "html"),
    output: str | Path | None = None,
    brief: bool = False,
) -> dict[str, Path]:
    """Write the report, log it to the summary runs of the studies in MLflow, and return its files by format.

    Args:
        formats: Of `pdf`, `html`, `md`, `tex`, `csv` and `json`.
        output: A folder that exists, or a path of which each format has its own ending; by default `reports/` in the
            runs folder, under a name that says what was asked.
        brief: Whether it is to be two pages: the answers, and the main tables with their verdicts.

    Raises:
        UnknownNameError: If there is no such format.
        OutputError: If the files cannot be written.
        TrackingError: If the tracking store cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    from reports.content.file_names import Destination
    from reports.render import FORMATS
    from runners.api.reporting import write_report
    from runners.tracking import prepare_store

    selection, uri = planned.selection, planned.selection.tracking_uri
    place = None if output is None else Path(output).expanduser()
    target = Destination.of(place, selection.layout.reports, FORMATS)
    prepare_store(uri)
    frozen = frozen_plans(selection.layout.frozen, planned.plan)
    written = write_report(planned.plan, selection.runs_dir, uri, formats, target, frozen=frozen, brief=brief)
    return written.files


def _seen(planned: PlannedStudies) -> Results:
    """Return the results of a plan, and record that they were seen."""
    # pandas, scipy and MLflow take seconds, which planning shall not.
    from reports.collect.runs import collect
    from runners.api.reporting import with_protocol

    selection = planned.selection
    frozen = frozen_plans(selection.layout.frozen, planned.plan)
    return with_protocol(collect(planned.plan, selection.tracking_uri), planned.plan, selection.runs_dir, frozen)
