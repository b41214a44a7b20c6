"""What is known of a machine: what counts for which load, what is kept, what damaged files and other machines do."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.launches import Range, Record
from runners.estimates.estimate import Speed
from runners.estimates.measurements import Experience, Load, Measurement
from runners.hardware import Machine

HERE = Machine("host", "a CPU", 4, (), "1/4/compiled")
LOAD = Load("cpu", 2, 1)


def measured(
    step: float = 1.0, source: str = "learned", time: float = 1.0, load: Load = LOAD, **more: object
) -> Measurement:
    one = Measurement(source, time, HERE.version, load, HERE.host, Speed(step=step, image=step / 100, setup=step))
    return replace(one, **more)  # type: ignore[arg-type]


def known(tmp_path: Path, *found: Measurement, machine: Machine = HERE, load: Load = LOAD) -> Speed | None:
    Experience(tmp_path, HERE).add({"k": found})
    return Experience(tmp_path, machine).speeds(["k"], load).get("k")


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    assert known(tmp_path, measured(2.0)) == Speed(step=2.0, image=0.02, setup=2.0, is_learned=True)
    launch = Record("l", 1.0, ("s",), 3, 2, Range(1, 2, 3), 2.5, 2.0)
    Experience(tmp_path, HERE).add({}, launch)
    assert Experience(tmp_path, HERE).launches == (launch,)


def test_nothing_is_written_before_there_is_something_to_keep(tmp_path: Path) -> None:
    assert Experience(tmp_path / "runs", HERE).speeds(["k"], LOAD) == {}
    Experience(tmp_path / "runs", HERE).add({})
    assert list(tmp_path.iterdir()) == []


def test_whole_trainings_count_before_a_few_steps(tmp_path: Path) -> None:
    speed = known(tmp_path, measured(1.0, "calibrated"), measured(3.0), measured(4.0), measured(8.0))
    assert speed is not None
    assert speed.step == 4.0


def test_a_few_steps_alone_are_less_sure(tmp_path: Path) -> None:
    speed = known(tmp_path, measured(1.0, "calibrated"), measured(math.e, "calibrated"))
    assert speed is not None
    # Of 1 and e, the logarithms 0 and 1 have a standard deviation of 1/√2.
    assert speed.spread == pytest.approx(math.hypot(math.sqrt(0.5), 0.1))
    assert not speed.is_learned
    assert speed.step == pytest.approx((1 + math.e) / 2)


@pytest.mark.parametrize(
    ("change", "load"),
    [
        ({"version": "0/4/compiled"}, LOAD),
        ({"load": Load("an H100", 2, 1)}, LOAD),
        ({}, Load("an H100", 2, 1)),
    ],
)
def test_another_version_or_device_tells_nothing(tmp_path: Path, change: dict[str, object], load: Load) -> None:
    assert known(tmp_path, measured(**change), load=load) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("workers", "crowding"), [(1, 1.0), (4, 1.0), (8, 2.0), (16, 4.0)])
def test_more_tasks_than_cores_are_slower(tmp_path: Path, workers: int, crowding: float) -> None:
    speed = known(tmp_path, measured(1.0), load=Load("cpu", workers, 1))
    assert speed is not None
    assert (speed.step, speed.image, speed.setup) == (crowding, crowding / 100, crowding)
    assert speed.spread == pytest.approx(0.15)


def test_a_gpu_is_not_crowded_by_cores(tmp_path: Path) -> None:
    speed = known(tmp_path, measured(1.0, load=Load("an H100", 2, 1)), load=Load("an H100", 8, 1))
    assert speed is not None
    assert speed.step == 1.0


def test_the_load_that_is_most_alike_counts(tmp_path: Path) -> None:
    loads = {1: 1.0, 2: 2.0, 4: 4.0}
    found = [measured(step, load=Load("cpu", workers, 1)) for workers, step in loads.items()]
    for workers, step in {1: 1.0, 2: 2.0, 3: 4.0, 4: 4.0}.items():
        speed = known(tmp_path, *found, load=Load("cpu", workers, 1))
        assert speed is not None
        assert speed.step == step


def test_what_only_some_have_looked_at_is_taken_from_those(tmp_path: Path) -> None:
    calibrated = measured(1.0, "calibrated", speed=Speed(step=1.0, image=0.5, weights=8, memory=5))
    evaluated = measured(speed=Speed(evaluation_image=0.2, memory=9))
    assert known(tmp_path, calibrated, evaluated) == Speed(
        step=1.0, image=0.5, evaluation_image=0.2, weights=8, memory=9
    )


def test_the_newest_of_each_kind_are_kept(tmp_path: Path) -> None:
    store = Experience(tmp_path, HERE)
    store.add({"k": [measured(time=float(n), source=s) for n in range(40) for s in ("learned", "calibrated")]})
    store.add({"k": [measured(5.0, version="other")]})
    content = json.loads(store.file.read_text())["measurements"]["k"]
    assert sorted({one["time"] for one in content}) == [float(n) for n in range(28, 40)]
    assert len(content) == 24


def test_what_was_added_last_is_the_newest_whatever_the_clock_said(tmp_path: Path) -> None:
    store = Experience(tmp_path, HERE)
    for number in range(20):
        store.add({"k": [measured(step=float(number), time=1e9 - number)]})
    content = json.loads(store.file.read_text())["measurements"]["k"]
    assert [one["speed"]["step"] for one in content] == [float(number) for number in range(8, 20)]


def test_two_processes_add_to_the_same(tmp_path: Path) -> None:
    one, other = Experience(tmp_path, HERE), Experience(tmp_path, HERE)
    one.add({"a": [measured()]})
    other.add({"b": [measured()]}, Record("l", 1.0, (), 1, 1, None, 1.0))
    assert set(Experience(tmp_path, HERE).speeds("ab", LOAD)) == {"a", "b"}


@pytest.mark.parametrize(
    "damage", ["", "no JSON", "[]", "{}", '{"measurements": 3}', '{"measurements": {"k": [3]}, "launches": [{}]}']
)
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path, damage: str) -> None:
    store = Experience(tmp_path, HERE)
    store.add({"k": [measured()]})
    store.file.write_text(damage)
    assert Experience(tmp_path, HERE).speeds(["k"], LOAD) == {}
    assert known(tmp_path, measured(3.0)) is not None


def test_what_a_later_version_has_added_is_passed_over(tmp_path: Path) -> None:
    store = Experience(tmp_path, HERE)
    store.add({"k": [measured()]})
    content = json.loads(store.file.read_text())
    content["measurements"]["k"][0]["colour"] = "red"
    store.file.write_text(json.dumps(content))
    assert "k" in Experience(tmp_path, HERE).speeds(["k"], LOAD)


def test_a_machine_that_is_just_like_it_is_the_next_best(tmp_path: Path) -> None:
    twin = replace(HERE, host="twin")
    speed = known(tmp_path, measured(2.0), machine=twin)
    assert speed is not None
    assert (speed.step, speed.spread) == (2.0, 0.15)
    Experience(tmp_path, twin).add({"k": [measured(3.0, host="twin")]})
    assert Experience(tmp_path, twin).speeds(["k"], LOAD)["k"].step == 3.0
    assert Experience(tmp_path, HERE).speeds(["k"], LOAD)["k"].step == 2.0


@pytest.mark.parametrize("change", [{"cpu": "another"}, {"cores": 8}, {"gpus": ("an H100",)}, {"version": "2/4/torch"}])
def test_a_machine_that_is_not_like_it_is_not(tmp_path: Path, change: dict[str, object]) -> None:
    assert known(tmp_path, measured(), machine=replace(HERE, **change)) is None  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    store = Experience(blocked, HERE)
    store.add({"k": [measured(2.0)]})
    assert store.speeds(["k"], LOAD)["k"].step == 2.0


def test_parameters_are_known_by_network_whoever_counted_them(tmp_path: Path) -> None:
    store = Experience(tmp_path, HERE)
    store.add({"k": [measured(parameters=7, network="n")], "j": [measured(parameters=0, network="m")]})
    assert Experience(tmp_path, HERE).parameters() == {"n": 7}
    assert Experience(tmp_path, replace(HERE, host="twin")).parameters() == {"n": 7}


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
    store = Experience(tmp_path, replace(HERE, gpus=gpus))
    store.add({name: [measured(load=Load(name, 1, 1))] for name in seen})
    assert store.device(asked) == device


def test_a_measurement_survives_being_written(tmp_path: Path) -> None:
    one = measured(2.0, parameters=5, network="n")
    store = Experience(tmp_path, HERE)
    store.add({"k": [one]})
    assert Experience(tmp_path, HERE)._measured == {"k": [one]}
