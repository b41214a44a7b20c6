"""Tasks on a real Ray, started for it or of several nodes: the suite of all dispatchers, lost nodes, whole studies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed")

from ablations.errors import DispatchError, OptionError
from runners.dispatch import Completion, Dispatcher, DispatchSettings, make_dispatcher
from tests.runners.conformance import (
    HANGS_ONCE,
    WORKERS,
    Conformance,
    Work,
    collect,
    runs_of,
    state_of,
    wait_until,
)
from tests.torture.clusters import local_ray
from tests.torture.studies import assert_same_results, run_study, start_study

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]


class TestLocalRay(Conformance):
    """On a cluster that is started for it."""

    @classmethod
    def make(cls) -> Dispatcher:
        return make_dispatcher(DispatchSettings("ray", workers=WORKERS, device="cpu"))


class TestRayCluster(Conformance):
    """On two nodes with more room than the user wants to use."""

    @classmethod
    @contextmanager
    def make(cls) -> Iterator[Dispatcher]:
        with (
            local_ray(nodes=2, cpus=WORKERS) as cluster,
            make_dispatcher(DispatchSettings("ray", workers=WORKERS, ray_address=cluster.address)) as dispatcher,
        ):
            yield dispatcher


def test_a_lost_node_costs_only_its_own_tasks_and_they_can_be_submitted_again(work: Work) -> None:
    with local_ray(nodes=2, cpus=1) as cluster:
        lost = next(iter(cluster.worker_nodes))
        with make_dispatcher(DispatchSettings("ray", ray_address=cluster.address)) as dispatcher:
            assert dispatcher.capacity == 2
            tasks = [work.submit(dispatcher, HANGS_ONCE) for _ in range(2)]
            wait_until(lambda: dispatcher.wait(0.1) == [] and all(runs_of(task) for task in tasks))
            cluster.remove_node(lost, allow_graceful=False)
            (ended,) = collect(dispatcher, 1)
            assert "lost" in (ended.crash or "")
            wait_until(lambda: dispatcher.capacity == 1)
            dispatcher.submit(ended.task)
            cluster.add_node(num_cpus=1)
            assert collect(dispatcher, 1) == [Completion(ended.task)]
            assert state_of(ended.task).is_done


def test_what_no_node_can_give_is_said_before_anything_starts(work: Work) -> None:
    with (
        local_ray(nodes=1, cpus=2) as cluster,
        make_dispatcher(DispatchSettings("ray", ray_address=cluster.address, threads=3)) as dispatcher,
        pytest.raises(OptionError, match="offers what a training needs: 3 CPU"),
    ):
        dispatcher.check(work.bench.root, devices=1)


def test_a_cluster_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(DispatchError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        make_dispatcher(DispatchSettings("ray", ray_address="127.0.0.1:9")).__enter__()


def test_a_study_measures_on_ray_what_it_measures_inline(tmp_path: Path) -> None:
    run_study(tmp_path / "inline", "--dispatch", "inline")
    told = run_study(tmp_path / "ray", "--dispatch", "ray", "--workers", "2")
    assert_same_results(tmp_path / "inline", tmp_path / "ray")
    assert "ray::" not in told
    assert "INFO" not in told


def test_a_study_survives_the_loss_of_a_node(tmp_path: Path) -> None:
    run_study(tmp_path / "inline", "--dispatch", "inline", epochs=30)
    with local_ray(nodes=2, cpus=1) as cluster:
        launcher = start_study(tmp_path / "ray", "--dispatch", "ray", "--ray-address", cluster.address, epochs=30)
        wait_until(lambda: len(list((tmp_path / "ray").glob("state/*/events.jsonl"))) == 2)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        output, errors = launcher.communicate(timeout=1000)
    assert launcher.returncode == 0, output + errors
    assert "retrying" in output
    assert "the node of the Ray worker was lost" in output
    assert_same_results(tmp_path / "inline", tmp_path / "ray")


def test_an_interrupted_launcher_leaves_nothing_running(tmp_path: Path) -> None:
    launcher = start_study(tmp_path, "--dispatch", "ray", "--workers", "2", epochs=2000)
    wait_until(lambda: len(list(tmp_path.glob("state/*/events.jsonl"))) == 2)
    started = psutil.Process(launcher.pid).children(recursive=True)
    assert len(started) > 3
    launcher.send_signal(signal.SIGINT)
    output, errors = launcher.communicate(timeout=600)
    assert launcher.returncode == 130, output + errors
    assert "Traceback" not in errors
    wait_until(lambda: not any(process.is_running() for process in started))
