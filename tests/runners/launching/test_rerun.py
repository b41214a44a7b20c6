"""What is run again: what failed, and variants that are to be done anew, with all that rests on them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from ablations import vocabulary as names
from ablations.errors import AblationError, LeaseError, UnknownNameError
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from runners.api.plans import as_last_time, last_selection
from runners.api.selection import Selection
from runners.launching.rerun import begin_anew, only_failed
from runners.processes import Process
from runners.provenance import Commit
from runners.state.attempts import Lease
from runners.state.last_run import remember_run
from runners.state.nodes import StateStore
from runners.tracking import Tracker, prepare_store
from tests.runners.bench import Bench


def _plan(states: StateStore, *studies: str) -> Plan:
    request = Request(get_preset("smoke"))
    plan = make_plan([get_study(name, request.base()) for name in studies], request)
    done = states.done(node.fingerprint for node in plan.nodes)
    return make_plan([get_study(name, request.base()) for name in studies], request, done)


@pytest.fixture
def states(tmp_path: Path) -> StateStore:
    """Everything of two studies, done."""
    states = StateStore(tmp_path)
    for node in _plan(states, "aggregation", "temperature").nodes:
        states[node.fingerprint].describe(node)
        states[node.fingerprint].finish({"test/top1": 1.0}, 1.0)
    return states


def _cells(plan: Plan, study: str, variant: str) -> set[str]:
    found = {cell.fingerprint for cell in plan.cells_of(study) if variant in (cell.variant, cell.key)}
    assert found
    return found


def test_a_variant_is_put_aside_with_the_evaluations_of_its_checkpoints_in_every_study(states: StateStore) -> None:
    plan = _plan(states, "temperature")
    both = _plan(states, "aggregation", "temperature")
    inspected = {node.network.fingerprint for node in both.evaluations.values()}
    variant = next(cell.variant for cell in plan.cells if cell.fingerprint in inspected)
    trials = _cells(plan, "temperature", variant)
    resting = {key for key, node in both.evaluations.items() if node.network.fingerprint in trials}
    assert resting
    again = begin_anew(plan, [f"temperature/{variant}"], states)
    assert {node.fingerprint for node in again.missing} == trials
    assert plan.missing == ()
    assert {node.fingerprint for node in both.nodes if states[node.fingerprint].is_anew} == trials | resting
    for fingerprint in trials | resting:
        assert not states[fingerprint].is_done
        assert states[fingerprint].earlier.is_done


def test_an_evaluation_is_done_anew_with_its_training(states: StateStore) -> None:
    plan = _plan(states, "aggregation")
    key = next(cell.key for cell in plan.cells if cell.network and cell.fingerprint in plan.evaluations)
    again = begin_anew(plan, [f"aggregation/{key}"], states)
    trials = {plan.evaluations[cell].network.fingerprint for cell in _cells(plan, "aggregation", key)}
    expected = trials | {e for e, node in plan.evaluations.items() if node.network.fingerprint in trials}
    assert {node.fingerprint for node in again.missing} == expected


def test_what_is_put_aside_twice_is_still_what_was_done(states: StateStore) -> None:
    plan = _plan(states, "temperature")
    fingerprint = next(iter(_cells(plan, "temperature", "tau_30")))
    begin_anew(plan, ["temperature/tau_30"], states)
    states[fingerprint].fail("E", "half-way", "")
    begin_anew(plan, ["temperature/tau_30"], states)
    assert states[fingerprint].earlier.is_done
    assert states[fingerprint].failure() is None


def test_a_variant_that_there_is_not_is_named_with_the_nearest(states: StateStore) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean .*'temperature/tau_30'"):
        begin_anew(_plan(states, "temperature"), ["temperature/tau_31"], states)
    assert not (states.root / ".aside").exists()


@pytest.mark.parametrize(("here", "beats"), [(True, False), (False, True), (False, False)])
def test_what_is_being_run_is_not_put_aside(
    states: StateStore, monkeypatch: pytest.MonkeyPatch, here: bool, beats: bool
) -> None:
    plan = _plan(states, "temperature")
    state = states[next(iter(_cells(plan, "temperature", "tau_30")))]
    (state.folder / "result.json").unlink()
    monkeypatch.setattr(Process, "is_here", property(lambda self: here))
    lease = Lease.take(state.folder, "another launch", lease_seconds=0.6)
    assert lease is not None
    if here or beats:
        with pytest.raises(LeaseError, match="is being run by process"), lease if beats else nullcontext():
            begin_anew(plan, ["temperature/tau_30"], states)
        assert not state.is_anew
    else:
        begin_anew(plan, ["temperature/tau_30"], states)
        assert state.earlier.lease() is not None


def test_only_what_failed_is_tried_again_and_what_waited_for_it(states: StateStore) -> None:
    plan = _plan(states, "aggregation", "temperature")
    trial = next(iter(plan.evaluations.values())).network.fingerprint
    resting = {node.fingerprint for node in plan.evaluations.values() if node.depends_on == trial}
    others = [key for key in plan.evaluations if key not in resting]
    for fingerprint in (trial, *resting, others[0], others[1]):
        (states[fingerprint].folder / "result.json").unlink()
    states[trial].fail("E", "no", "")
    states[others[0]].fail("E", "no", "")
    failed = only_failed(_plan(states, "aggregation", "temperature"), states)
    assert {node.fingerprint for node in failed.missing} == {trial, *resting, others[0]}
    assert failed.studies_of(trial) == plan.studies_of(trial)


def test_nothing_has_failed(states: StateStore) -> None:
    assert only_failed(_plan(states, "temperature"), states).nodes == ()


def test_what_is_left_out_is_as_it_was_last_time(tmp_path: Path) -> None:
    nothing = last_selection(tmp_path)
    assert nothing == Selection(runs_dir=tmp_path)
    with pytest.raises(AblationError, match="nothing was run here yet"):
        as_last_time(Selection(), nothing)
    assert as_last_time(Selection(("x",)), nothing) == Selection(("x",))
    recorded = Selection(("a", "b"), preset="smoke", overrides=("train.epochs=2",), seeds=3, plugins=("p",))
    remember_run(tmp_path, recorded.studies, recorded.as_options())
    last = last_selection(tmp_path)
    assert last == replace(recorded, runs_dir=tmp_path)
    assert as_last_time(Selection(plugins=("q",)), last) == replace(recorded, plugins=("q", "p"))
    # Preset, overrides and seeds go together; plug-ins add up.
    assert as_last_time(Selection(("c",), seeds=5), last) == Selection(("c",), seeds=5, plugins=("p",))
    everything = as_last_time(Selection(all_studies=True), last)
    assert (everything.studies, everything.all_studies, everything.preset) == ((), True, "smoke")
    assert not everything.canary
    assert as_last_time(Selection(), replace(last, canary=True)).canary
    tuned = replace(last, tuned=True)
    assert as_last_time(Selection(), tuned).tuned
    own_values = as_last_time(Selection(tuned_from="values.json"), tuned)
    assert (own_values.tuned, own_values.tuned_from) == (False, "values.json")


def test_a_record_without_later_options_is_read(tmp_path: Path) -> None:
    (tmp_path / "last_run.json").write_text('{"studies": ["a"], "preset": "smoke", "overrides": [], "seeds": null}')
    assert last_selection(tmp_path) == Selection(("a",), preset="smoke", runs_dir=tmp_path)


def test_the_run_of_what_is_done_anew_stands_beside_the_earlier_one_which_says_so(tmp_path: Path, bench: Bench) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    prepare_store(uri)

    def tracker() -> Tracker:
        return Tracker(uri, "anew", tmp_path, commit=Commit("c0ffee", False), preset="smoke")

    node = bench.trial()
    state = bench.states[node.fingerprint]
    first = tracker()
    old = first.begin(node, state, {})
    state.finish({"test/top1": 10.0}, 1.0)
    first.finish(state)
    state.begin_anew()
    state.describe(node)
    second, late = tracker(), tracker()
    new = second.begin(node, state, {})
    assert new != old
    assert second.client.get_run(old).info.status == "FINISHED"
    assert names.TAG_SUPERSEDED not in second.client.get_run(old).data.tags, "until there is another result"
    assert late.begin(node, state, {}) == new
    state.finish({"test/top1": 20.0}, 1.0)
    late.finish(state)
    assert late.client.get_run(old).data.tags[names.TAG_SUPERSEDED] == new
    runs = {run.info.run_id: run for run in late.search(f"tags.`{names.TAG_FINGERPRINT}` LIKE '%'")}
    assert {key: run.info.status for key, run in runs.items()} == {old: "FINISHED", new: "FINISHED"}
    assert {key: run.data.metrics["test/top1"] for key, run in runs.items()} == {old: 10.0, new: 20.0}
    assert not state.is_anew
    assert tracker().run_id(node.fingerprint) == new
