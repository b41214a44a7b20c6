"""Results that other machines have measured are taken over bit for bit, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablations import vocabulary as names
from ablations.planning.nodes import EvaluationNode, TrialNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.fingerprint import trial_fingerprint
from runners.provenance import Commit
from runners.state.nodes import NodeState, StateStore
from runners.sync.fetch import fetch_finished
from runners.tracking import Tracker
from runners.tracking.sync_notes import unsynced

METRICS = {"test/top1": 100 / 3, "test/loss": math.inf, "test/attention_gap": math.nan, "val/top1": 0.1 + 0.2}


class Bed:
    """What one machine has measured of a plan with a trial and an evaluation of it, and another machine's folder."""

    def __init__(self, uri: str, folder: Path) -> None:
        request = Request(get_preset("smoke"), {"inspect": ["tau_30"]}, seeds=1)
        whole = make_plan([get_study("aggregation", request.base())], request)
        self.evaluation: EvaluationNode = next(iter(whole.evaluations.values()))
        self.trial: TrialNode = self.evaluation.network
        evaluations = {self.evaluation.fingerprint: self.evaluation}
        trials = {self.trial.fingerprint: self.trial}
        self.plan: Plan = replace(whole, trials=trials, evaluations=evaluations, costs={})
        self.uri, self.folder = uri, folder
        self.theirs, self.ours = StateStore(folder / "theirs"), StateStore(folder / "ours")
        self.told: list[str] = []

    def tracker(self) -> Tracker:
        """Returns a tracker that knows what the store has now."""
        name = f"fetch/{self.folder.name}"
        return Tracker(self.uri, name, self.folder, commit=Commit("c0ffee", False), preset="smoke")

    def measure(self, *nodes: TrialNode | EvaluationNode) -> None:
        """Measures nodes on the other machine."""
        tracker = self.tracker()
        for node in nodes:
            state = self.theirs[node.fingerprint]
            state.describe(node)
            tracker.begin(node, state, {"aggregation": ["max"]})
            if isinstance(node, TrialNode):
                state.append_event(1, {"train/loss": 1 / 3})
                state.weights_file.write_bytes(b"weights")
                (state.folder / names.ATTENTION_FILE).write_text('{"layers": {"a": 0.1}}')
                (state.folder / names.CORRECTNESS_FILE).write_text('{"bits": {}, "sha256": "abc"}')
            state.finish(METRICS, 0.1, versions={"torch": "9"}, device="cuda:0")
            tracker.finish(state)

    def fetch(self, done: frozenset[str] = frozenset()) -> frozenset[str]:
        """Fetches what there is and returns what is done then."""
        plan = fetch_finished(self.tracker(), replace(self.plan, done=done), self.ours, self.told.append)
        return plan.done

    def artifact(self, name: str, run_id: str = "*") -> Path:
        """Returns the file of an artifact in the store."""
        (path,) = self.folder.glob(f"fetch-*/{run_id}/artifacts/{name}")
        return path

    @property
    def state(self) -> NodeState:
        """The folder of the trial here."""
        return self.ours[self.trial.fingerprint]


@pytest.fixture
def bed(store: str, tmp_path: Path) -> Bed:
    """Two machines and a store."""
    return Bed(store, tmp_path)


def test_a_result_is_taken_over_bit_for_bit(bed: Bed) -> None:
    bed.measure(bed.trial, bed.evaluation)
    assert bed.fetch() == {bed.trial.fingerprint, bed.evaluation.fingerprint}
    for node in (bed.trial, bed.evaluation):
        ours, theirs = bed.ours[node.fingerprint], bed.theirs[node.fingerprint]
        assert repr(ours.result()) == repr(theirs.result())
        assert ours.events() == theirs.events()
        assert ours.node() == node
    for name in (names.ATTENTION_FILE, names.CORRECTNESS_FILE):
        theirs = bed.theirs[bed.trial.fingerprint].folder / name
        assert (bed.state.folder / name).read_bytes() == theirs.read_bytes()
    assert unsynced(bed.ours, bed.uri) == {}
    assert bed.told == ["took over from the tracking store: 2 results that were measured elsewhere"]
    # Nothing is missing that would need them.
    assert not bed.state.weights_file.exists()


def test_weights_are_taken_over_where_an_evaluation_is_missing(bed: Bed) -> None:
    bed.measure(bed.trial)
    assert bed.fetch() == {bed.trial.fingerprint}
    assert bed.state.weights_file.read_bytes() == b"weights"


def test_weights_that_were_removed_here_come_back(bed: Bed) -> None:
    bed.measure(bed.trial)
    bed.fetch()
    bed.state.weights_file.unlink()
    assert bed.fetch(frozenset({bed.trial.fingerprint})) == {bed.trial.fingerprint}
    assert bed.state.weights_file.read_bytes() == b"weights"


def test_what_is_unfinished_in_the_store_is_missing(bed: Bed) -> None:
    bed.tracker().begin(bed.trial, bed.theirs[bed.trial.fingerprint], {})
    assert bed.fetch() == frozenset()
    assert bed.told == []


def _other_bytes(bed: Bed, name: str) -> None:
    path = bed.artifact(name)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _removed(bed: Bed, name: str) -> None:
    bed.artifact(name).unlink()


@pytest.mark.parametrize("name", [names.RECORD_FILE, names.WEIGHTS_FILE])
@pytest.mark.parametrize("damage", [_other_bytes, _removed])
def test_what_is_damaged_is_not_taken_over(bed: Bed, damage: Callable[[Bed, str], None], name: str) -> None:
    bed.measure(bed.trial)
    damage(bed, name)
    assert bed.fetch() == frozenset()
    assert not bed.state.is_done
    assert len(bed.told) == 1
    assert f"{bed.trial.title} cannot be taken over from the tracking store" in bed.told[0]


def test_the_record_of_another_node_is_not_taken_over(bed: Bed) -> None:
    other = bed.trial.spec.model_copy(update={"seed": 7})
    bed.measure(TrialNode(trial_fingerprint(other), other), bed.trial)
    tracker = bed.tracker()
    own, foreign = tracker.finished(bed.state), tracker.runs(trial_fingerprint(other))[0]
    assert own is not None
    # The digests fit: only what the record says of itself does not.
    wrong = bed.artifact(names.RECORD_FILE, foreign.run_id).read_bytes()
    bed.artifact(names.RECORD_FILE, own.run_id).write_bytes(wrong)
    tracker.client.set_tag(own.run_id, names.TAG_FILES, foreign.tags[names.TAG_FILES])
    assert bed.fetch() == frozenset()
    assert "is not the record of" in bed.told[0]


def test_a_run_of_an_earlier_version_has_no_record_and_is_measured_here(bed: Bed) -> None:
    bed.measure(bed.trial)
    tracker = bed.tracker()
    tracker.client.delete_tag(tracker.run_id(bed.trial.fingerprint), names.TAG_FILES)
    assert bed.fetch() == frozenset()
    assert "has no model.safetensors" in bed.told[0]


def test_what_is_to_be_done_anew_is_not_taken_over(bed: Bed) -> None:
    bed.measure(bed.trial)
    bed.state.begin_anew()
    assert bed.fetch() == frozenset()
    # And once it is done, it is what counts.
    tracker = bed.tracker()
    bed.state.describe(bed.trial)
    tracker.begin(bed.trial, bed.state, {})
    bed.state.weights_file.write_bytes(b"new weights")
    bed.state.finish({"test/top1": 1.0}, 0.1)
    tracker.finish(bed.state)
    runs = sorted(bed.tracker().runs(bed.trial.fingerprint), key=lambda run: run.generation)
    assert [(run.status, run.is_superseded) for run in runs] == [("FINISHED", True), ("FINISHED", False)]
    # A third machine takes that over.
    third = fetch_finished(bed.tracker(), bed.plan, StateStore(bed.folder / "third"), bed.told.append)
    assert bed.trial.fingerprint in third.done
    result = StateStore(bed.folder / "third")[bed.trial.fingerprint].result()
    assert result is not None
    assert result["metrics"] == {"test/top1": 1.0}
