"""All computing behind a report: every run of its studies once, with the time of all its attempts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from reports.collect.computing.accounted import AccountedRun, Computing, total_seconds
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.document.computing import computing_fact, computing_section, energy_words, sum_words
from tests.reports.made_up import TEMPERATURE, Store, document_of, plan_of

EXPERIMENT = names.experiment_name("smoke", "fashion_mnist_mini")
TAG = names.study_tag("temperature")
MACHINE = {"device": "cpu", "processor": "a processor", "threads": "2"}


def _add(
    store: Store,
    kind: str,
    *,
    status: str = "FINISHED",
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    start: int = 1_700_000_000_000,
) -> str:
    """Add a run of the study beside those of the plan."""
    all_tags = {names.TAG_KIND: kind, names.TAG_FINGERPRINT: "f" * 64, TAG: "tau_30", **(tags or {})}
    return store.raw(EXPERIMENT, kind, all_tags, metrics or {}, status=status, start=start)


@pytest.fixture(scope="module")
def small() -> Plan:
    """One study, one seed: three trainings."""
    return plan_of(TEMPERATURE, seeds=1)


@pytest.fixture
def filled(make_store: Callable[[], Store], small: Plan) -> Store:
    """A store with a run of two seconds for each training of the plan."""
    store = make_store()
    for node in small.trials.values():
        tags = {TAG: "x", names.TAG_VERSIONS: json.dumps(MACHINE), names.TAG_PEAK_MEMORY: '{"main":1000,"gpu":null}'}
        store.add(small, node, {"test/top1": 50.0, "seconds": 2.0}, tags=tags)
    return store


def _of(results: Results, run_id: str) -> AccountedRun:
    (run,) = [run for run in results.computing.runs if run.run_id == run_id]
    return run


def test_the_runs_of_a_report_and_nothing_else_yet(filled: Store, small: Plan) -> None:
    results = collect(small, filled.uri)
    assert {run.run_id for run in results.computing.runs} == set(results.runs["run_id"])
    run = results.computing.runs[0]
    assert (run.kind, run.outcome, run.seconds, run.attempts) == ("trial", "counted", 2.0, 1)
    assert (run.machine, run.gpu, run.memory, run.gpu_memory) == ("a processor, 2 threads", False, 1000, 0)
    assert total_seconds(results.computing.counted) == 6.0
    assert computing_fact(results.computing) == "6 s in this report's runs; 6 s in all"


def test_each_outcome(filled: Store, small: Plan) -> None:
    seconds, attempts = {"seconds": 5.0}, {names.ATTEMPTS: 3.0, names.ATTEMPT_SECONDS: 7.0}
    added = {
        # A run of other settings or more seeds, which no number of the report comes from.
        _add(filled, "trial", metrics=seconds): ("trial", "finished", 5.0),
        _add(filled, "trial", metrics=seconds, tags={names.TAG_SUPERSEDED: "x"}): ("trial", "superseded", 5.0),
        # Of an attempt that failed, an earlier version tracked no more than its beginning and its end, a second later.
        _add(filled, "evaluation", status="FAILED"): ("evaluation", "failed", 1.0),
        _add(filled, "trial", status="KILLED", metrics=attempts): ("trial", "aborted", 7.0),
        _add(filled, "trial", status="RUNNING"): ("trial", "running", None),
        _add(filled, "tuning", metrics=seconds): ("tuning", "finished", 5.0),
        _add(filled, "search", status="FAILED", metrics=attempts): ("search", "failed", 7.0),
        # The last attempt is a part of all attempts.
        _add(filled, "cost", metrics={**seconds, names.ATTEMPT_SECONDS: 11.0}): ("cost", "finished", 11.0),
    }
    results = collect(small, filled.uri)
    for run_id, expected in added.items():
        run = _of(results, run_id)
        assert (run.kind, run.outcome, run.seconds) == expected
    assert total_seconds(results.computing.counted) == 6.0
    assert total_seconds(results.computing.runs) == 6.0 + 5.0 + 5.0 + 1.0 + 7.0 + 5.0 + 7.0 + 11.0
    assert computing_fact(results.computing) == (
        "6 s in this report's runs; 47 s in all, with 2 failed, 1 done anew, 1 aborted, 1 not ended, 1 of tuning, "
        "2 with other settings or seeds"
    )
    words = sum_words(results.computing)
    assert "everything that was computed for these studies took 47 s, 7.83 times as much." in words
    assert "The time of 1 run is not known" in words
    assert "2 runs took more than one attempt: 4 more in all." in words


def test_what_is_of_no_study_of_the_plan_is_not_counted(filled: Store, small: Plan) -> None:
    before = collect(small, filled.uri).computing
    _add(filled, "study", metrics={"seconds": 9.0})
    _add(filled, "tuned", metrics={"seconds": 9.0})
    filled.raw(EXPERIMENT, "other study", {names.TAG_KIND: "trial", "abl.study.kernels": "k"}, {"seconds": 9.0})
    filled.raw("elsewhere", "other preset", {names.TAG_KIND: "trial", TAG: "tau_30"}, {"seconds": 9.0})
    assert collect(small, filled.uri).computing == before


def test_devices_multiply_the_time_of_trainings_alone(filled: Store, small: Plan) -> None:
    training, evaluation = (_add(filled, kind, metrics={"seconds": 5.0}) for kind in ("trial", "evaluation"))
    for run_id in (training, evaluation):
        filled.set_params(run_id, {"train.devices": 4})
    results = collect(small, filled.uri)
    # An evaluation has the settings of its training and runs on one device.
    assert (_of(results, training).seconds, _of(results, evaluation).seconds) == (20.0, 5.0)


def test_a_run_that_two_studies_share_counts_once(results: Results) -> None:
    run_ids = [run.run_id for run in results.computing.runs]
    assert len(run_ids) == len(set(run_ids))
    assert total_seconds(results.computing.counted) == 2.0 * len(results.runs)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"main":"much","gpu":-1}', '{"main":1e400}', '{"main":true}'])
def test_tags_that_anyone_may_edit(filled: Store, small: Plan, text: str) -> None:
    tags = {names.TAG_PEAK_MEMORY: text, names.TAG_VERSIONS: text}

    metrics = {"seconds": 1e300, names.ATTEMPTS: float("nan"), names.ATTEMPT_SECONDS: float("inf")}
    run_id = _add(filled, "trial", tags=tags, metrics=metrics)
    run = _of(collect(small, filled.uri), run_id)
    assert (run.seconds, run.attempts, run.gpu_memory) == (None, 1, 0)
    assert run.memory in (0, 1)


def test_a_gpu_is_named_before_its_processor(filled: Store, small: Plan) -> None:
    versions = json.dumps({**MACHINE, "device": "cuda:0", "gpu": "a GPU"})
    run_id = _add(filled, "trial", status="FAILED", tags={names.TAG_VERSIONS: versions})
    run = _of(collect(small, filled.uri), run_id)
    assert (run.machine, run.gpu) == ("a GPU", True)


def test_plain_data_and_back(filled: Store, small: Plan) -> None:
    _add(filled, "trial", status="RUNNING", metrics={names.ATTEMPTS: 2.0})
    computing = collect(small, filled.uri).computing
    stored = json.loads(json.dumps(computing.as_mapping()))
    assert computing.as_of(stored) == (computing, [])


RUN = AccountedRun("a", "trial", "failed", 4.0, 1000)


def test_what_came_after_a_report_is_left_out_and_what_went_on_is_told() -> None:
    counted = AccountedRun("b", "trial", "counted", 8.0, 2000)
    then = Computing((RUN, counted))
    later = AccountedRun("c", "trial", "failed", 16.0, 3000)
    assert Computing((later, counted, RUN)).as_of(then.as_mapping()) == (then, [])
    # Tried again since, and done anew since: the report's own time stands, unchecked.
    went_on = replace(RUN, outcome="running", seconds=5.0, ended=900)
    anew = replace(counted, outcome="superseded")
    computing, (note,) = Computing((went_on, anew)).as_of(then.as_mapping())
    assert computing == then
    assert note.startswith("computing, runs that went on or were done anew since: 2;")
    computing, (note,) = Computing((counted,)).as_of(then.as_mapping())
    assert computing == then
    assert note.startswith("computing, runs that are not in the store any more: 1;")


def test_a_changed_time_is_taken_from_the_store() -> None:
    stored = Computing((RUN,)).as_mapping()
    changed = Computing((replace(RUN, seconds=4.5),))
    assert changed.as_of(stored) == (changed, [])


def test_a_run_that_a_report_hides_is_noted() -> None:
    hidden = replace(RUN, run_id="hidden", ended=999)
    computing, (note,) = Computing((RUN, hidden)).as_of(Computing((RUN,)).as_mapping())
    assert computing == Computing((RUN,))
    assert note.startswith(
        "computing, runs of these studies that ended before the report's newest and are not in it: 1;"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "x"},
        {"outcome": "x"},
        {"outcome": []},
        {"seconds": -1},
        {"seconds": "x"},
        {"ended": None},
        {"memory": -1},
    ],
)
def test_plain_data_that_are_no_run(change: Mapping[str, object]) -> None:
    stored = {"a": {**RUN.as_mapping(), **change}}
    with pytest.raises((TypeError, ValueError)):
        Computing().as_of(stored)


def test_energy_is_that_of_the_launches_that_tell_it(results: Results) -> None:
    from ablations.launches import Record

    assert energy_words(results) == "Not told by the machines of the launches on record (0)."
    silent = Record("a", 1.0, ("temperature",), 3, 2, None, 60.0)
    counted = replace(silent, launch="b", energy=1.8e6, energy_of="processors")
    words = energy_words(replace(results, launches=(silent, counted)))
    assert words.startswith("0.5000 kWh in 1 of 2 launches on record, counted by processors themselves")


def test_the_section_and_the_line_are_in_the_report(plan: Plan, results: Results) -> None:
    document = document_of(plan, results)
    (facts,) = document.appendix[0].blocks
    assert ("Computing", computing_fact(results.computing)) in facts.items  # type: ignore[union-attr]
    titles = [section.title for section in document.appendix]
    assert "Computing" in titles
    assert computing_section(replace(results, computing=Computing())) is None
    bare = document_of(plan, replace(results, computing=Computing()))
    assert not {"Computing", "Checklist"} & {section.title for section in bare.appendix}
