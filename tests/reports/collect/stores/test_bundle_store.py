"""A bundle is read as the store from which it was packed: the same runs in the same order, and the same results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablations import vocabulary as names
from ablations.errors import BundleError, ReportError, TrackingError
from ablations.planning.plan import Plan
from reports.archive.bundle import make_bundle
from reports.bundles.records import packed_runs, run_files
from reports.collect.results import Results
from reports.collect.runs import collect, what_became_of
from reports.collect.stores.base import NODES_AND_SUMMARIES, SUMMARIES, RunQuery, in_group
from reports.collect.stores.bundle import PackedRun, member
from reports.collect.stores.opening import bundle_address, bundle_path, open_store
from reports.collect.tracked_runs import TrackedRun
from reports.content.plan_words import experiments_of
from tests.reports.made_up import Store, fill

SECRET = "machine-of-mary"


@pytest.fixture(scope="module")
def tracked(make_store: Callable[[], Store], plan: Plan) -> Store:
    """A store with runs of all kinds: finished, failed, superseded, of a tuning, of a summary, and of other studies."""
    store = make_store()
    fill(store, plan)
    trial = next(iter(plan.trials.values()))
    marks = {names.TAG_HOST: SECRET, names.TAG_OWNER: SECRET, "mlflow.user": SECRET, names.TAG_NOTE: SECRET}
    older = store.add(plan, trial, {"test/top1": 1.0}, start=1_600_000_000_000, tags=marks)
    store.add(plan, trial, {"test/top1": 2.0}, start=1_650_000_000_000, tags={names.TAG_SUPERSEDED: older})
    store.set_params(older, {"data.root": f"/home/{SECRET}", "seed": 0})
    experiment = experiments_of(plan)[0]
    kinds = {"tuning": {names.TAG_GROUP: "g"}, "study": {names.TAG_STUDY_NAME: "temperature"}, "variant": {}}
    for kind, tags in kinds.items():
        of_study = {names.TAG_KIND: kind, names.study_tag("temperature"): "x", **tags}
        store.raw(experiment, kind, of_study, {"tuning/top1": math.nan})
    store.raw(experiment, "elsewhere", {names.TAG_KIND: "trial", names.study_tag("other"): "x"}, {})
    return store


@pytest.fixture(scope="module")
def packed(tracked: Store, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of these runs."""
    path = tmp_path_factory.mktemp("bundle") / "report.zip"
    with open_store(tracked.uri) as store:
        path.write_bytes(make_bundle(run_files(plan, store, packed_runs(plan, store)), {}))
    return path


def comparable(run: TrackedRun) -> dict[str, object]:
    """Returns what is packed of a run, in the order of the store."""
    values = dataclasses.asdict(run)
    for left_out in ("experiment_id", "artifact_uri", "tags", "params"):
        del values[left_out]
    # NaN is not equal to itself.
    values["metrics"] = {name: repr(value) for name, value in run.metrics.items()}
    return values


@pytest.mark.parametrize("query", [NODES_AND_SUMMARIES, SUMMARIES, in_group("g"), RunQuery("none", "x", differs=True)])
def test_the_same_runs_in_the_same_order(tracked: Store, packed: Path, plan: Plan, query: RunQuery) -> None:
    experiments = [*experiments_of(plan), "none"]
    with open_store(tracked.uri) as store, open_store(str(packed)) as bundle:
        expected = [comparable(run) for run in store.runs(experiments, query) if run.name != "elsewhere"]
        assert [comparable(run) for run in bundle.runs(experiments, query)] == expected
        assert bool(expected) == (query.tag != "none")
        assert bundle.experiments("dyconv") == store.experiments("dyconv")
        assert bundle.experiments("other") == []


def test_histories_and_files_are_the_same(tracked: Store, packed: Path, plan: Plan) -> None:
    with open_store(tracked.uri) as store, open_store(str(packed)) as bundle:
        count = 0
        for run in bundle.runs(experiments_of(plan)):
            if run.kind == "trial" and run.finished:
                for metric in ("train/loss", "val/top1", "nothing"):
                    expected = store.history(run, metric)
                    count += len(expected)
                    assert bundle.history(run, metric) == expected
            assert not bundle.has_artifact(run, names.RECORD_FILE)
            with pytest.raises(OSError, match="No such file"):
                bundle.artifact(run, names.RECORD_FILE)
        assert count > 20


def assert_equal(left: Results, right: Results) -> None:
    """Fails unless two results hold the same, the order of columns included."""
    for field in dataclasses.fields(Results):
        value, other = getattr(left, field.name), getattr(right, field.name)
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other)
        else:
            assert value == other, field.name


def test_the_results_are_those_of_the_store(tracked: Store, packed: Path, plan: Plan) -> None:
    assert_equal(collect(plan, tracked.uri), collect(plan, bundle_address(packed)))


def test_no_name_of_a_machine_is_packed(packed: Path) -> None:
    assert SECRET.encode() not in packed.read_bytes()


def test_a_run_that_is_not_there(packed: Path) -> None:
    assert what_became_of(str(packed), ["none"]) == {"none": "is not in the store"}


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("a/report.zip", "a/report.zip"),
        ("REPORT.ZIP", "REPORT.ZIP"),
        ("bundle:/tmp/any name", "/tmp/any name"),
        ("sqlite:///runs/my.zip", None),
        ("http://host/report.zip", None),
        ("runs", None),
    ],
)
def test_the_address_of_a_bundle(address: str, path: str | None) -> None:
    named = bundle_path(address)
    assert (named and str(named)) == path


def test_what_is_no_bundle_is_a_tracking_error(tmp_path: Path, plan: Plan, packed: Path) -> None:
    with pytest.raises(TrackingError, match="No such file"):
        collect(plan, str(tmp_path / "none.zip"))
    (tmp_path / "changed.zip").write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(TrackingError, match="not as it was packed"):
        collect(plan, str(tmp_path / "changed.zip"))


def test_records_of_a_forger_are_errors_in_words(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "forged.zip"
    path.write_bytes(make_bundle({member("1", "run.json"): b'{"run_id": 1'}, {}))
    with pytest.raises(TrackingError, match=r"runs/1/run.json .* is no run of this version"):
        collect(plan, str(path))
    path.write_bytes(make_bundle({}, {}))
    with pytest.raises(ReportError, match="holds no finished run"):
        collect(plan, str(path))
    run = PackedRun(
        run_id="1", order=0, experiment="e", name="", status="finished", began=0, ended=0, data="",
        tags={names.TAG_KIND: "trial"}, params={}, metrics={},
    )  # fmt: skip
    files = {
        member("1", "run.json"): run.model_dump_json().encode(),
        member("1", "history.json"): b"[1]",
    }
    path.write_bytes(make_bundle(files, {}))
    with open_store(str(path)) as store, pytest.raises(BundleError, match="no list of metrics by step"):
        store.history(next(iter(store.runs(["e"]))), "train/loss")
