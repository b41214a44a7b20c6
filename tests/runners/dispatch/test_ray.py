"""Ray, made up on one node: the suite of all dispatchers, and what the dispatcher asks of Ray."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import DispatchError, OptionError
from runners.dispatch import Dispatcher, DispatchSettings, make_dispatcher, settings
from runners.workers.task import Task
from tests.runners.conformance import WORKERS, Conformance
from tests.runners.fake_ray import Node, fake_ray


@contextmanager
def ray(**options: Any) -> Iterator[tuple[Dispatcher, Node]]:
    """A dispatcher on a made-up node that it starts."""
    with pytest.MonkeyPatch.context() as patch, fake_ray() as made_up:
        patch.setattr(settings, "_EXTRAS", {})
        with make_dispatcher(DispatchSettings("ray", **options)) as dispatcher:
            yield dispatcher, made_up


@contextmanager
def cluster(node: dict[str, float], **options: Any) -> Iterator[tuple[Dispatcher, Node]]:
    """A dispatcher on a made-up node that is there already."""
    with (
        socket.create_server(("127.0.0.1", 0)) as head,
        pytest.MonkeyPatch.context() as patch,
        fake_ray(**node) as made_up,
    ):
        patch.setattr(settings, "_EXTRAS", {})
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with make_dispatcher(DispatchSettings("ray", ray_address=address, **options)) as dispatcher:
            yield dispatcher, made_up


class TestRay(Conformance):
    """On a made-up node with more room than the user wants to use."""

    @classmethod
    @contextmanager
    def make(cls) -> Iterator[Dispatcher]:
        with cluster({"CPU": 4}, workers=WORKERS) as (dispatcher, _):
            yield dispatcher


@pytest.mark.parametrize(
    ("node", "options", "devices", "wanted"),
    [
        ({"CPU": 8}, {}, 1, (1, 0, "cpu", 8)),
        ({"CPU": 8}, {"threads": 3}, 2, (6, 0, "cpu", 2)),
        ({"CPU": 8, "GPU": 2}, {}, 1, (1, 1, "cuda", 2)),
        ({"CPU": 8, "GPU": 2}, {"trials_per_gpu": 3}, 1, (1, 1 / 3, "cuda", 6)),
        ({"CPU": 8, "GPU": 2}, {"trials_per_gpu": 10}, 1, (1, 0.1, "cuda", 8)),
        ({"CPU": 8, "GPU": 2}, {"trials_per_gpu": 3}, 2, (2, 2, "cuda", 6)),
        ({"CPU": 8, "GPU": 2}, {"device": "cpu"}, 1, (1, 0, "cpu", 8)),
        ({"CPU": 8, "GPU": 2}, {"device": "cuda", "workers": 5}, 1, (1, 1, "cuda", 5)),
    ],
)
def test_a_task_asks_for_its_cores_and_its_share_of_a_gpu(
    tmp_path: Path, node: dict[str, float], options: dict[str, Any], devices: int, wanted: tuple[float, float, str, int]
) -> None:
    cpus, gpus, device, capacity = wanted
    with cluster(node, **options) as (dispatcher, made_up):
        assert dispatcher.capacity == capacity
        dispatcher.submit(Task(tmp_path, "c0ffee", devices=devices))
        assert (made_up.asked[-1]["num_cpus"], made_up.asked[-1]["num_gpus"]) == pytest.approx((cpus, gpus))
        (text,) = made_up.tasks[-1].arguments
        assert Task.from_arguments([text]).device == device


@pytest.mark.parametrize(
    ("node", "options", "devices", "told"),
    [
        ({"CPU": 2}, {}, 3, "3 CPU"),
        ({"CPU": 8, "GPU": 2}, {}, 3, "3 CPU, 3 GPU"),
        ({"CPU": 8}, {"device": "cuda", "trials_per_gpu": 2}, 1, "1 CPU, 0.5 GPU"),
    ],
)
def test_what_no_node_offers_is_said_before_anything_starts(
    tmp_path: Path, node: dict[str, float], options: dict[str, Any], devices: int, told: str
) -> None:
    with (
        cluster(node, **options) as (dispatcher, _),
        pytest.raises(OptionError, match=f"offers what a training needs: {told}"),
    ):
        dispatcher.check(tmp_path, devices)


def test_a_cluster_of_ones_own_is_quiet_local_and_without_a_dashboard() -> None:
    with ray(workers=3, threads=2, device="cpu") as (_, made_up):
        asked = made_up.init
    assert (asked["address"], asked["num_cpus"], asked["num_gpus"]) == ("local", 6, 0)
    assert (asked["include_dashboard"], asked["log_to_driver"]) == (False, False)


def test_a_cluster_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(DispatchError, match=r"no Ray cluster answers at 127\.0\.0\.1:9: "):
        ray(ray_address="127.0.0.1:9").__enter__()


def test_what_ray_says_of_a_cluster_that_it_cannot_use_is_a_sentence() -> None:
    with pytest.raises(DispatchError, match=r"Ray on auto cannot be used: Could not find any running Ray instance\.$"):
        ray(ray_address="auto").__enter__()
