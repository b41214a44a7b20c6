"""Estimates of plans against made-up answers of workers: what is timed, when, and what a launch teaches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from ablations.errors import BudgetError, DispatchError
from ablations.planning.nodes import CostNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.study import Study, Variant
from runners.console.progress import Summary
from runners.dispatch import Dispatcher, DispatchSettings
from runners.estimates.estimate import PlanEstimate, Speed, speed_key, work_steps
from runners.estimates.forecast import Forecaster, difference, trim, within
from runners.estimates.measurements import Load, Measurements
from runners.hardware import Machine
from runners.state.attempts import Lease
from runners.state.nodes import StateStore

Planner = Callable[..., Plan]


class Workers:
    """Answers as workers would: each step takes `step` seconds; `broken` networks cannot be timed."""

    def __init__(self, capacity: int = 2, step: float = 1.0, broken: str = "") -> None:
        self.capacity, self.step, self.broken = capacity, step, broken
        self.asked: list[str] = []
        self.counted = 0
        self._lock = threading.Lock()

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        if question.__name__ == "count_parameters":
            self.counted += 1
            return 1000 + self.counted
        node = arguments[0]
        with self._lock:
            self.asked.append(speed_key(node))
        if self.broken == "dies":
            raise DispatchError("the worker process 7 died (killed by SIGKILL)")
        if node.spec.model.name == self.broken:
            return "SomeError: it cannot be built"
        step = 0.0 if isinstance(node, CostNode) else self.step
        return "cpu", Speed(step_seconds=step, setup_seconds=3.0, memory_bytes=10, weights_bytes=4)


def planned(*names: str, preset: str = "quick", seeds: int | None = None, done: set[str] | None = None) -> Plan:
    request = Request(get_preset(preset), {}, seeds)
    return make_plan([get_study(name, request.base()) for name in names], request, done or ())


def forecaster(tmp_path: Path, **more: Any) -> Forecaster:
    return Forecaster(tmp_path, DispatchSettings(**{"workers": 2, **more}))


def unknown(forecaster: Forecaster, plan: Plan) -> set[str]:
    """Return the keys of the work whose speed is not known."""
    estimate = forecaster.estimate(plan)
    assert estimate is not None
    return set(estimate.unknown)


def elsewhere(tmp_path: Path) -> Forecaster:
    pytest.importorskip("ray")
    return forecaster(tmp_path, name="ray")


def calibrated(found: Plan, tmp_path: Path, workers: Workers | None = None) -> Forecaster:
    known = forecaster(tmp_path)
    assert known.calibrate(found, cast(Dispatcher, workers or Workers()), ()) == []
    return known


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    found = forecaster(tmp_path).estimate(planned("temperature"))
    assert found is not None
    assert found.wall_seconds is None
    assert len(found.unknown) == 2
    assert list(tmp_path.iterdir()) == []


def test_each_network_is_timed_once_and_known_from_then_on(tmp_path: Path) -> None:
    plan, workers = planned("temperature", "aggregation"), Workers()
    calibrated(plan, tmp_path, workers)
    assert sorted(workers.asked) == sorted({speed_key(node) for node in plan.nodes})
    again = forecaster(tmp_path)
    assert unknown(again, plan) == set()
    found = again.estimate(plan)
    assert found is not None
    assert found.is_complete
    assert again.calibrate(plan, cast(Dispatcher, workers), ()) == []
    assert len(workers.asked) == 2


def test_no_worker_is_idle_while_another_one_times(tmp_path: Path) -> None:
    workers = Workers(capacity=4)
    calibrated(planned("aggregation"), tmp_path, workers)
    assert len(workers.asked) == 4
    assert len(set(workers.asked)) == 1


def test_counts_are_known_on_the_cpu_whatever_the_device(tmp_path: Path) -> None:
    plan = planned("cost")
    calibrated(plan, tmp_path)
    found = forecaster(tmp_path, device="cuda").estimate(plan)
    assert found is not None
    assert found.seconds_by_kind["counts"] == 16 * 3.0


@pytest.mark.parametrize(("broken", "reason"), [("mobilenet_v2", "SomeError"), ("dies", "SIGKILL")])
def test_what_cannot_be_timed_is_said_and_stays_unknown(tmp_path: Path, broken: str, reason: str) -> None:
    plan, known = planned("aggregation"), forecaster(tmp_path)
    (trouble,) = known.calibrate(plan, cast(Dispatcher, Workers(broken=broken)), ())
    assert reason in trouble
    assert len(unknown(known, plan)) == 1


@pytest.mark.parametrize(
    ("names", "preset", "is_cheap"),
    [
        (("temperature",), "quick", True),
        (("temperature",), "smoke", False),
        (("temperature", "backbones", "kernels", "placement", "reduction"), "small", False),
        (("cost",), "quick", False),
    ],
)
def test_a_launch_times_by_itself_what_takes_a_small_part_of_it(
    tmp_path: Path, names: tuple[str, ...], preset: str, is_cheap: bool
) -> None:
    plan, known = planned(*names, preset=preset), forecaster(tmp_path)
    assert known.is_cheap(plan) is is_cheap
    if is_cheap:
        assert not calibrated(plan, tmp_path).is_cheap(plan)
        assert not elsewhere(tmp_path / "other").is_cheap(plan)


def test_of_other_machines_nothing_is_said(tmp_path: Path) -> None:
    plan = planned("temperature")
    calibrated(plan, tmp_path)
    other = elsewhere(tmp_path)
    assert other.estimate(plan) is None
    assert list(other.lines(plan)) == []
    with pytest.raises(BudgetError, match="other machines"):
        within(plan, 1.0, other, may_trim=True)


def test_sizes_are_counted_only_where_they_are_compared(tmp_path: Path) -> None:
    variants = (Variant(name="a"), Variant(name="b", changes={"model.width": 0.5}))
    words: dict[str, Any] = {"name": "s", "title": "S", "question": "?", "reference": "a", "variants": variants}
    request, workers, known = Request(get_preset("quick")), Workers(), forecaster(tmp_path)
    plain, sized = (make_plan([Study(**words, equal_size=sized)], request) for sized in (False, True))
    known.count(plain, cast(Dispatcher, workers), ())
    assert workers.counted == 0
    known.count(sized, cast(Dispatcher, workers), ())
    assert workers.counted == 2
    assert sorted(forecaster(tmp_path).parameters.values()) == [1001, 1002]
    assert forecaster(tmp_path).uncounted(sized) == {}


def launched(plan: Plan, states: StateStore, launch: str = "own", *, skip: int = 0) -> None:
    for node in plan.missing[skip:]:
        state = states[node.fingerprint]
        state.describe(node)
        lease = Lease.take(state.folder, launch)
        assert lease is not None
        state.finish({"test/top1": 1.0}, 30.0, micro_batch=node.spec.train.batch_size)
        lease.end("finished")


def summary(finished: int, **more: Any) -> Summary:
    words = {"finished": finished, "failures": (), "blocked": 0, "interrupted": False, "seconds": 50.0}
    return Summary(**{**words, "untracked": None, **more})


def test_a_launch_that_took_longer_makes_the_next_estimate_longer(tmp_path: Path) -> None:
    plan, states = planned("aggregation", seeds=2), StateStore(tmp_path / "state")
    known = calibrated(plan, tmp_path)
    before = known.estimate(plan)
    assert before is not None
    assert before.wall_seconds is not None
    launched(plan, states)
    took = 2 * before.raw_seconds
    record = known.learn(plan, states, "own", before, summary(len(plan.missing), seconds=took))
    assert (record.launch, record.studies, record.nodes, record.workers) == ("own", ("aggregation",), 20, 2)
    assert (record.estimated, record.is_whole) == (before.wall_seconds, True)
    assert record.actual == pytest.approx(took, abs=0.001)
    assert record.ratio == pytest.approx(2.0, rel=1e-3)
    (kept,) = forecaster(tmp_path).measurements.launches
    assert kept == record


def test_only_what_a_launch_did_itself_and_at_once_is_learned(tmp_path: Path) -> None:
    """Four trainings: done by this launch, by another one, at the second attempt, and not at all."""
    variants = (Variant(name="a"), Variant(name="b", changes={"model.num_kernels": 2}))
    variants += (Variant(name="c", changes={"model.num_kernels": 3}), Variant(name="d", changes={"model.width": 0.5}))
    study = Study(name="s", title="S", question="?", reference="a", variants=variants, seeds=1)
    plan, states = make_plan([study], Request(get_preset("smoke"))), StateStore(tmp_path / "state")
    launches = (["own"], ["other"], ["own", "own"], ["own"])
    for node, attempts in zip(plan.missing, launches, strict=True):
        state = states[node.fingerprint]
        state.describe(node)
        for launch in attempts:
            assert Lease.take(state.folder, launch) is not None
    for node in plan.missing[:3]:
        states[node.fingerprint].finish({"test/top1": 1.0}, 30.0, micro_batch=node.spec.train.batch_size)
    known = forecaster(tmp_path)
    record = known.learn(plan, states, "own", None, summary(3))
    assert set(known.speeds(plan)) == {plan.missing[0].fingerprint}
    assert not record.is_whole


def test_of_many_alike_three_are_enough(tmp_path: Path) -> None:
    plan, states = planned("aggregation", seeds=5), StateStore(tmp_path / "state")
    launched(plan, states)
    known = forecaster(tmp_path)
    known.learn(plan, states, "own", None, summary(len(plan.missing)))
    ((key, measurements),) = known.measurements.content.measurements.items()
    assert key == speed_key(plan.missing[0])
    evaluations = [m for m in measurements if m.speed.evaluation_image_seconds is not None]
    assert (len(evaluations), len(measurements) - len(evaluations)) == (3, 3)


def test_counts_are_learned_on_the_cpu_whatever_the_device(tmp_path: Path) -> None:
    plan, states = planned("cost"), StateStore(tmp_path / "state")
    launched(plan, states)
    known = forecaster(tmp_path, device="cuda")
    known.measurements = Measurements(tmp_path, Machine("host", "a CPU", 4, ("G",), "1"))
    known.learn(plan, states, "own", None, summary(len(plan.missing)))
    assert unknown(known, plan) == set()
    assert {m.load.device for [m] in known.measurements.content.measurements.values()} == {"cpu"}


def test_the_longest_comes_first_and_the_unknown_before(tmp_path: Path) -> None:
    plan = planned("temperature", seeds=2)
    static = {fingerprint for fingerprint, node in plan.trials.items() if node.spec.model.layer == "static"}
    (slow,) = {speed_key(plan.trials[fingerprint]) for fingerprint in static}
    (fast,) = {speed_key(node) for node in plan.trials.values()} - {slow}

    def ordered(name: str, **step_seconds: float) -> list[str]:
        known = forecaster(tmp_path / name)
        known.measurements.add("learned", [(key, known.load, Speed(step_seconds=s)) for key, s in step_seconds.items()])
        longest_first = known.longest_first(plan)
        assert (longest_first.trials, longest_first.cells) == (plan.trials, plan.cells)
        return list(longest_first.trials)

    assert set(ordered("both", **{fast: 1.0, slow: 9.0})[: len(static)]) == static
    assert set(ordered("slow", **{slow: 9.0})[-len(static) :]) == static
    assert set(ordered("fast", **{fast: 1.0})[: len(static)]) == static


def test_the_order_of_a_launch_is_no_worse(tmp_path: Path) -> None:
    plan, known = planned("backbones", "aggregation", preset="small"), forecaster(tmp_path, workers=4)
    keys = list(dict.fromkeys(map(speed_key, plan.nodes)))
    steps = {key: Speed(step_seconds=0.1 * (1 + index)) for index, key in enumerate(keys)}
    known.measurements.add("learned", [(key, known.load, speed) for key, speed in steps.items()])
    plain, ordered = known.estimate(plan), known.estimate(known.longest_first(plan))
    assert isinstance(plain, PlanEstimate)
    assert isinstance(ordered, PlanEstimate)
    assert ordered.raw_seconds < plain.raw_seconds


@pytest.mark.parametrize("how", ["shared", "interrupted", "failed"])
def test_a_launch_that_did_not_go_as_planned_has_no_ratio(tmp_path: Path, how: str) -> None:
    plan, states = planned("aggregation", seeds=2), StateStore(tmp_path / "state")
    known = calibrated(plan, tmp_path)
    launched(plan, states, skip=1 if how == "shared" else 0)
    finished = 3 if how == "failed" else len(plan.missing)
    ended = summary(finished, interrupted=how == "interrupted")
    record = known.learn(plan, states, "own", known.estimate(plan), ended)
    assert not record.is_whole
    assert known.measurements.launches == [record]


def test_an_estimate_that_was_half_known_is_none(tmp_path: Path) -> None:
    plan, states = planned("temperature", seeds=2), StateStore(tmp_path / "state")
    known = forecaster(tmp_path)
    launched(plan, states)
    record = known.learn(plan, states, "own", known.estimate(plan), summary(12))
    assert (record.estimated, record.raw, record.is_whole) == (None, 0.0, True)


@pytest.mark.parametrize(
    ("gpus", "settings", "workers"),
    [
        ((), {}, 4), ((), {"threads": 2}, 2), ((), {"threads": 8}, 1), ((), {"workers": 3}, 3),
        ((), {"name": "inline"}, 1),
        (("G", "G"), {}, 2), (("G", "G"), {"trials_per_gpu": 3}, 6), (("G", "G"), {"device": "cuda:1"}, 1),
        (("G", "G"), {"device": "cpu"}, 4), (("G", "G"), {"workers": 1}, 1),
    ],
)  # fmt: skip
def test_as_many_tasks_at_once_as_the_launch_will_have(
    tmp_path: Path, gpus: tuple[str, ...], settings: dict[str, Any], workers: int
) -> None:
    known = Forecaster(tmp_path, DispatchSettings(**settings))
    known.measurements = Measurements(tmp_path, Machine("host", "a CPU", 4, gpus, "1"))
    assert known.workers == workers
    assert known.load == Load(
        "G" if gpus and settings.get("device") != "cpu" else "cpu", workers, settings.get("threads", 1)
    )


HOUR = 3600.0


def per_training(plan: Plan) -> float:
    """Return the seconds of a step with which each training takes a third of an hour."""
    return HOUR / 3 / work_steps(next(iter(plan.trials.values())))


def test_what_fits_is_left_as_it_is(tmp_path: Path) -> None:
    plan = planned("temperature")
    known = calibrated(plan, tmp_path, Workers(step=per_training(plan)))
    # 30 trainings of a third of an hour by two workers.
    assert within(plan, 5.1, known, may_trim=False) is plan


def test_what_does_not_fit_is_refused_with_the_estimate_and_the_rule(tmp_path: Path) -> None:
    plan = planned("temperature")
    known = calibrated(plan, tmp_path, Workers(step=per_training(plan)))
    with pytest.raises(BudgetError) as raised:
        within(plan, 4.9, known, may_trim=False)
    assert raised.value.exit_code == 2
    for words in ("5 h (", "--max-hours is 4.9", "--trim", "fewer seeds first, down to 2"):
        assert words in str(raised.value)


def test_what_does_not_fit_is_trimmed_by_the_rule(tmp_path: Path) -> None:
    plan = planned("temperature", "placement", seeds=4)
    known = calibrated(plan, tmp_path, Workers(step=per_training(plan)))
    fitting = within(plan, 2.1, known, may_trim=True)
    assert ([study.name for study in fitting.studies], fitting.request.seeds) == (["temperature"], 2)
    told = difference(plan, fitting, known)
    assert "2 seeds, without placement" in told
    assert "about 2 h" in told
    three = within(plan, 4.8, known, may_trim=True)
    assert ([study.name for study in three.studies], three.request.seeds) == (["temperature", "placement"], 3)
    assert "3 seeds." in difference(plan, three, known)


def test_what_cannot_be_trimmed_far_enough_is_refused(tmp_path: Path) -> None:
    plan = planned("temperature")
    known = calibrated(plan, tmp_path, Workers(step=per_training(plan)))
    with pytest.raises(BudgetError, match="the smallest plan takes longer"):
        within(plan, 1.9, known, may_trim=True)


def test_what_is_not_known_is_not_promised(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"cannot be told yet.*plan --calibrate"):
        within(planned("temperature"), 100.0, forecaster(tmp_path), may_trim=True)


Step = tuple[tuple[str, ...], int | None]


def tried(plan: Plan) -> list[Step]:
    """Return the plans that are tried, the first one first, if none fits."""
    steps: list[Step] = []

    def refuse(candidate: Plan) -> bool:
        steps.append((tuple(study.name for study in candidate.studies), candidate.request.seeds))
        return False

    assert trim(plan, refuse) is None
    return steps


def test_seeds_go_first_and_then_the_studies_named_last(plan: Planner) -> None:
    found = plan("temperature", "aggregation", "placement", seeds=4)
    every = ("temperature", "aggregation", "placement")
    assert tried(found) == [
        (every, 4), (every, 3), (every, 2), (("temperature", "aggregation"), 2), (("temperature",), 2),
    ]  # fmt: skip


def test_no_study_gets_more_seeds_than_it_had(plan: Planner) -> None:
    # At quick, three seeds by default and two of placement.
    found = plan("temperature", "placement")
    assert tried(found) == [
        (("temperature", "placement"), None), (("temperature", "placement"), 2), (("temperature",), 2),
    ]  # fmt: skip


def test_the_study_with_the_fewest_seeds_says_where_to_begin() -> None:
    variants = (Variant(name="a"),)
    few, many = (
        Study(name=name, title="T", question="?", reference="a", variants=variants, seeds=seeds)
        for name, seeds in (("few", 3), ("many", 6))
    )
    steps = tried(make_plan([many, few], Request(get_preset("quick"))))
    assert [seeds for _, seeds in steps] == [None, 3, 2, 2]


@pytest.mark.parametrize(("seeds", "steps"), [(1, [None]), (2, [None])])
def test_two_seeds_or_one_stay(plan: Planner, seeds: int, steps: list[None]) -> None:
    assert len(tried(plan("temperature", seeds=seeds))) == len(steps)


def test_what_is_counted_has_no_seeds(plan: Planner) -> None:
    assert tried(plan("cost")) == [(("cost",), None)]
    assert [names for names, _ in tried(plan("temperature", "cost", seeds=2))] == [
        ("temperature", "cost"), ("temperature",),
    ]  # fmt: skip


def test_a_plan_that_fits_stays_itself(plan: Planner) -> None:
    found = plan("temperature")
    assert trim(found, lambda candidate: True) is found


def test_the_largest_plan_that_fits_is_the_one_of_fewer_seeds(plan: Planner) -> None:
    found = plan("temperature", seeds=5, done={"known"})
    smaller = trim(found, lambda candidate: len(candidate.trials) <= 18)
    assert smaller is not None
    assert smaller.request.seeds == 3
    assert smaller.done == {"known"}
    assert set(smaller.trials) < set(found.trials)
    by_hand = plan("temperature", seeds=3, done={"known"})
    assert (smaller.trials, smaller.cells, smaller.studies) == (by_hand.trials, by_hand.cells, by_hand.studies)


def test_overrides_that_only_a_dropped_study_reads_end_it() -> None:
    request = Request(get_preset("quick"), {"inspect": "tau_30"}, seeds=2)
    studies = [get_study(name, request.base()) for name in ("temperature", "aggregation")]
    assert [names for names, _ in tried(make_plan(studies, request))] == [("temperature", "aggregation")]
    assert len(tried(make_plan(studies[::-1], request))) == 2
