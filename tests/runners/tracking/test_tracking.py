"""What ends up in MLflow: each line once, under the names of the vocabulary, whatever happened on the way."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from ablations.errors import TrackingError
from ablations.planning.nodes import TrialNode
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.parts import Intervention
from ablations.study import Study, Variant
from ablations.summary_rows import SummaryRow
from reports.collect.stores.tracking import opened
from reports.collect.summary_runs import latest_request
from runners.provenance import Commit
from runners.state.attempts import Attempt, attempt_file, attempts_folder
from runners.state.files import write_json
from runners.state.nodes import NodeState
from runners.tracking import Tracker, prepare_store, write_study_summary
from runners.tracking.store import reason
from tests.runners.bench import Bench

EXPERIMENT = "dyconv-ablations/test/mini"
SERVES = {"temperature": ["tau_30"], "aggregation": ["annealed: attention"]}


@pytest.fixture
def tracker(store: str, tmp_path: Path) -> Tracker:
    """A tracker with an experiment of its own."""
    return _tracker(store, tmp_path)


def _tracker(store: str, tmp_path: Path) -> Tracker:
    experiment = f"{EXPERIMENT}/{tmp_path.name}"
    return Tracker(store, experiment, tmp_path / "artifacts", commit=Commit("c0ffee", True), preset="smoke")


def _measured(bench: Bench, node: TrialNode, epochs: int = 2) -> NodeState:
    state = bench.states[node.fingerprint]
    for epoch in range(1, epochs + 1):
        state.append_event(epoch, {"train/loss": 1.0 / epoch, "val/top1": 10.0 * epoch})
    return state


def _history(tracker: Tracker, fingerprint: str, metric: str) -> list[tuple[int, float]]:
    run_id = tracker.run_id(fingerprint)
    assert run_id is not None
    return sorted((m.step, m.value) for m in tracker.client.get_metric_history(run_id, metric))


def _run(tracker: Tracker, fingerprint: str) -> Any:
    return tracker.client.get_run(tracker.run_id(fingerprint))


def test_a_trial_run_has_the_layout_of_the_design(tracker: Tracker, bench: Bench) -> None:
    node = bench.trial(seed=3)
    tracker.begin(node, bench.states[node.fingerprint], SERVES)
    state = _measured(bench, node)
    state.weights_file.write_bytes(b"weights")
    state.finish({"test/top1": 55.0, "test/top1.class.0": 60.0}, 12.5, versions={"torch": "9"}, device="cpu")
    tracker.finish(state)
    run = _run(tracker, node.fingerprint)
    tags, params = run.data.tags, run.data.params
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "DY-MobileNetV2 ×0.35 depth 0.5 K=2 τ=30 · seed 3"
    assert tags[names.TAG_KIND] == "trial"
    assert tags[names.TAG_FINGERPRINT] == node.fingerprint
    assert (tags[names.TAG_SEED], tags[names.TAG_GIT_COMMIT], tags[names.TAG_GIT_DIRTY]) == ("3", "c0ffee", "true")
    assert tags["abl.study.temperature"] == "tau_30"
    assert tags["abl.study.aggregation"] == "annealed: attention"
    assert '"torch":"9"' in tags[names.TAG_VERSIONS]
    assert params["model.num_kernels"] == "2"
    assert params["train.temperature.start"] == "30.0"
    assert "data.root" not in params
    assert "train.temperature.end" not in params
    assert run.data.metrics["test/top1"] == 55.0
    assert run.data.metrics["seconds"] == 12.5
    assert _history(tracker, node.fingerprint, "val/top1") == [(1, 10.0), (2, 20.0)]
    assert run.inputs.dataset_inputs[0].dataset.name == "fashion_mnist_mini"
    artifacts = [a.path for a in tracker.client.list_artifacts(run.info.run_id)]
    assert artifacts == ["MLmodel", "model.safetensors", "record.json"]


def test_entropies_come_last_and_reports_read_them_back(store: str, tracker: Tracker, bench: Bench) -> None:
    node = bench.trial()
    state = bench.states[node.fingerprint]
    layers = ("features.10.conv.0", "features.2.conv.0")
    entropies = {names.entropy_metric(layer): 0.5 for layer in layers}
    state.append_event(1, {"train/loss": 1.0, names.TEMPERATURE: 30.0, **entropies})
    tracker.begin(node, state, {})
    tracker.sync(state)
    tracked = tracker.client.get_run(tracker.run_id(node.fingerprint)).data.metrics
    assert list(tracked)[-2:] == ["weight_entropy.features.02.conv.00", "weight_entropy.features.10.conv.00"]
    with opened(store) as reading:
        (run,) = reading.runs([tracker.name])
        assert run.metrics == state.events()[0]["metrics"]
        assert [reading.history(run, names.entropy_metric(layer)) for layer in layers] == [{1: 0.5}, {1: 0.5}]


def test_a_run_that_an_earlier_version_began_has_one_course(store: str, tracker: Tracker, bench: Bench) -> None:
    node = bench.trial()
    state = bench.states[node.fingerprint]
    metric = names.entropy_metric("features.2.conv.0")
    state.append_event(2, {"train/loss": 1.0, metric: 0.25})
    run_id = tracker.begin(node, state, {})
    tracker.client.log_metric(run_id, metric, 0.75, timestamp=1, step=1)
    tracker.sync(state)
    with opened(store) as reading:
        (run,) = reading.runs([tracker.name])
        assert run.metrics == {"train/loss": 1.0, metric: 0.25}
        assert reading.history(run, metric) == {1: 0.75, 2: 0.25}


def test_correctness_is_an_artifact_and_its_digest_a_tag(tracker: Tracker, bench: Bench) -> None:
    with_one, without = bench.trial(seed=1), bench.trial(seed=2)
    for node in (with_one, without):
        tracker.begin(node, bench.states[node.fingerprint], {})
    state = _measured(bench, with_one)
    (state.folder / names.CORRECTNESS_FILE).write_text('{"bits": {}, "sha256": "abc"}')
    for ended in (state, _measured(bench, without)):
        ended.finish({"test/top1": 55.0}, 1.0)
        tracker.finish(ended)
    run = _run(tracker, with_one.fingerprint)
    assert run.data.tags[names.TAG_CORRECTNESS] == "abc"
    artifacts = [a.path for a in tracker.client.list_artifacts(run.info.run_id)]
    assert artifacts == [names.CORRECTNESS_FILE, names.RECORD_FILE]
    assert names.TAG_CORRECTNESS not in _run(tracker, without.fingerprint).data.tags


def test_syncing_again_repeats_nothing_even_in_another_process(
    store: str, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = _tracker(store, tmp_path)
    node = bench.trial()
    state = _measured(bench, node, epochs=2)
    tracker.begin(node, state, {})
    assert tracker.sync(state) == 2
    assert tracker.sync(state) == 0
    # A crash between writing to the store and noting it down: the note is behind, and another process reads it.
    (state.folder / "tracking.json").unlink()
    state.append_event(3, {"train/loss": 0.1, "val/top1": 30.0})
    monkeypatch.setattr("os.getpid", lambda: 1)
    again = _tracker(store, tmp_path)
    again.begin(node, state, {})
    assert again.sync(state) == 1
    assert _history(again, node.fingerprint, "val/top1") == [(1, 10.0), (2, 20.0), (3, 30.0)]


def test_an_evaluation_is_a_child_of_its_training(tracker: Tracker, bench: Bench) -> None:
    trial = bench.trial()
    evaluation = bench.evaluation(trial, Intervention(aggregation="max"))
    tracker.begin(trial, bench.states[trial.fingerprint], {})
    tracker.begin(evaluation, bench.states[evaluation.fingerprint], {})
    run = _run(tracker, evaluation.fingerprint)
    assert run.data.tags["mlflow.parentRunId"] == tracker.run_id(trial.fingerprint)
    assert run.data.params["intervention.aggregation"] == "max"
    assert run.info.run_name.endswith("seed 0 · max")


@pytest.mark.parametrize(("status", "reason"), [("FAILED", "NaN"), ("KILLED", "interrupted")])
def test_a_stopped_run_says_why_and_is_continued_later(
    tracker: Tracker, bench: Bench, status: str, reason: str
) -> None:
    node = bench.trial()
    state = _measured(bench, node, epochs=1)
    first = tracker.begin(node, state, {})
    tracker.stop(state, status, reason)
    assert _run(tracker, node.fingerprint).info.status == status
    assert reason in _run(tracker, node.fingerprint).data.tags[names.TAG_NOTE]
    assert tracker.begin(node, state, {"late": ["v"]}) == first
    state.append_event(2, {"train/loss": 0.5})
    state.finish({"test/top1": 1.0}, 1.0)
    tracker.finish(state)
    run = _run(tracker, node.fingerprint)
    assert run.info.status == "FINISHED"
    assert run.data.tags["abl.study.late"] == "v"
    assert [step for step, _ in _history(tracker, node.fingerprint, "train/loss")] == [1, 2]


def _attempt(state: NodeState, number: int, began: float, ended: float | None, outcome: str, **more: Any) -> None:
    """Write the file of an attempt as its process would."""
    attempts_folder(state.folder).mkdir(parents=True, exist_ok=True)
    attempt = Attempt(number, began=began, ended=ended, outcome=outcome, **more)  # type: ignore[arg-type]
    write_json(attempt_file(state.folder, number), asdict(attempt))


def test_all_attempts_at_a_node_are_counted(tracker: Tracker, bench: Bench) -> None:
    node = bench.trial()
    state = _measured(bench, node, epochs=1)
    machine = {"device": "cpu", "processor": "a processor"}
    _attempt(state, 1, 1000.0, 1007.0, "failed", machine=machine)
    tracker.begin(node, state, {})
    tracker.stop(state, "FAILED", "no memory")
    metrics, tags = _run(tracker, node.fingerprint).data.metrics, _run(tracker, node.fingerprint).data.tags
    assert (metrics[names.ATTEMPTS], metrics[names.ATTEMPT_SECONDS]) == (1.0, 7.0)
    assert tags[names.TAG_VERSIONS] == '{"device":"cpu","processor":"a processor"}'
    # Killed without a word after three beats of five seconds; then resumed, and its end is not noted yet.
    _attempt(state, 2, 2000.0, None, "running", beat=3)
    _attempt(state, 3, 3000.0, None, "running", beat=1)
    tracker.begin(node, state, {})
    state.append_event(2, {"train/loss": 0.5})
    state.finish({"test/top1": 1.0}, 12.0)
    tracker.finish(state)
    metrics = _run(tracker, node.fingerprint).data.metrics
    assert metrics["seconds"] == 12.0
    assert (metrics[names.ATTEMPTS], metrics[names.ATTEMPT_SECONDS]) == (3.0, 7.0 + 15.0 + 12.0)
    assert _history(tracker, node.fingerprint, names.ATTEMPT_SECONDS) == [(1, 7.0), (3, 34.0)]


def test_a_single_attempt_that_made_the_result_is_told_by_the_result(tracker: Tracker, bench: Bench) -> None:
    node = bench.trial()
    state = _measured(bench, node)
    _attempt(state, 1, 1000.0, 1020.0, "finished")
    tracker.begin(node, state, {})
    state.finish({"test/top1": 1.0}, 12.0, peak_memory=3_000)
    tracker.finish(state)
    run = _run(tracker, node.fingerprint)
    assert names.ATTEMPT_SECONDS not in run.data.metrics
    assert run.data.tags[names.TAG_PEAK_MEMORY] == '{"main":3000}'


def test_a_reused_run_is_tagged_with_the_new_study(tracker: Tracker, bench: Bench) -> None:
    node = bench.trial()
    state = bench.states[node.fingerprint]
    tracker.begin(node, state, {"one": ["a"]})
    state.finish({"test/top1": 1.0}, 1.0)
    tracker.finish(state)
    assert not tracker.is_complete(state, {"two": ["b", "c"]})
    tracker.begin(node, state, {"two": ["b", "c"]})
    assert tracker.is_complete(state, {"two": ["b", "c"]})
    assert _run(tracker, node.fingerprint).data.tags["abl.study.two"] == "b, c"


def test_a_second_summary_takes_the_place_of_the_first(tracker: Tracker, tmp_path: Path) -> None:
    request = Request(get_preset("smoke"), {"train.epochs": 3})
    study = get_study("temperature", request.base())
    plan = make_plan([study], request)
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF")
    records = [SummaryRow("tau_30", {"test/top1.mean": 1.0}), SummaryRow("static", {})]
    for _ in range(2):
        run_id = write_study_summary(tracker, plan, study, records, [report], verdicts={"it helps": "reproduced"})
    runs = list(tracker.search(f"tags.`{names.TAG_STUDY_NAME}` = 'temperature'"))
    assert sorted(run.data.tags[names.TAG_KIND] for run in runs) == ["study", "variant", "variant"]
    children = [run for run in runs if run.data.tags[names.TAG_KIND] == "variant"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {run_id}
    assert {run.data.tags[names.TAG_VARIANT_NAME] for run in children} == {"tau_30", "static"}
    summary = tracker.client.get_run(run_id)
    assert "it helps: **reproduced**" in summary.data.tags[names.TAG_NOTE]
    assert summary.data.tags[names.TAG_OVERRIDES] == '{"train.epochs":3}'
    assert [a.path for a in tracker.client.list_artifacts(run_id, "report")] == ["report/report.pdf"]
    assert summary.data.metrics == {"test/top1.mean/tau_30": 1.0}
    params = {run.data.tags[names.TAG_VARIANT_NAME]: run.data.params for run in children}
    # Without a value for each, MLflow's parallel coordinates would draw what a row does not have as a number.
    assert params == {
        "static": {
            "variant": "static",
            "model.layer": "static",
            "train.temperature.schedule": "none",
            "train.temperature.start": "none",
        },
        "tau_30": {
            "variant": "τ = 30",
            "model.layer": "dynamic",
            "train.temperature.schedule": "constant",
            "train.temperature.start": "30.0",
        },
    }


def test_a_study_shows_the_numbers_of_all_its_rows_as_metrics(tracker: Tracker) -> None:
    request = Request(get_preset("smoke"))
    study = get_study("aggregation", request.base())
    plan = make_plan([study], request)
    keys = list(dict.fromkeys(cell.key for cell in plan.cells_of("aggregation")))
    rows = []
    for number, key in enumerate(keys):
        numbers = {"test/top1.mean": float(number), "test/top1.ci_low": number - 1.0, "delta.test/top1.mean": -1.0}
        rows.append(SummaryRow(key, numbers))
    summary = tracker.client.get_run(write_study_summary(tracker, plan, study, rows, []))
    metrics = summary.data.metrics
    # All means stand first, as the page of a run lists them in the order of the store.
    assert list(metrics)[: len(keys)] == [f"test/top1.mean/{key}" for key in keys]
    assert metrics["test/top1.mean/annealed: max"] == float(keys.index("annealed: max"))
    assert len(metrics) == 3 * len(keys) == 30
    assert all(f"test/top1.ci_low/{key}" in metrics for key in keys)
    note = summary.data.tags[names.TAG_NOTE]
    for page in ("variants-aggregation", "runs-aggregation"):
        assert f"viewStateShareKey={page})" in note
        assert f"mlflow.sharedViewState.{page}" in tracker.client.get_experiment(tracker.experiment_id).tags


def test_rows_whose_names_no_metric_may_have_are_tracked(tracker: Tracker) -> None:
    request = Request(get_preset("smoke"))
    changes = {"model.num_kernels": 2}
    variants = (Variant(name=".."), Variant(name="a/../b <c>", changes=changes))
    study = Study(name="heat", title="Heat", question="Which?", reference="..", variants=variants)
    plan = make_plan([study], request)
    rows = [SummaryRow("..", {"x.mean": 1.0}), SummaryRow("a/../b <c>", {"x.mean": 2.0})]
    run_id = write_study_summary(tracker, plan, study, rows, [])
    assert tracker.client.get_run(run_id).data.metrics == {"x.mean/-.": 1.0, "x.mean/a-..-b -c-": 2.0}


def test_a_summary_of_some_rows_stands_beside_that_of_the_whole_study(tracker: Tracker) -> None:
    request = Request(get_preset("smoke"))
    study = get_study("temperature", request.base())
    whole = make_plan([study], request)
    some = make_plan([study], replace(request, rows={"temperature": ("tau_1",)}))
    others = make_plan([study], replace(request, rows={"temperature": ("tau_5",)}))
    one_seed = make_plan([study], replace(request, seed=1))
    plans = (whole, some, others, one_seed)
    for _ in range(2):
        run_ids = {write_study_summary(tracker, plan, plan.studies[0], [], []) for plan in plans}
    runs = tracker.search(f"tags.`{names.TAG_STUDY_NAME}` = 'temperature'")
    tags = {run.info.run_id: run.data.tags for run in runs}
    # Each took the place of its own earlier one alone.
    assert tags.keys() == run_ids
    rows = sorted(str(each.get(names.TAG_ROWS)) for each in tags.values())
    assert rows == ["None", "None", '["tau_1","tau_30"]', '["tau_5","tau_30"]']
    assert sorted(str(each.get(names.TAG_ONLY_SEED)) for each in tags.values()) == ["1", "None", "None", "None"]
    # What a later report on the study takes its scale from is that of the whole study, though others are newer.
    found = latest_request("temperature", tracker.uri)
    assert found is not None
    assert found["seeds"] == 2


def test_a_server_that_does_not_answer_is_an_error_within_seconds() -> None:
    with pytest.raises(TrackingError, match="does not answer"):
        prepare_store("http://127.0.0.1:9")


def test_a_store_in_an_impossible_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="cannot create"):
        prepare_store(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(TrackingError, match="cannot be used"):
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")


def test_the_store_is_where_it_was_asked_for(store: str) -> None:
    assert MlflowClient(tracking_uri=store).search_experiments()


_REQUEST = "API request to http://h:1/api/2.0/mlflow/runs/create failed with"
_POOL = "HTTPConnectionPool(host='h', port=1)"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{_REQUEST} exception {_POOL}: Max retries exceeded with url: /api (Caused by NewConnectionError(\"{_POOL}: "
         'Failed to establish a new connection: [Errno 111] Connection refused"))', "Connection refused"),
        (f"{_REQUEST} timeout exception {_POOL}: Read timed out. (read timeout=20). To increase …", "no answer within"),
        (f"{_REQUEST} exception {_POOL}: Max retries exceeded with url: /api (Caused by ResponseError('too many 500 "
         "error responses'))", "it answers with error 500"),
        ("INVALID_PARAMETER_VALUE: changing a param is not allowed\nmore", "INVALID_PARAMETER_VALUE: changing a param"),
        ("", "ValueError"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_told_in_a_few_words(text: str, told: str) -> None:
    said = reason(ValueError(text))
    assert said.startswith(told)
    assert "\n" not in said
    assert len(said) < 80
