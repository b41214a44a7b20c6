"""Made-up studies with the runs that belong to them, written to MLflow as runners write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.spec.parts import Intervention
from ablations.study import InspectedNetwork, Study, Variant
from reports.analysis.summary import summarize, summarize_study
from reports.collect.results import Results
from reports.collect.tracked_runs import TrackedRun
from reports.content.blocks import (
    Column,
    Document,
    Facts,
    Figure,
    Items,
    Missing,
    Note,
    Number,
    Paragraph,
    Section,
    Table,
    Text,
)
from reports.document.study_report import build_document
from reports.tables.study import study_table

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VERSIONS = {"python": "3.11.7", "torch": "2.6.0"}
ENTROPIES = ("features.2.conv.0", "features.10.conv.0")

TEMPERATURE = Study(
    name="temperature",
    title="Softmax temperature",
    question="Which temperature?",
    reference="tau_30",
    published="temperature",
    finding="τ = 30 is best.",
    variants=(
        Variant(name="static", changes={"model.layer": "static"}),
        Variant(name="tau_20", label="τ = 20", changes={"train.temperature.start": 20.0}),
        Variant(name="tau_30", label="τ = 30", changes={"train.temperature.start": 30.0}),
    ),
)
AGGREGATION = Study(
    name="aggregation",
    title="Kernel aggregation",
    question="Attention or average?",
    networks=(
        InspectedNetwork(name="tau_30", label="τ = 30", changes={"train.temperature.start": 30.0}),
        InspectedNetwork(name="tau_20", label="τ = 20", changes={"train.temperature.start": 20.0}),
    ),
    inspect=("tau_30", "tau_20"),
    reference="attention",
    published="aggregation",
    variants=(
        Variant(name="attention"),
        Variant(name="average", intervention=Intervention(aggregation="average")),
        Variant(name="max", intervention=Intervention(aggregation="max")),
    ),
)
STUDIES = (AGGREGATION, TEMPERATURE)

TOP1: dict[str, tuple[float | None, ...]] = {
    "static": (80.0, 81.0, 85.0),
    "tau_20": (83.0, None, 87.0),
    "tau_30": (82.0, 84.0, 86.0),
    "tau_30/average": (80.0, 83.0, 85.0),
    "tau_30/max": (10.0, 10.0, 10.0),
    "tau_20/average": (70.0, None, 71.0),
    "tau_20/max": (None, None, None),
}
"""Test accuracy by seed of a variant of *temperature* or, after the slash, of *aggregation*; `None` failed."""


@dataclass
class Store:
    """A tracking store to which made-up runs can be added."""

    uri: str
    experiments: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        plan: Plan,
        node: Node,
        metrics: Mapping[str, float],
        *,
        status: str = "FINISHED",
        start: int = 1_700_000_000_000,
        curves: Mapping[str, tuple[float, ...]] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Adds the run of a node as runners write it, with files by name as its artifacts, and returns its id."""
        own = {
            names.TAG_KIND: node.kind,
            names.TAG_FINGERPRINT: node.fingerprint,
            names.TAG_SEED: str(node.spec.seed),
            names.TAG_GIT_COMMIT: COMMIT,
            names.TAG_GIT_DIRTY: "false",
            names.TAG_VERSIONS: json.dumps(VERSIONS),
            **(tags or {}),
        }
        experiment = names.experiment_name(plan.request.preset.name, plan.request.base().data.name)
        run_id = self.raw(experiment, node.title, own, metrics, status=status, start=start, curves=curves)
        for name, text in (files or {}).items():
            MlflowClient(self.uri).log_text(run_id, text, name)
        return run_id

    def set_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Gives a run its settings."""
        MlflowClient(self.uri).log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def delete(self, fingerprint: str) -> None:
        """Deletes the runs of a node."""
        client, places = MlflowClient(self.uri), list(self.experiments.values())
        for run in client.search_runs(places, f"tags.`{names.TAG_FINGERPRINT}` = '{fingerprint}'"):
            client.delete_run(run.info.run_id)

    def raw(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        *,
        status: str = "FINISHED",
        start: int = 1_700_000_000_000,
        curves: Mapping[str, tuple[float, ...]] | None = None,
    ) -> str:
        """Adds any run and returns its id."""
        client = MlflowClient(self.uri)
        if experiment not in self.experiments:
            # MLflow would put artifacts into the folder that the tests are started in.
            beside = Path(self.uri.removeprefix("sqlite:///")).with_name("artifacts")
            self.experiments[experiment] = client.create_experiment(experiment, artifact_location=beside.as_uri())
        run = client.create_run(self.experiments[experiment], start_time=start, tags=dict(tags), run_name=name)
        points = [Metric(key, value, start, 0) for key, value in metrics.items()]
        for key, values in (curves or {}).items():
            points += [Metric(key, value, start + step, step) for step, value in enumerate(values, start=1)]
        client.log_batch(run.info.run_id, metrics=points)
        client.set_terminated(run.info.run_id, status, end_time=start + 1000)
        return str(run.info.run_id)


def plan_of(*studies: Study, preset: str = "smoke", seeds: int | None = 3) -> Plan:
    """Returns the plan of the given studies, or of both made-up ones."""
    return make_plan(studies or STUDIES, Request(PRESETS[preset], seeds=seeds))


def fill(store: Store, plan: Plan) -> None:
    """Adds the runs of `TOP1` for the cells of a plan of `STUDIES`."""
    seen = set()
    for cell in plan.cells:
        key = cell.variant if cell.study == "temperature" else f"{cell.network}/{cell.variant}"
        if key.endswith("/attention") or cell.fingerprint in seen:
            continue
        seen.add(cell.fingerprint)
        value, node = TOP1[key][cell.seed], plan.node(cell.fingerprint)
        trial = node.network if isinstance(node, EvaluationNode) else node
        curves = (
            {} if isinstance(node, EvaluationNode) else epoch_curves(cell.seed, trial.spec.model.layer == "dynamic")
        )
        metrics = {} if value is None else {"test/top1": value, "test/loss": 0.5, "seconds": 2.0}
        store.add(plan, node, metrics, status="FAILED" if value is None else "FINISHED", curves=curves)


def epoch_curves(seed: int, dynamic: bool) -> dict[str, tuple[float, ...]]:
    """Returns what a made-up trial logs in its two epochs."""
    curves: dict[str, tuple[float, ...]] = {
        "val/top1": (50.0 + seed, 60.0 + 2 * seed),
        "train/loss": (2.0, 1.0),
        "val/loss": (2.1, 1.1),
    }
    if dynamic:
        curves |= {names.entropy_metric(layer): (1.0, 0.9 - 0.1 * i) for i, layer in enumerate(ENTROPIES)}
    return curves


HOSTILE = '../$x#\\y*_z@<script>alert("1")</script> `|{~^%& 😀 é --,, [a](b) $$ <!-- é'
"""A name that means something in every format; the PDF's fonts have all of its characters."""


def hostile_document() -> Document:
    """Returns a small document in which every word is the hostile name."""
    columns = (Column(HOSTILE), Column(HOSTILE, "number", HOSTILE), Column(HOSTILE, "code", HOSTILE))
    row = (Text(HOSTILE), Number(1.5, marks=("B",)), Text(HOSTILE))
    table = Table(HOSTILE, HOSTILE, columns, (row, (Text("x"), Missing(HOSTILE), Text("y"))), (Note(HOSTILE, "B"),))
    data = [("", HOSTILE, 0, 1.0, 1.0, 0.5, 1.5), ("", "other", 0, 2.0, 2.0, 1.5, 2.5)]
    frame = pd.DataFrame(data, columns=["network", "variant", "seed", "value", "mean", "low", "high"])
    figure = Figure("figure", "accuracy", frame, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    blocks = (Paragraph(HOSTILE, HOSTILE), Paragraph(HOSTILE, "Beware", "caveat"), Items((HOSTILE,)), table, figure)
    section = Section(HOSTILE, blocks)
    return Document(HOSTILE, HOSTILE, HOSTILE, 1, (Facts(((HOSTILE, HOSTILE),)),), (section,), (section,))


def document_of(plan: Plan, results: Results) -> Document:
    """Returns the report on a plan with these results."""
    return build_document(plan, results, summarize(plan, results))


def table_of(study: Study, plan: Plan, results: Results) -> Table:
    """Returns the table of one study of a plan with these results."""
    return study_table(study, plan, summarize_study(study, plan, results))


def tracked_run(run_id: str, fingerprint: str, kind: str = "trial") -> TrackedRun:
    """Returns a run with these names and nothing else."""
    info = SimpleNamespace(
        run_id=run_id,
        run_name="",
        experiment_id="1",
        artifact_uri="",
        status="FINISHED",
        lifecycle_stage="active",
        start_time=0,
        end_time=0,
    )
    tags = {names.TAG_KIND: kind, names.TAG_FINGERPRINT: fingerprint}
    data = SimpleNamespace(tags=tags, params={}, metrics={})
    return TrackedRun.parse(cast(Any, SimpleNamespace(info=info, data=data, inputs=None)), "e")
