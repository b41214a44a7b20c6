"""Who runs where, on machines with made-up numbers of GPUs and cores."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.errors import OptionError
from runners.dispatch.slots import Slots, is_device, make_slots, usable_gpus


def _slots(gpus: int = 0, workers: int | None = None, per_gpu: int = 1, cores: int = 64, threads: int = 1) -> Slots:
    return make_slots(tuple(range(gpus)), workers=workers, trials_per_gpu=per_gpu, cores=cores, threads=threads)


@pytest.mark.parametrize(
    ("slots", "devices"),
    [
        (_slots(cores=4), (None,) * 4),
        (_slots(cores=4, workers=2), (None,) * 2),
        (_slots(cores=2, workers=6), (None,) * 6),
        (_slots(cores=7, threads=2), (None,) * 3),
        (_slots(cores=8, workers=2, threads=4), (None,) * 2),
        (_slots(gpus=1), (0,)),
        (_slots(gpus=2, per_gpu=2), (0, 1, 0, 1)),
        (_slots(gpus=2, per_gpu=2, workers=3), (0, 1, 0)),
        (_slots(gpus=3, workers=2), (0, 1)),
        (_slots(gpus=2, per_gpu=2, cores=6, threads=2), (0, 1, 0)),
        (make_slots((5,), workers=None, trials_per_gpu=3, cores=8, threads=1), (5, 5, 5)),
    ],
)
def test_each_slot_has_its_device(slots: Slots, devices: tuple[int | None, ...]) -> None:
    assert slots.devices == devices


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpus": 2, "workers": 3}, "--workers 3 is more than 2 GPUs with 1 trials each take"),
        ({"gpus": 2, "workers": 7, "per_gpu": 3}, "--trials-per-gpu"),
        ({"cores": 4, "workers": 3, "threads": 2}, "--workers 3 with --threads 2 needs 6 cores, and there are 4"),
        ({"cores": 4, "threads": 5}, "needs 5 cores"),
    ],
)
def test_more_than_there_is_room_for_is_refused(asked: dict[str, int], words: str) -> None:
    with pytest.raises(OptionError) as refused:
        _slots(**asked)
    assert words in str(refused.value)


def test_the_least_busy_gpu_comes_first() -> None:
    slots = _slots(gpus=2, per_gpu=2)
    assert slots.choose(frozenset()) == (0,)
    assert slots.choose({0}) == (1,)
    assert slots.choose({0, 1}) == (2,)
    assert slots.choose({0, 2}) == (1,)
    assert slots.choose({0, 1, 2}) == (3,)
    assert slots.choose({0, 1, 2, 3}) is None


def test_a_training_on_several_devices_gets_gpus_that_are_not_the_same() -> None:
    slots = _slots(gpus=3, per_gpu=2)
    assert slots.choose({0, 3}, count=2) == (1, 2), "both slots of the first GPU are taken"
    assert slots.choose({0, 3}, count=3) is None
    assert slots.most_devices == 3
    assert _slots(cores=4).choose({1}, count=3) == (0, 2, 3)
    assert _slots(cores=4).choose({1}, count=4) is None
    assert _slots(cores=4).most_devices == 4


@given(
    gpus=st.integers(0, 8),
    per_gpu=st.integers(1, 4),
    cores=st.integers(1, 16),
    wanted=st.lists(st.integers(1, 4), max_size=40),
    ends=st.randoms(use_true_random=False),
)
def test_nothing_is_ever_given_twice(gpus: int, per_gpu: int, cores: int, wanted: list[int], ends: object) -> None:
    slots = _slots(gpus=gpus, per_gpu=per_gpu, cores=cores)
    under_way: list[tuple[int, ...]] = []
    for devices in wanted:
        busy = {slot for chosen in under_way for slot in chosen}
        chosen = slots.choose(busy, devices)
        if chosen is None:
            free = [slots.devices[slot] for slot in range(len(slots.devices)) if slot not in busy]
            assert (len(set(free)) if slots.has_gpus else len(free)) < devices, "there was room"
            if under_way:
                under_way.pop(ends.randrange(len(under_way)))  # type: ignore[attr-defined]
            continue
        assert len(set(chosen)) == devices
        assert not busy & set(chosen)
        under_way.append(chosen)
        load = Counter(slots.devices[slot] for taken in under_way for slot in taken)
        if slots.has_gpus:
            assert max(load.values()) <= per_gpu
            assert len({slots.devices[slot] for slot in chosen}) == devices
        else:
            assert load[None] <= cores


@pytest.mark.parametrize(
    ("device", "count", "gpus"),
    [("cpu", 4, ()), ("auto", 0, ()), ("auto", 2, (0, 1)), ("cuda", 2, (0, 1)), ("cuda:1", 2, (1,))],
)
def test_the_gpus_that_may_be_used(device: str, count: int, gpus: tuple[int, ...]) -> None:
    assert usable_gpus(device, count) == gpus


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_said(device: str, count: int) -> None:
    with pytest.raises(OptionError, match="torch finds"):
        usable_gpus(device, count)


def test_names_of_devices() -> None:
    assert all(is_device(name) for name in ("cpu", "auto", "cuda", "cuda:0", "cuda:12"))
    assert not any(is_device(name) for name in ("gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "", "cuda:0,1"))
