"""Collecting from a store that also holds what a report must not be disturbed by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations import vocabulary as names
from ablations.errors import ReportError, TrackingError
from ablations.planning.nodes import TrialNode
from ablations.planning.plan import Plan
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.collect.summary_runs import latest_request
from tests.reports.made_up import COMMIT, ENTROPIES, TEMPERATURE, VERSIONS, Store, fill, plan_of

MakeStore = Callable[[], Store]


def _cell(results: Results, **wanted: object) -> dict[str, object]:
    found = results.cells
    for column, value in wanted.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return dict(found.iloc[0])


def _small() -> tuple[Plan, TrialNode]:
    plan = plan_of(TEMPERATURE, seeds=1)
    return plan, next(iter(plan.trials.values()))


def test_a_row_per_cell(plan: Plan, results: Results) -> None:
    assert [tuple(row) for row in results.cells[["study", "network", "variant", "seed"]].itertuples(index=False)] == [
        (cell.study, cell.network, cell.variant, cell.seed) for cell in plan.cells
    ]
    assert results.warnings == ()


def test_values_and_status(results: Results) -> None:
    found = _cell(results, study="temperature", variant="tau_30", seed=1)
    assert (found["status"], found["test/top1"], found["val/top1"], found["seconds"]) == ("finished", 84.0, 62.0, 2.0)
    shared = _cell(results, study="aggregation", network="tau_30", variant="attention", seed=1)
    assert shared["run_id"] == found["run_id"]
    failed = _cell(results, study="temperature", variant="tau_20", seed=1)
    assert failed["status"] == "failed"
    assert math.isnan(float(str(failed["test/top1"])))


def test_curves_are_tidy(plan: Plan, results: Results) -> None:
    curves = results.curves
    assert set(curves["metric"]) == {"train/loss", "val/loss", "val/top1", *map(names.entropy_metric, ENTROPIES)}
    trial = next(node for node in plan.trials.values() if node.spec.seed == 2)
    own = curves[(curves["fingerprint"] == trial.fingerprint) & (curves["metric"] == "val/top1")]
    assert list(own["step"]) == [1, 2]
    assert list(own["value"]) == [52.0, 64.0]


def test_provenance(plan: Plan, results: Results) -> None:
    finished = set(results.cells[results.cells["status"] == "finished"]["run_id"])
    assert set(results.runs["run_id"]) == finished
    row = dict(results.runs.iloc[0])
    assert (row["commit"], row["dirty"], row["versions"], row["kind"]) == (COMMIT, False, VERSIONS, "trial")
    assert row["run_name"] == plan.node(str(row["fingerprint"])).title
    assert results.newest == 1_700_000_001_000


def test_foreign_and_deleted_runs_do_not_disturb(make_store: MakeStore, plan: Plan, results: Results) -> None:
    from mlflow.tracking import MlflowClient

    store = make_store()
    experiment = names.experiment_name("smoke", "fashion_mnist_mini")
    node = next(iter(plan.trials.values()))
    store.raw(experiment, "another project", {"model": "x"}, {"test/top1": 99.0})
    store.raw(experiment, "half a tag", {names.TAG_FINGERPRINT: node.fingerprint}, {"test/top1": 99.0})
    store.raw("elsewhere", "other experiment", {names.TAG_FINGERPRINT: node.fingerprint}, {"test/top1": 99.0})
    broken = {names.TAG_VERSIONS: "{not json", names.TAG_SEED: "x"}
    deleted = store.add(plan, node, {"test/top1": 99.0}, start=1_800_000_000_000, tags=broken)
    MlflowClient(store.uri).delete_run(deleted)
    fill(store, plan)
    found = collect(plan, store.uri)
    assert found.cells.drop(columns="run_id").equals(results.cells.drop(columns="run_id"))
    assert found.warnings == ()


def test_a_finished_run_beats_a_newer_failed_one(make_store: MakeStore) -> None:
    store, (plan, node) = make_store(), _small()
    store.add(plan, node, {"test/top1": 70.0}, start=1_700_000_000_000)
    store.add(plan, node, {"test/top1": 1.0}, start=1_800_000_000_000, status="FAILED")
    store.add(plan, node, {"test/top1": 2.0}, start=1_900_000_000_000, status="RUNNING")
    assert collect(plan, store.uri).cells["test/top1"].dropna().tolist() == [70.0]


@pytest.mark.parametrize(("older", "warned"), [(70.0 + 5e-7, False), (70.1, True), (math.nan, True)])
def test_disagreeing_duplicates(make_store: MakeStore, older: float, warned: bool) -> None:
    store, (plan, node) = make_store(), _small()
    newest = store.add(plan, node, {"test/top1": 70.0}, start=1_800_000_000_000)
    store.add(plan, node, {} if math.isnan(older) else {"test/top1": older}, start=1_700_000_000_000)
    found = collect(plan, store.uri)
    assert found.cells["test/top1"].dropna().tolist() == [70.0]
    assert len(found.warnings) == warned
    if warned:
        assert node.fingerprint[:12] in found.warnings[0]
        assert newest in found.warnings[0]


def test_what_was_done_anew_counts_instead_of_the_earlier_run(make_store: MakeStore) -> None:
    store, (plan, node) = make_store(), _small()
    new = store.add(plan, node, {"test/top1": 70.0}, start=1_700_000_000_000)
    tags = {names.TAG_SUPERSEDED: new}
    store.add(plan, node, {"test/top1": 60.0}, start=1_800_000_000_000, tags=tags)
    found = collect(plan, store.uri)
    assert found.cells["test/top1"].dropna().tolist() == [70.0]
    assert found.warnings == ()


def test_infinities_and_missing_metrics_are_no_values(make_store: MakeStore) -> None:
    store, plan = make_store(), plan_of(TEMPERATURE, seeds=1)
    one, two, three = plan.trials.values()
    store.add(plan, one, {"test/top1": math.inf, "test/loss": math.nan})
    store.add(plan, two, {"test/loss": 1.0})
    store.add(plan, three, {"test/top1": 50.0})
    found = collect(plan, store.uri).repeats("temperature", "test/top1")
    assert [repeat[0].finished for repeat in found.values()] == [False, False, True]
    assert found["", "static"][0].status == "without the deciding metric"


def test_several_pages(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, plan: Plan, results: Results) -> None:
    store = make_store()
    fill(store, plan)
    monkeypatch.setattr("reports.collect.stores.tracking.PAGE", 4)
    assert len(collect(plan, store.uri).runs) == len(results.runs)


def test_an_empty_store_says_what_to_run(make_store: MakeStore, plan: Plan) -> None:
    with pytest.raises(ReportError, match=r"run aggregation temperature --preset smoke"):
        collect(plan, make_store().uri)


@pytest.mark.parametrize("uri", ["sqlite:///{}/none.db", "http://127.0.0.1:9"])
def test_no_store_is_an_error_and_makes_none(tmp_path: Path, plan: Plan, uri: str) -> None:
    with pytest.raises(TrackingError, match=r"tracking store"):
        collect(plan, uri.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_store(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "x.db").write_text("this is no database, whatever its name says" * 50)
    with pytest.raises(TrackingError, match=r"cannot be read"):
        collect(plan, f"sqlite:///{tmp_path}/x.db")


def test_latest_request(make_store: MakeStore) -> None:
    store, name = make_store(), 'it\'s a "study"'
    experiment = names.experiment_name("quick", "fashion_mnist_mini")
    for start, seeds, canary in ((1, "3", "true"), (3, "5", "false"), (2, "4", "true")):
        tags = {
            names.TAG_KIND: "study",
            names.TAG_STUDY_NAME: name,
            names.TAG_PRESET: "quick",
            names.TAG_OVERRIDES: json.dumps({"train.epochs": 4}),
            names.TAG_SEEDS: seeds,
            names.TAG_CANARY: canary,
        }
        store.raw(experiment, "summary", tags, {}, start=start)
    asked = {"preset": "quick", "overrides": {"train.epochs": 4}, "seeds": 5, "canary": False, "tuned_from": None}
    assert latest_request(name, store.uri) == {**asked, "max_seeds": None}
    assert latest_request("another", store.uri) is None
    assert latest_request(name, make_store().uri) is None
