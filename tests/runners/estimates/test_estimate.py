"""Estimates: scheduling against hand answers and a clock that ticks, ranges by hand, what counts and what does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.launches import Range, Record
from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.study import Study, Variant
from runners.estimates.estimate import (
    Job,
    Speed,
    estimate,
    longest_first,
    makespan,
    measured_images,
    seconds_of,
    speed_key,
    training_steps,
    widen,
    work_title,
)

Planner = Callable[..., Plan]

# A preset that says all that these tests count with, whatever the real one trains with.
OWN_PRESET = get_preset("quick").model_copy(
    update={
        "settings": {
            "data.name": "fashion_mnist_mini",
            "data.augmentation": "crop_flip",
            "model.width": 0.35,
            "model.depth": 0.5,
            "train.epochs": 4,
            "train.batch_size": 64,
            "train.warmup_epochs": 0.25,
            "train.temperature.epochs": 1.0,
        }
    }
)
REQUEST = Request(OWN_PRESET)


def built_in(*names: str, done: set[str] | None = None) -> Plan:
    """Plan built-in studies with the settings above and three seeds."""
    request = Request(OWN_PRESET, seeds=3)
    return make_plan([get_study(name, request.base()) for name in names], request, done or ())


def jobs(*seconds: float, after: dict[int, int] | None = None) -> list[Job]:
    behind = after or {}
    return [Job(str(i), s, str(behind[i]) if i in behind else "") for i, s in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "after", "workers", "end"),
    [
        ((), {}, 2, 0.0),
        ((3.0,), {}, 2, 3.0),
        ((3.0, 2.0, 1.0), {}, 1, 6.0),
        ((3.0, 2.0, 1.0), {}, 2, 3.0),
        ((1.0, 2.0, 3.0), {}, 2, 4.0),
        ((1.0, 2.0, 3.0), {}, 8, 3.0),
        # The evaluation waits for its training, and the other worker is idle meanwhile.
        ((4.0, 1.0), {1: 0}, 2, 5.0),
        # What becomes ready comes behind what was ready before.
        ((1.0, 5.0, 2.0, 2.0), {3: 0}, 2, 5.0),
        ((1.0, 3.0, 4.0, 2.0), {3: 0}, 2, 5.0),
        # A job after one that is done already waits for nothing.
        ((1.0, 1.0), {1: 7}, 2, 1.0),
    ],
)
def test_schedules_by_hand(seconds: tuple[float, ...], after: dict[int, int], workers: int, end: float) -> None:
    assert makespan(jobs(*seconds, after=after), workers) == end


def ticking(listed: list[Job], workers: int) -> int:
    """The same by a clock: each tick, idle workers take the first job that is ready."""
    names = {job.name for job in listed}
    queue = [job for job in listed if job.after not in names]
    left: dict[str, int] = {}
    waiting = [job for job in listed if job.after in names]
    now = 0
    while queue or left:
        while queue and len(left) < workers:
            job = queue.pop(0)
            left[job.name] = int(job.seconds)
        now += 1
        ended = [name for name in left if left[name] == 1]
        left = {name: rest - 1 for name, rest in left.items() if rest > 1}
        for name in ended:
            queue += [job for job in waiting if job.after == name]
    return now


@given(
    st.lists(st.integers(1, 9), max_size=9),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 8)), max_size=9),
    st.integers(1, 5),
)
def test_a_schedule_is_that_of_a_ticking_clock(
    trainings: list[int], evaluations: list[tuple[int, int]], workers: int
) -> None:
    listed = [Job(f"t{i}", seconds) for i, seconds in enumerate(trainings)]
    listed += [Job(f"e{i}", seconds, f"t{trial}") for i, (seconds, trial) in enumerate(evaluations)]
    assert makespan(listed, workers) == ticking(listed, workers)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20), st.integers(1, 6))
def test_a_schedule_is_within_grahams_bound(seconds: list[float], workers: int) -> None:
    end, total, longest = makespan(jobs(*seconds), workers), math.fsum(seconds), max(seconds)
    assert end >= max(longest, total / workers) - 1e-9
    assert end <= total / workers + longest * (1 - 1 / workers) + 1e-9


def record(actual: float, raw: float, is_whole: bool = True) -> Record:
    return Record("l", 1.0, ("s",), 3, 2, Range(raw / 2, raw, raw * 2), actual, raw, is_whole)


def test_without_history_a_range_is_the_assumed_spread() -> None:
    found = widen(100.0, 0.0)
    assert found.likely == 100.0
    assert found.high == pytest.approx(100 * math.exp(1.645 * 0.2 * math.sqrt(2)))
    assert found.low * found.high == pytest.approx(100.0**2)


def test_the_spread_of_the_steps_widens_a_range() -> None:
    found = widen(100.0, 0.3)
    assert found.high == pytest.approx(100 * math.exp(1.645 * math.sqrt(0.08 + 0.09)))


def test_history_by_hand() -> None:
    # Two launches took twice what was computed: the mean of log 2 twice and one zero is assumed.
    found = widen(90.0, 0.0, [record(20.0, 10.0), record(200.0, 100.0)])
    mean = 2 * math.log(2) / 3
    assert found.likely == pytest.approx(90 * math.exp(mean))
    variance = (3 * 0.04 + 2 * (math.log(2) - mean) ** 2) / 5 * (4 / 3)
    assert found.high == pytest.approx(found.likely * math.exp(1.645 * math.sqrt(variance)))


def test_many_launches_that_went_as_computed_narrow_a_range() -> None:
    few, many = (widen(100.0, 0.0, [record(50.0, 50.0)] * count) for count in (2, 20))
    assert many.high < few.high < widen(100.0, 0.0).high
    assert many.high < 125


def test_launches_that_were_cut_short_teach_nothing() -> None:
    cut = [record(1.0, 50.0, is_whole=False), record(0.0, 50.0), record(50.0, 0.0)]
    assert widen(100.0, 0.0, cut) == widen(100.0, 0.0)


SPEED = Speed(step=0.5, image=0.01, setup=2.0, memory=100, gpu_memory=7, weights=1_000_000)
CHANGES: dict[str, dict[str, Any]] = {"other": {"model.num_kernels": 2}, "same": {"train.learning_rate": 0.01}}


def study(**more: Any) -> Study:
    variants = (Variant(name="ref"), *(Variant(name=name, changes=changes) for name, changes in CHANGES.items()))
    words = {"name": "mine", "title": "Mine", "question": "?", "reference": "ref", "seeds": 2, "variants": variants}
    return Study(**{**words, **more})


@pytest.fixture
def small() -> Plan:
    """Three variants of two seeds, two networks: 56 steps of 64 and 200 validation images an epoch, 300 at the end."""
    sizes = {"data.train_images": 3600, "data.validation_images": 200, "data.test_images": 300, "train.epochs": 3}
    return make_plan([study()], Request(OWN_PRESET, sizes))


def of(plan: Plan, variant: str) -> Node:
    return next(plan.node(cell.fingerprint) for cell in plan.cells if cell.variant == variant)


def test_what_a_training_takes_by_hand(small: Plan) -> None:
    node = of(small, "ref")
    assert (training_steps(node.spec), measured_images(node.spec)) == (3 * 56, 3 * 200 + 300)
    assert seconds_of(node, SPEED) == 2.0 + 168 * 0.5 + 900 * 0.01
    assert seconds_of(node, Speed(image=1.0, setup=1.0)) is None
    assert seconds_of(node, None) is None


def test_what_an_evaluation_takes_by_hand(plan: Planner) -> None:
    node = next(iter(plan("aggregation", overrides={"data.test_images": 300}).evaluations.values()))
    assert seconds_of(node, SPEED) == 2.0 + 300 * 0.01
    assert seconds_of(node, Speed(evaluation_image=0.1)) == pytest.approx(30.0)
    assert seconds_of(node, Speed(step=1.0)) is None


def test_what_a_count_takes_is_all_in_one(plan: Planner) -> None:
    node = next(iter(plan("cost").costs.values()))
    assert (seconds_of(node, SPEED), seconds_of(node, Speed())) == (2.0, None)


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"train.learning_rate": 0.01}, True),
        ({"train.epochs": 7}, True),
        ({"data.train_images": 640}, True),
        ({"train.temperature.start": 3.0}, True),
        ({"train.batch_size": 32}, False),
        ({"train.micro_batch": 32}, False),
        ({"train.precision": "amp"}, False),
        ({"model.num_kernels": 2}, False),
        ({"model.width": 0.5}, False),
        ({"data.augmentation": "none"}, False),
        ({"data.mixup": 0.2}, False),
        ({"data.name": "fashion_mnist"}, False),
    ],
)
def test_work_is_the_same_if_it_takes_the_same_per_image(changes: dict[str, Any], is_same: bool) -> None:
    plan = make_plan([study(variants=(Variant(name="ref"), Variant(name="a", changes=changes)))], REQUEST)
    assert (speed_key(of(plan, "ref")) == speed_key(of(plan, "a"))) is is_same


def test_an_evaluation_is_work_on_the_network_of_its_training() -> None:
    found = built_in("aggregation")
    for node in found.evaluations.values():
        assert speed_key(node) == speed_key(node.trial)
    assert work_title(node) == work_title(node.trial) == "DY-MobileNetV2 ×0.35 depth 0.5 K=4 on fashion_mnist_mini"


def test_an_estimate_by_hand(small: Plan) -> None:
    speeds = {speed_key(of(small, "ref")): SPEED, speed_key(of(small, "other")): Speed(step=1.0, memory=300)}
    found = estimate(small, speeds, workers=2)
    fast, slow = 95.0, 168.0
    # Two seeds of each: fast fast slow slow fast fast.
    assert found.raw == fast + slow + fast
    assert found.wall == widen(found.raw, 0.0)
    assert found.trainings == found.shared == found.unshared == 4 * fast + 2 * slow
    assert (found.evaluations, found.counts, found.unknown) == (0.0, 0.0, {})
    assert found.memory == 600
    assert found.gpu_memory == 7
    assert found.disk == 2 * 4_000_000 + 4 * 2_000_000 + 6 * 100_000


def test_what_is_done_takes_nothing_and_still_counts_as_shared() -> None:
    fresh = built_in("aggregation", "temperature")
    speeds = {speed_key(node): Speed(step=1.0, evaluation_image=0.01) for node in fresh.nodes}
    done = built_in("aggregation", "temperature", done={node.fingerprint for node in fresh.nodes})
    one, other = estimate(fresh, speeds, 2), estimate(done, speeds, 2)
    assert (other.raw, other.memory, other.disk) == (0.0, 0, 0)
    assert other.wall == Range(0.0, 0.0, 0.0)
    assert (one.shared, one.unshared) == (other.shared, other.unshared)
    # Four epochs of 8,000 images in batches of 64, a second each; six trainings and eight evaluations per seed.
    training, evaluation = 500.0, 3000 * 0.01
    cells = [fresh.node(cell.fingerprint) for cell in fresh.cells]
    evaluated = sum(isinstance(node, EvaluationNode) for node in cells)
    assert one.shared == pytest.approx(18 * training + 24 * evaluation)
    assert one.unshared == pytest.approx(len(cells) * training + evaluated * evaluation)


def test_what_is_tried_again_counts_alone() -> None:
    whole = built_in("aggregation")
    one = next(iter(whole.trials))
    part = replace(whole, trials={one: whole.trials[one]}, evaluations={})
    found = estimate(part, {speed_key(node): Speed(step=1.0, image=0.001) for node in whole.nodes}, 2)
    assert (
        found.raw
        == found.shared
        == found.unshared
        == pytest.approx(500.0 + measured_images(whole.trials[one].spec) / 1000)
    )


def test_what_is_unknown_is_named_once_and_left_out(small: Plan) -> None:
    known = estimate(small, {speed_key(of(small, "ref")): SPEED}, 1)
    assert not known.is_complete
    assert list(known.unknown.values()) == ["DY-MobileNetV2 ×0.35 depth 0.5 K=2 on fashion_mnist_mini"]
    assert known.raw == 4 * 95.0
    nothing = estimate(small, {}, 1)
    assert nothing.wall is None
    assert len(nothing.unknown) == 2


def test_only_launches_that_were_estimated_in_the_same_way_count(small: Plan) -> None:
    history = [replace(record(20.0, 10.0), is_learned=learned) for learned in (True, False, False)]
    for is_learned, count in ((True, 1), (False, 2)):
        speed = replace(SPEED, is_learned=is_learned)
        other = replace(speed, step=0.1, is_learned=not is_learned)
        speeds = {speed_key(of(small, "ref")): speed, speed_key(of(small, "other")): other}
        found = estimate(small, speeds, 1, history)
        assert found.is_learned is is_learned
        assert found.wall == widen(found.raw, 0.0, history[:1] * count)


def test_the_spread_counts_by_time(small: Plan) -> None:
    quick, slow = Speed(step=1.0, spread=0.4), Speed(step=2.0, spread=0.1)
    found = estimate(small, {speed_key(of(small, "ref")): quick, speed_key(of(small, "other")): slow}, 1)
    assert found.wall == widen(found.raw, (4 * 168 * 0.4 + 2 * 336 * 0.1) / (4 * 168 + 2 * 336))


def test_the_longest_comes_first_and_the_unknown_before(small: Plan) -> None:
    speeds = {speed_key(of(small, "ref")): SPEED, speed_key(of(small, "other")): Speed(step=9.0)}
    slow = {cell.fingerprint for cell in small.cells if cell.variant == "other"}
    assert set(list(longest_first(small, speeds).trials)[:2]) == slow
    del speeds[speed_key(of(small, "ref"))]
    assert set(list(longest_first(small, speeds).trials)[-2:]) == slow
    ordered = longest_first(small, speeds)
    assert (ordered.trials, ordered.cells) == (small.trials, small.cells)


def test_the_order_of_a_launch_is_no_worse(plan: Planner) -> None:
    found = plan("backbones", "aggregation", preset="small")
    speeds = {speed_key(node): Speed(step=0.1 * (1 + index), image=0.001) for index, node in enumerate(found.nodes)}
    plain, ordered = (estimate(p, speeds, 4).raw for p in (found, longest_first(found, speeds)))
    assert ordered < plain


def test_a_record_survives_being_written() -> None:
    first = Record("a", 12.5, ("one", "two"), 7, 2, Range(1.0, 2.0, 3.0), 2.5, 1.9)
    assert Record.from_mapping(first.as_mapping()) == first
    assert first.ratio == 1.25
    unknown = Record("a", 12.5, (), 7, 2, None, 2.5)
    assert Record.from_mapping(unknown.as_mapping()) == unknown
    assert math.isnan(unknown.ratio)
    assert math.isnan(record(3.0, 2.0, is_whole=False).ratio)


@pytest.mark.parametrize(
    "change",
    [
        {"began": "never"},
        {"actual": -1.0},
        {"actual": math.inf},
        {"estimated": [1.0]},
        {"estimated": [0.0, math.nan, 1.0]},
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        Record.from_mapping({**record(1.0, 1.0).as_mapping(), **change})


def test_the_plan_of_everything_is_estimated_at_once() -> None:
    request = Request(get_preset("paper"))
    found = make_plan([get_study(name, request.base()) for name in ("kernels", "resolution", "backbones")], request)
    speeds = {speed_key(node): SPEED for node in found.nodes}
    assert estimate(found, speeds, 8).is_complete
