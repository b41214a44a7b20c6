"""This module times a report by the number of runs: invented runs of one study, ten of each variant.

It inserts them into the tables of a tracking store at once; logging them one by one would take longer than the report.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import TrialNode
from ablations.planning.plan import Plan
from benchmarks.harness import SIZES, many_runs
from reports import make_report
from runners.provenance import project_commit
from runners.tracking import Tracker, prepare_store
from runners.tracking.node_tags import spec_params

_LAYERS = 18
"""Number of layers with a curve of their entropy, that of the networks of the presets."""
_START = 1_700_000_000_000


def reporting() -> list[dict[str, float]]:
    """Return the seconds of a PDF by number of runs, from the tracking store to the file."""
    return [_reported(runs) for runs in SIZES]


def _reported(runs: int) -> dict[str, float]:
    moments: list[float] = []
    report_of(runs, ("pdf",), around=lambda: moments.append(time.perf_counter()))
    return {"runs": runs, "seconds": moments[1] - moments[0]}


def report_of(runs: int, formats: Sequence[str], *, around: Callable[[], None]) -> None:
    """Write a report on this number of runs, and call `around` before and after; the store is made before the first."""
    plan = many_runs(runs)
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        _fill(uri, plan, Path(folder))
        around()
        make_report(plan, uri, formats, Path(folder) / "report")
        around()


def _fill(uri: str, plan: Plan, folder: Path) -> None:
    """Write to the store the rows of every trial of `plan` that a launch would write and a report reads."""
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    prepare_store(uri)
    preset = plan.request.preset.name
    experiment = names.experiment_name(preset, plan.request.base().data.name)
    tracker = Tracker(uri, experiment, folder / "artifacts", commit=project_commit(), preset=preset)
    # Seeded, so that each measurement reports the same numbers.
    chance = random.Random(0)
    rows: dict[Any, list[dict[str, Any]]] = {SqlRun: [], SqlTag: [], SqlParam: [], SqlMetric: [], SqlLatestMetric: []}
    # Identifiers as MLflow has them: 32 hexadecimal digits.
    for number, node in enumerate(plan.trials.values()):
        run = f"{number:032x}"
        rows[SqlRun].append(_run(run, node, int(tracker.experiment_id)))
        tags = {
            names.TAG_KIND: "trial",
            names.TAG_FINGERPRINT: node.fingerprint,
            names.TAG_SEED: str(node.spec.seed),
            **tracker.common_tags(),
            "mlflow.runName": node.title,
        }
        for table, values_by_key in ((SqlTag, tags), (SqlParam, spec_params(node, node.spec))):
            rows[table] += [{"run_uuid": run, "key": key, "value": str(value)} for key, value in values_by_key.items()]
        for step, metrics in _metrics(node, chance):
            points = [
                {"run_uuid": run, "key": key, "value": value, "timestamp": _START, "step": step, "is_nan": False}
                for key, value in metrics.items()
            ]
            rows[SqlMetric] += points
            # The store keeps the last value of each metric in a table of its own, which searches read.
            if step == node.spec.train.epochs:
                rows[SqlLatestMetric] += points
    with Session(create_engine(uri)) as session:
        for table, values in rows.items():
            session.execute(table.__table__.insert(), values)
        session.commit()


def _run(run: str, node: TrialNode, experiment: int) -> dict[str, Any]:
    return {
        "run_uuid": run,
        "name": node.title,
        "user_id": "",
        "experiment_id": experiment,
        "status": "FINISHED",
        "start_time": _START,
        "end_time": _START,
        "lifecycle_stage": "active",
        "artifact_uri": "",
    }


def _metrics(node: TrialNode, chance: random.Random) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield step and metrics of each epoch; the last one has the test split's too."""
    entropies = [names.entropy_metric(f"features.{layer}.conv.0") for layer in range(_LAYERS)]
    for epoch in range(1, node.spec.train.epochs + 1):
        metrics = {name: chance.random() for name in entropies}
        metrics |= {names.TRAIN_LOSS: chance.random(), names.VAL_LOSS: chance.random()}
        metrics |= {names.VAL_TOP1: chance.gauss(70, 2), names.TEMPERATURE: 1.0}
        if epoch == node.spec.train.epochs:
            metrics |= {names.TEST_TOP1: chance.gauss(70, 2), names.SECONDS: 10.0}
        yield epoch, metrics
