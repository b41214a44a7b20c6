"""Estimates: schedules against hand answers and a clock that ticks, ranges, needs and words by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.launches import Range, Record, duration, range_words
from ablations.planning.nodes import EvaluationNode, Node, TrialNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.trial import resolve
from ablations.study import Study, Variant
from runners.estimates.estimate import (
    PlanEstimate,
    Speed,
    count_images,
    estimate,
    estimate_lines,
    makespan,
    seconds_of,
    size,
    speed_key,
    widen,
    work_steps,
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


Jobs = tuple[dict[str, float], dict[str, str]]


def jobs(*seconds: float, after: dict[int, int] | None = None) -> Jobs:
    """Return the seconds of jobs by name, and the job that each waits for."""
    behind = {str(job): str(first) for job, first in (after or {}).items()}
    return {str(index): length for index, length in enumerate(seconds)}, behind


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
    assert makespan(*jobs(*seconds, after=after), workers) == end


def ticking(seconds: dict[str, float], after: dict[str, str], workers: int) -> int:
    """The same by a clock: each tick, idle workers take the first job that is ready."""
    queue = [job for job in seconds if after.get(job) not in seconds]
    left: dict[str, int] = {}
    now = 0
    while queue or left:
        while queue and len(left) < workers:
            job = queue.pop(0)
            left[job] = int(seconds[job])
        now += 1
        ended = [job for job in left if left[job] == 1]
        left = {job: rest - 1 for job, rest in left.items() if rest > 1}
        for first in ended:
            queue += [job for job in seconds if after.get(job) == first]
    return now


@given(
    st.lists(st.integers(1, 9), max_size=9),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 8)), max_size=9),
    st.integers(1, 5),
)
def test_a_schedule_is_that_of_a_ticking_clock(
    trainings: list[int], evaluations: list[tuple[int, int]], workers: int
) -> None:
    seconds = {f"t{i}": float(length) for i, length in enumerate(trainings)}
    seconds |= {f"e{i}": float(length) for i, (length, _) in enumerate(evaluations)}
    after = {f"e{i}": f"t{trial}" for i, (_, trial) in enumerate(evaluations)}
    assert makespan(seconds, after, workers) == ticking(seconds, after, workers)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20), st.integers(1, 6))
def test_a_schedule_is_within_grahams_bound(seconds: list[float], workers: int) -> None:
    end, total, longest = makespan(*jobs(*seconds), workers), math.fsum(seconds), max(seconds)
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


SPEED = Speed(step_seconds=0.5, setup_seconds=2.0, memory_bytes=100, gpu_memory_bytes=7, weights_bytes=1_000_000)
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


def spread_out(plan: Plan, speeds: dict[str, Speed]) -> dict[str, Speed]:
    """Return the speeds of the nodes of a plan, from those of some variants."""
    by_key = {speed_key(of(plan, variant)): speed for variant, speed in speeds.items()}
    return {node.fingerprint: by_key[speed_key(node)] for node in plan.nodes if speed_key(node) in by_key}


def test_what_a_training_takes_by_hand(small: Plan) -> None:
    node = of(small, "ref")
    # Four images that are measured count as one that is trained on.
    steps = 3 * 56 + (3 * 200 + 300) / (4 * 64)
    assert work_steps(node) == steps
    assert seconds_of(node, SPEED) == 2.0 + steps * 0.5
    assert seconds_of(node, Speed(setup_seconds=1.0)) is None
    assert seconds_of(node, None) is None


def test_what_an_evaluation_takes_by_hand(plan: Planner) -> None:
    node = next(iter(plan("aggregation", overrides={"data.test_images": 300}).evaluations.values()))
    batch = node.spec.train.batch_size
    assert seconds_of(node, SPEED) == 2.0 + 300 / (4 * batch) * 0.5
    assert seconds_of(node, Speed(step_seconds=1.0, evaluation_image_seconds=0.1)) == pytest.approx(30.0)
    assert seconds_of(node, Speed(setup_seconds=1.0)) is None


def test_what_a_count_takes_is_all_in_one(plan: Planner) -> None:
    node = next(iter(plan("cost").costs.values()))
    assert (seconds_of(node, SPEED), seconds_of(node, Speed())) == (2.0, None)
    assert work_steps(node) == 0


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
    assert all(speed_key(node) == speed_key(node.network) for node in found.evaluations.values())
    assert estimate(found, {}, 2).unknown_titles == ["DY-MobileNetV2 ×0.35 depth 0.5 K=4 on fashion_mnist_mini"]


def test_an_estimate_by_hand(small: Plan) -> None:
    speeds = spread_out(small, {"ref": SPEED, "other": Speed(step_seconds=1.0, memory_bytes=300)})
    found = estimate(small, speeds, workers=2)
    steps = work_steps(of(small, "ref"))
    fast, slow = 2 + steps * 0.5, steps
    # Two seeds of each: fast fast slow slow fast fast.
    assert found.raw_seconds == fast + slow + fast
    assert found.wall_seconds == widen(found.raw_seconds, 0.0)
    assert found.seconds_by_kind["trainings"] == found.shared_seconds == found.unshared_seconds == 4 * fast + 2 * slow
    assert found.seconds_by_kind == {"trainings": found.shared_seconds, "evaluations": 0.0, "counts": 0.0}
    assert found.unknown == {}
    assert found.memory_bytes == 600
    assert found.gpu_memory_bytes == 7
    assert found.disk_bytes == 2 * 4_000_000 + 4 * 2_000_000 + 6 * 100_000


def test_what_is_done_takes_nothing_and_still_counts_as_shared() -> None:
    fresh = built_in("aggregation", "temperature")
    speeds = {node.fingerprint: Speed(step_seconds=1.0, evaluation_image_seconds=0.01) for node in fresh.nodes}
    done = built_in("aggregation", "temperature", done={node.fingerprint for node in fresh.nodes})
    one, other = estimate(fresh, speeds, 2), estimate(done, speeds, 2)
    assert (other.raw_seconds, other.memory_bytes, other.disk_bytes) == (0.0, 0, 0)
    assert other.wall_seconds == Range(0.0, 0.0, 0.0)
    assert (one.shared_seconds, one.unshared_seconds) == (other.shared_seconds, other.unshared_seconds)
    # Four epochs of 8,000 images in batches of 64, a second each; six trainings and eight evaluations per seed.
    spec = next(iter(fresh.trials.values())).spec
    images = 4 * count_images(spec, "validation") + count_images(spec, "test")
    training, evaluation = 500.0 + images / 256, 3000 * 0.01
    cells = [fresh.node(cell.fingerprint) for cell in fresh.cells]
    evaluated = sum(isinstance(node, EvaluationNode) for node in cells)
    assert one.shared_seconds == pytest.approx(18 * training + 24 * evaluation)
    assert one.unshared_seconds == pytest.approx(len(cells) * training + evaluated * evaluation)


def test_what_is_tried_again_counts_alone() -> None:
    whole = built_in("aggregation")
    one = next(iter(whole.trials))
    part = replace(whole, trials={one: whole.trials[one]}, evaluations={})
    found = estimate(part, {node.fingerprint: Speed(step_seconds=1.0) for node in whole.nodes}, 2)
    assert found.raw_seconds == found.shared_seconds == found.unshared_seconds == work_steps(whole.trials[one])


def test_what_is_unknown_is_named_once_and_left_out(small: Plan) -> None:
    known = estimate(small, spread_out(small, {"ref": SPEED}), 1)
    assert not known.is_complete
    assert known.unknown_titles == ["DY-MobileNetV2 ×0.35 depth 0.5 K=2 on fashion_mnist_mini"]
    assert known.raw_seconds == 4 * (2.0 + work_steps(of(small, "ref")) * 0.5)
    nothing = estimate(small, {}, 1)
    assert nothing.wall_seconds is None
    assert len(nothing.unknown) == 2


def test_only_launches_that_were_estimated_in_the_same_way_count(small: Plan) -> None:
    history = [replace(record(20.0, 10.0), is_learned=learned) for learned in (True, False, False)]
    for is_learned, count in ((True, 1), (False, 2)):
        speed = replace(SPEED, is_learned=is_learned)
        other = replace(speed, step_seconds=0.1, is_learned=not is_learned)
        found = estimate(small, spread_out(small, {"ref": speed, "other": other}), 1, history)
        assert found.is_learned is is_learned
        assert found.wall_seconds == widen(found.raw_seconds, 0.0, history[:1] * count)


def test_the_spread_counts_by_time(small: Plan) -> None:
    quick, slow = Speed(step_seconds=1.0, spread=0.4), Speed(step_seconds=2.0, spread=0.1)
    found = estimate(small, spread_out(small, {"ref": quick, "other": slow}), 1)
    assert found.wall_seconds is not None
    spread = (4 * 1 * 0.4 + 2 * 2 * 0.1) / (4 * 1 + 2 * 2)
    assert found.wall_seconds.high == pytest.approx(widen(found.raw_seconds, spread).high)


def test_a_record_survives_being_written() -> None:
    first = Record("a", 12.5, ("one", "two"), 7, 2, Range(1.0, 2.0, 3.0), 2.5, 1.9)
    assert Record.from_mapping(first.as_mapping()) == first
    assert first.ratio == 1.25
    unknown = Record("a", 12.5, (), 7, 2, None, 2.5)
    assert Record.from_mapping(unknown.as_mapping()) == unknown
    assert math.isnan(unknown.ratio)
    assert math.isnan(record(3.0, 2.0, is_whole=False).ratio)
    counted = replace(first, energy=3.6e6, energy_of="processors")
    assert Record.from_mapping(counted.as_mapping()) == counted
    # Records of machines that do not tell their energy stay as earlier versions wrote them.
    assert not first.as_mapping().keys() & {"energy", "energy_of"}


@pytest.mark.parametrize("energy", [-1.0, math.nan, math.inf])
def test_a_record_with_an_energy_that_cannot_be_is_none(energy: float) -> None:
    values = Record("a", 12.5, (), 7, 2, None, 2.5, energy=1.0, energy_of="GPUs").as_mapping()
    with pytest.raises(ValueError, match="an energy that cannot be"):
        Record.from_mapping({**values, "energy": energy})


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
    assert estimate(found, {node.fingerprint: SPEED for node in found.nodes}, 8).is_complete


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (45.2, "45 s"), (99.4, "99 s"),
        (99.6, "2 min"), (600, "10 min"), (5960, "99 min"), (6000, "1 h 40 min"), (7200, "2 h"), (7190, "2 h"),
        (12_300, "3 h 20 min"), (35_400, "9 h 50 min"), (36_000, "10 h"), (86_400, "24 h"), (800_000, "9 days"),
    ],
)  # fmt: skip
def test_durations_by_hand(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_range_in_words() -> None:
    assert range_words(Range(540, 720, 960)) == "12 min (9 min to 16 min)"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 kB"), (999_400, "999 kB"), (999_600, "1 MB"), (350e6, "350 MB"), (1_240_000_000, "1.2 GB")],
)
def test_sizes_by_hand(count: int, words: str) -> None:
    assert size(int(count)) == words


KNOWN = PlanEstimate(
    wall_seconds=Range(540, 720, 960),
    raw_seconds=700.0,
    is_learned=True,
    seconds_by_kind={"trainings": 1200.0, "evaluations": 90.0, "counts": 0.0},
    shared_seconds=1290.0,
    unshared_seconds=5400.0,
    unknown={},
    memory_bytes=1_100_000_000,
    gpu_memory_bytes=0,
    disk_bytes=60_000_000,
    workers=2,
)


def lines(estimate: PlanEstimate, memory: int | None = 8_000_000_000, free: int | None = 40_000_000_000) -> list[str]:
    return list(estimate_lines(estimate, memory, free))


def test_an_estimate_in_words() -> None:
    assert lines(KNOWN) == [
        "Time: 12 min (9 min to 16 min) with 2 workers; of computing, trainings 20 min, evaluations 90 s.",
        "Sharing: 22 min of computing for the whole plan, where one training per table row and seed would take 90 min.",
        "Needs: memory up to 1.1 GB of 8.0 GB, disk about 60 MB of 40.0 GB free.",
    ]


def test_what_is_not_known_is_not_told() -> None:
    assert lines(KNOWN, None, None)[-1] == "Needs: memory up to 1.1 GB, disk about 60 MB."
    alone = replace(KNOWN, unshared_seconds=1290.0, workers=1, gpu_memory_bytes=3_000_000_000)
    assert lines(alone)[0].startswith("Time: 12 min (9 min to 16 min) with 1 worker; ")
    assert "of a GPU up to 3.0 GB per worker" in lines(alone)[1]


def unknown(count: int) -> dict[str, Node]:
    """Return nodes of networks that differ in their number of kernels, by key."""
    specs = [resolve([{"model.num_kernels": kernels}], {}, 0) for kernels in range(2, 2 + count)]
    return {str(index): TrialNode(str(index), spec) for index, spec in enumerate(specs)}


def test_nothing_known_says_how_to_know() -> None:
    (line,) = lines(replace(KNOWN, wall_seconds=None, unknown=unknown(5)))
    assert "cannot be told yet: 5 networks" in line
    titles = [f"DY-MobileNetV2 ×0.35 depth 0.5 K={count} on fashion_mnist_mini" for count in (2, 3, 4)]
    assert f"({'; '.join(titles)} and 2 more)" in line
    assert "plan --calibrate" in line


def test_half_known_is_a_lower_bound() -> None:
    first, second, *_ = lines(replace(KNOWN, unknown=unknown(1)))
    assert first.startswith("Time: at least 12 min")
    assert "for the rest: 1 networks" in second


def test_nothing_to_do_needs_nothing() -> None:
    idle = replace(KNOWN, wall_seconds=Range(0, 0, 0), seconds_by_kind={})
    assert [line.partition(":")[0] for line in lines(idle)] == ["Sharing"]


@pytest.mark.parametrize(
    ("memory", "workers", "advice"),
    [
        (2_000_000_000, 2, None),
        (1_200_000_000, 2, "--workers 1"),
        (1_100_000_000, 1, "micro_batch"),
        (2_000_000, 4, "--workers 1"),
    ],
)
def test_workers_that_do_not_fit_are_warned_of(memory: int, workers: int, advice: str | None) -> None:
    found = [line for line in lines(replace(KNOWN, workers=workers), memory) if line.startswith("Warning")]
    assert [advice in line for line in found if advice] == ([True] if advice else [])
    assert bool(found) is bool(advice)


def test_a_full_disk_is_warned_of() -> None:
    assert lines(KNOWN, free=50_000_000)[-1] == "Warning: about 60 MB will be written, and 50 MB are free."
