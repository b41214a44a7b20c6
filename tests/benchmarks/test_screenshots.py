"""The store of which the pictures of MLflow's UI are taken has the runs of the bundle, no more and no less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from benchmarks.screenshots import restore
from reports.archive.bundle import make_bundle, open_bundle
from reports.collect.stores.bundle import BundleStore, PackedRun, member
from reports.collect.stores.tracking import opened

EXPERIMENT = names.experiment_name("evening", "digits")
HISTORY = {"train/loss": {1: 2.0, 2: 1.0}, names.entropy_metric("features.2"): {1: 1.0, 2: 0.5}}


def _packed(order: int, kind: str, **more: Any) -> PackedRun:
    fields = {
        "run_id": f"{order:032x}",
        "order": order,
        "experiment": EXPERIMENT,
        "name": f"{kind} {order}",
        "status": "finished",
        "began": 1_700_000_000_000 - order,
        "ended": 1_700_000_060_000,
        "data": "",
        "tags": {names.TAG_KIND: kind, names.TAG_FINGERPRINT: f"f{order}"},
        "params": {"seed": "0"},
        "metrics": {names.TEST_TOP1: 50.0 + order},
    }
    return PackedRun(**(fields | more))


def _bundle(path: Path) -> Path:
    trial = _packed(2, "trial", metrics={"train/loss": 1.0, names.entropy_metric("features.2"): 0.5, "seconds": 3.0})
    child = {names.TAG_KIND: "evaluation", names.TAG_FINGERPRINT: "f1", names.TAG_PARENT: trial.run_id}
    # The newest first, as a store has them: an evaluation stands before its training.
    runs = [_packed(0, "study"), _packed(1, "evaluation", tags=child), trial, _packed(3, "trial", status="failed")]
    files = {member(run.run_id, "run.json"): run.model_dump_json().encode() for run in runs}
    files[member(trial.run_id, "history.json")] = json.dumps(HISTORY).encode()
    files[member(trial.run_id, names.CORRECTNESS_FILE)] = b"{}"
    path.write_bytes(make_bundle(files, {}))
    return path


def test_a_restored_store_has_the_runs_of_the_bundle(tmp_path: Path) -> None:
    bundle = open_bundle(_bundle(tmp_path / "b.zip"))
    uri = restore(bundle, tmp_path / "runs")
    packed = {run.name: run for run in BundleStore(bundle).runs([EXPERIMENT]) if run.kind != "study"}
    with opened(uri) as store:
        restored = {run.name: run for run in store.runs([EXPERIMENT])}
        assert restored.keys() == packed.keys()
        for name, run in restored.items():
            expected = packed[name]
            assert (run.metrics, run.params, run.status) == (expected.metrics, expected.params, expected.status)
            assert (run.began, run.ended, run.fingerprint) == (expected.began, expected.ended, expected.fingerprint)
        trial = restored["trial 2"]
        assert {metric: store.history(trial, metric) for metric in HISTORY} == HISTORY
        assert store.artifact(trial, names.CORRECTNESS_FILE) == "{}"
        assert restored["evaluation 1"].tags[names.TAG_PARENT] == trial.run_id
