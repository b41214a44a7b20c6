"""Measurements: what counts for which load, what is kept, other machines, and what finished nodes tell."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ablations import vocabulary as names
from ablations.launches import Range, Record
from ablations.planning.nodes import CostNode, Node, ProposedNode
from ablations.planning.optimisation import Optimisation
from ablations.spec.fingerprint import cost_fingerprint
from ablations.spec.parts import Intervention
from runners import hardware
from runners.estimates.estimate import Speed, seconds_of, speed_key
from runners.estimates.measurements import Load, Measurements, learn
from runners.hardware import Machine
from runners.state.nodes import NodeState
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench

HERE = Machine("host", "a CPU", 4, (), "1/4/compiled")
LOAD = Load("cpu", 2, 1)


SPEED = Speed(step_seconds=1.0, setup_seconds=1.0)


def store(
    tmp_path: Path, *steps: float, source: str = "learned", load: Load = LOAD, machine: Machine = HERE
) -> Measurements:
    """Add measurements of the work `k`, one with each number of seconds per step."""
    measurements = Measurements(tmp_path, machine)
    measurements.add(source, [("k", load, Speed(step_seconds=step, setup_seconds=step)) for step in steps])
    return measurements


def read(tmp_path: Path, load: Load = LOAD, machine: Machine = HERE) -> Speed:
    speed = Measurements(tmp_path, machine).speed("k", load)
    assert speed is not None
    return speed


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    store(tmp_path, 2.0)
    assert read(tmp_path) == Speed(step_seconds=2.0, setup_seconds=2.0, is_learned=True)
    launch = Record("l", 1.0, ("s",), 3, 2, Range(1, 2, 3), 2.5, 2.0)
    Measurements(tmp_path, HERE).add(parameters={"n": 7}, launch=launch)
    assert Measurements(tmp_path, HERE).launches == [launch]
    assert Measurements(tmp_path, HERE).content.parameters == {"n": 7}


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    speed = {"step": 0.5, "image": 0.1, "setup": 2.0, "evaluation_image": None, "spread": 0.2, "memory": 9}
    speed |= {"gpu_memory": 8, "weights": 7, "is_learned": False}
    load = {"device": "cpu", "workers": 2, "threads": 1}
    about = {"source": "calibrated", "time": 1.5, "version": HERE.version, "host": HERE.host, "parameters": 5}
    measurement = {**about, "network": "n", "load": load, "speed": speed}
    file = Measurements(tmp_path, HERE).file
    file.parent.mkdir()
    machine = {"host": "host", "cpu": "a CPU", "cores": 4, "gpus": [], "version": HERE.version}
    file.write_text(json.dumps({"machine": machine, "measurements": {"k": [measurement]}, "launches": []}))
    assert read(tmp_path) == Speed(
        step_seconds=0.5,
        setup_seconds=2.0,
        memory_bytes=9,
        gpu_memory_bytes=8,
        weights_bytes=7,
        spread=pytest.approx(math.hypot(0.2, 0.1)),
    )


def test_nothing_is_written_before_there_is_something_to_keep(tmp_path: Path) -> None:
    assert Measurements(tmp_path / "runs", HERE).speed("k", LOAD) is None
    Measurements(tmp_path / "runs", HERE).add("calibrated")
    assert list(tmp_path.iterdir()) == []


def test_whole_trainings_count_before_a_few_steps(tmp_path: Path) -> None:
    store(tmp_path, 1.0, source="calibrated")
    store(tmp_path, 3.0, 4.0, 8.0)
    assert read(tmp_path).step_seconds == 4.0


def test_a_few_steps_alone_are_less_sure(tmp_path: Path) -> None:
    store(tmp_path, 1.0, math.e, source="calibrated")
    speed = read(tmp_path)
    # Of 1 and e, the logarithms 0 and 1 have a standard deviation of 1/√2.
    assert speed.spread == pytest.approx(math.hypot(math.sqrt(0.5), 0.1))
    assert not speed.is_learned
    assert speed.step_seconds == pytest.approx((1 + math.e) / 2)


def test_another_version_or_device_tells_nothing(tmp_path: Path) -> None:
    store(tmp_path, 1.0)
    assert Measurements(tmp_path, replace(HERE, version="0/4/compiled")).speed("k", LOAD) is None
    assert Measurements(tmp_path, HERE).speed("k", Load("an H100", 2, 1)) is None
    store(tmp_path / "other", 1.0, load=Load("an H100", 2, 1))
    assert Measurements(tmp_path / "other", HERE).speed("k", LOAD) is None


@pytest.mark.parametrize(("workers", "crowding"), [(1, 1.0), (4, 1.0), (8, 2.0), (16, 4.0)])
def test_more_tasks_than_cores_are_slower(tmp_path: Path, workers: int, crowding: float) -> None:
    store(tmp_path, 1.0)
    speed = read(tmp_path, Load("cpu", workers, 1))
    assert (speed.step_seconds, speed.setup_seconds) == (crowding, crowding)
    assert speed.spread == pytest.approx(0.15)


def test_a_gpu_is_not_crowded_by_cores(tmp_path: Path) -> None:
    store(tmp_path, 1.0, load=Load("an H100", 2, 1))
    assert read(tmp_path, Load("an H100", 8, 1)).step_seconds == 1.0


def test_the_load_that_is_most_alike_counts(tmp_path: Path) -> None:
    for workers, step in {1: 1.0, 2: 2.0, 4: 4.0}.items():
        store(tmp_path, step, load=Load("cpu", workers, 1))
    for workers, step in {1: 1.0, 2: 2.0, 3: 4.0, 4: 4.0}.items():
        assert read(tmp_path, Load("cpu", workers, 1)).step_seconds == step


def test_what_only_some_have_looked_at_is_taken_from_those(tmp_path: Path) -> None:
    measurements = Measurements(tmp_path, HERE)
    timed = Speed(step_seconds=1.0, setup_seconds=0.5, weights_bytes=8, memory_bytes=5)
    measurements.add("calibrated", [("k", LOAD, timed)])
    measurements.add("learned", [("k", LOAD, Speed(evaluation_image_seconds=0.2, memory_bytes=9))])
    assert read(tmp_path) == replace(timed, evaluation_image_seconds=0.2, memory_bytes=9, spread=0.1)


def test_setup_counts_once_where_whole_trainings_include_it(tmp_path: Path) -> None:
    store(tmp_path, 5.0, source="calibrated")
    Measurements(tmp_path, HERE).add("learned", [("k", LOAD, Speed(step_seconds=1.0))])
    assert read(tmp_path) == Speed(step_seconds=1.0, is_learned=True)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    measurements = store(tmp_path, *map(float, range(1, 40)))
    content = json.loads(measurements.file.read_text())["measurements"]["k"]
    assert [one["speed"]["step"] for one in content] == list(range(16, 40))


def test_those_of_another_version_are_dropped(tmp_path: Path) -> None:
    store(tmp_path, 1.0, machine=replace(HERE, version="other"))
    measurements = store(tmp_path, 2.0)
    (one,) = json.loads(measurements.file.read_text())["measurements"]["k"]
    assert one["version"] == HERE.version


def test_two_processes_add_to_the_same(tmp_path: Path) -> None:
    one, other = Measurements(tmp_path, HERE), Measurements(tmp_path, HERE)
    one.add("learned", [("a", LOAD, SPEED)])
    other.add("learned", [("b", LOAD, SPEED)], launch=Record("l", 1.0, (), 1, 1, None, 1.0))
    both = Measurements(tmp_path, HERE)
    assert None not in (both.speed("a", LOAD), both.speed("b", LOAD))


@pytest.mark.parametrize(
    "damage", ["", "no JSON", "[]", "{}", '{"measurements": 3}', '{"measurements": {"k": [3]}, "launches": [{}]}']
)
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path, damage: str) -> None:
    measurements = store(tmp_path, 1.0)
    measurements.file.write_text(damage)
    assert Measurements(tmp_path, HERE).speed("k", LOAD) is None
    store(tmp_path, 3.0)
    assert read(tmp_path).step_seconds == 3.0


@pytest.mark.parametrize("number", [-1.0, 1e30, math.nan, math.inf])
def test_a_time_that_cannot_be_is_damage(tmp_path: Path, number: float) -> None:
    measurements = store(tmp_path, 1.0)
    content = json.loads(measurements.file.read_text())
    content["measurements"]["k"][0]["speed"]["step"] = number
    measurements.file.write_text(json.dumps(content))
    assert Measurements(tmp_path, HERE).speed("k", LOAD) is None


def test_what_a_later_version_has_added_is_passed_over(tmp_path: Path) -> None:
    measurements = store(tmp_path, 1.0)
    content = json.loads(measurements.file.read_text())
    content["measurements"]["k"][0]["colour"] = "red"
    measurements.file.write_text(json.dumps(content))
    assert read(tmp_path).step_seconds == 1.0


def test_a_machine_that_is_just_like_it_is_the_next_best(tmp_path: Path) -> None:
    twin = replace(HERE, host="twin")
    store(tmp_path, 2.0)
    speed = read(tmp_path, machine=twin)
    assert (speed.step_seconds, speed.spread) == (2.0, 0.15)
    store(tmp_path, 3.0, machine=twin)
    assert read(tmp_path, machine=twin).step_seconds == 3.0
    assert read(tmp_path).step_seconds == 2.0


@pytest.mark.parametrize("change", [{"cpu": "another"}, {"cores": 8}, {"gpus": ("an H100",)}, {"version": "2/4/torch"}])
def test_a_machine_that_is_not_like_it_is_not(tmp_path: Path, change: dict[str, object]) -> None:
    store(tmp_path, 1.0)
    other = replace(HERE, **{"host": "other", **change})  # type: ignore[arg-type]
    assert Measurements(tmp_path, other).speed("k", LOAD) is None


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    speed = store(blocked, 2.0).speed("k", LOAD)
    assert speed is not None
    assert speed.step_seconds == 2.0


@pytest.mark.parametrize(
    ("gpus", "seen", "asked", "device"),
    [
        ((), (), "auto", "cpu"),
        (("an H100", "an A100"), (), "auto", "an H100"),
        (("an H100", "an A100"), (), "cuda:1", "an A100"),
        (("an H100",), (), "cuda:7", "an H100"),
        (("an H100",), (), "cpu", "cpu"),
        # torch was built without it.
        (("an H100",), ("cpu",), "auto", "cpu"),
        (("an H100",), ("cpu",), "cuda", "an H100"),
        (("an H100",), ("cpu", "an H100"), "auto", "an H100"),
    ],
)
def test_the_device_that_is_meant(
    tmp_path: Path, gpus: tuple[str, ...], seen: tuple[str, ...], asked: str, device: str
) -> None:
    measurements = Measurements(tmp_path, replace(HERE, gpus=gpus))
    measurements.add("learned", [("k", Load(name, 1, 1), SPEED) for name in seen])
    assert measurements.device(asked) == device


def finish(bench: Bench, node: Node, seconds: float, **more: object) -> NodeState:
    state = bench.states[node.fingerprint]
    state.describe(node)
    state.finish({"test/top1": 1.0}, seconds, **{"micro_batch": node.spec.train.batch_size, **more})
    return state


def test_a_training_by_hand(bench: Bench) -> None:
    # Eight steps of ten images, 20 validation images after each epoch and 30 test images at the end: 70 / 40 steps.
    node = bench.trial()
    speed = learn(node, finish(bench, node, 20.0, peak_memory=123, peak_gpu_memory=45))
    assert speed is not None
    assert speed.step_seconds == pytest.approx(20 / 9.75)
    assert (speed.memory_bytes, speed.gpu_memory_bytes) == (123, 45)
    assert seconds_of(node, speed) == pytest.approx(20.0)
    # Another training with the same work.
    longer = bench.trial(train__epochs=20)
    assert speed_key(longer) == speed_key(node)
    assert seconds_of(longer, speed) == pytest.approx(20.0 * (80 + 430 / 40) / 9.75)


def test_a_training_in_smaller_parts_or_with_proposed_values_tells_nothing(bench: Bench) -> None:
    node = bench.trial()
    assert learn(node, finish(bench, node, 20.0, micro_batch=5)) is None
    other = bench.trial(seed=1)
    proposed = ProposedNode(other.fingerprint, other.spec, Optimisation("tuning", "group", other.spec, {}, {}, {}), 0)
    assert learn(proposed, finish(bench, other, 20.0)) is None


def test_an_evaluation_tells_its_time_per_image(bench: Bench) -> None:
    trial = bench.trial()
    node = bench.evaluation(trial, Intervention(aggregation="average"))
    speed = learn(node, finish(bench, node, 6.0, peak_memory=9))
    assert speed == Speed(evaluation_image_seconds=0.2, memory_bytes=9)
    assert speed_key(node) == speed_key(trial)


def test_a_count_tells_all_of_its_time(bench: Bench) -> None:
    spec = bench.trial().spec
    node = CostNode(cost_fingerprint(spec), spec)
    state = bench.states[node.fingerprint]
    state.describe(node)
    state.finish({names.COST_PARAMETERS: 1234.0}, 3.0)
    assert learn(node, state) == Speed(setup_seconds=3.0)


def test_a_real_training_takes_what_it_has_taken(bench: Bench) -> None:
    node = bench.trial()
    assert run_node(Task(bench.root, node.fingerprint, device="cpu", launch="l")) == "finished"
    state = bench.states[node.fingerprint]
    result, speed = state.result(), learn(node, state)
    assert result is not None
    assert speed is not None
    assert 50e6 < result["peak_memory"] < hardware.memory_bytes()  # type: ignore[operator]
    assert seconds_of(node, speed) == pytest.approx(result["seconds"])
    assert speed.weights_bytes == state.weights_file.stat().st_size
