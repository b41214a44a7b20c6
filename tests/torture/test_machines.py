"""Machines without a common folder share results through one MLflow server with PostgreSQL: each node is run once."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from runners.provenance import Commit
from runners.sync.tracking_worker import TrackingWorker
from runners.tracking import Tracker, prepare_store
from runners.tracking.sync_notes import unsynced
from tests.runners.bench import Bench
from tests.torture.clusters import local_ray
from tests.torture.machines import (
    EVALUATIONS,
    TRAININGS,
    Machine,
    assert_complete,
    attempts_by_node,
    end,
    tracked,
    wait_for,
)
from tests.torture.servers import MlflowServer, mlflow_server, postgresql

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

EPOCHS = 20
WRITERS, LINES = 16, 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server on a PostgreSQL of its own."""
    # Not below `tmp_path`, which only its owner may enter: PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="dyconv-postgresql-"))
    try:
        folder.chmod(0o755)
        with postgresql(folder) as database, mlflow_server(tmp_path / "server", database) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def machines(server: MlflowServer, tmp_path: Path) -> Iterator[list[Machine]]:
    """Three machines."""
    made = [Machine(tmp_path / name, server.uri, EPOCHS) for name in ("one", "two", "three")]
    yield made
    for machine in made:
        machine.kill()


def test_two_machines_at_once_run_each_node_once_and_a_third_makes_the_report(
    server: MlflowServer, machines: list[Machine]
) -> None:
    one, two, three = machines
    for code, said in [end(run) for run in [machine.start("run", "--workers", "1") for machine in (one, two)]]:
        assert code == 0, said
    assert_complete(server.uri, EPOCHS)
    assert attempts_by_node([one, two]) == dict.fromkeys((state.fingerprint for state in one.nodes()), 1)
    assert all(any(state.attempts() for state in machine.nodes()) for machine in (one, two)), "both had work"
    for state in one.nodes():
        assert repr(state.result()) == repr(two.states[state.fingerprint].result())
        assert state.events() == two.states[state.fingerprint].events()
    assert unsynced(one.states, server.uri) == unsynced(two.states, server.uri) == {}
    for machine in (one, three):
        code, said = machine.call("report")
        assert code == 0, said
    assert three.report() == one.report()
    assert "n=" not in three.report()
    assert not three.nodes()


def test_a_study_on_two_ray_nodes_is_told_from_the_server_alone(server: MlflowServer, machines: list[Machine]) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    one, _, three = machines
    with local_ray(nodes=2, cpus=1) as cluster:
        code, said = end(one.start("run", "--dispatch", "ray", "--ray-address", cluster.address, "--device", "cpu"))
    assert code == 0, said
    assert_complete(server.uri, EPOCHS)
    expected = one.report()
    shutil.rmtree(one.runs)
    code, said = three.call("report")
    assert code == 0, said
    assert three.report() == expected
    assert not three.nodes()


def test_what_one_machine_has_trained_another_evaluates(server: MlflowServer, machines: list[Machine]) -> None:
    one, two, _ = machines
    whole = one.study.read_text()
    one.study.write_text("".join(line for line in whole.splitlines(keepends=True) if "maximal" not in line))
    assert end(one.start("run"))[0] == 0
    code, said = end(two.start("run"))
    assert code == 0, said
    assert f"took over from the tracking store: {TRAININGS + EVALUATIONS // 2} results" in said
    begun = [state.node().kind for state in two.nodes() for _ in state.attempts()]
    assert begun == ["evaluation"] * (EVALUATIONS // 2)
    assert_complete(server.uri, EPOCHS)


def test_what_a_dead_machine_has_left_is_taken_over_and_not_left_running(
    server: MlflowServer, machines: list[Machine]
) -> None:
    one, two, _ = machines
    run = one.start("run", "--workers", "2")
    wait_for(lambda: len(one.done()) >= 1 and any(r.info.status == "RUNNING" for r in tracked(server.uri)), run)
    one.kill()
    left = [state for state in one.nodes() if state.attempts() and not state.is_done]
    code, said = end(two.start("run", "--workers", "2"))
    assert code == 0, said
    assert_complete(server.uri, EPOCHS)
    assert left, "it was killed too late"
    assert all(len(two.states[state.fingerprint].attempts()) == 1 for state in left)
    # It comes back, and finds everything done.
    code, said = end(one.start("run"))
    assert code == 0, said
    assert_complete(server.uri, EPOCHS)
    assert {len(one.states[state.fingerprint].attempts()) for state in left} == {1}


def _write(uri: str, folder: str, number: int) -> None:
    prepare_store(uri)
    bench = Bench(Path(folder) / str(number))
    tracker = Tracker(uri, "writers", Path(folder), commit=Commit("c0ffee", False), preset="smoke")
    # Half of the nodes are those of a neighbour, too.
    nodes = [bench.trial(seed=number // 2), bench.trial(seed=100 + number)]
    with TrackingWorker(tracker.source, tracker) as tracking:
        for node in nodes:
            tracking.begin(node, bench.states[node.fingerprint], {"study": ["v"]})
        for step in range(1, LINES + 1):
            for node in nodes:
                bench.states[node.fingerprint].append_event(step, {"train/loss": 1.0 / step, "val/top1": float(step)})
        for node in nodes:
            bench.states[node.fingerprint].finish({"test/top1": 1.0}, 1.0)
            tracking.finish(bench.states[node.fingerprint])
    assert tracking.trouble is None, tracking.trouble
    assert unsynced(bench.states, uri) == {}


@pytest.mark.parametrize("shared", [True, False], ids=["server with PostgreSQL", "SQLite file"])
def test_sixteen_writers_lose_nothing_and_write_nothing_twice(
    request: pytest.FixtureRequest, tmp_path: Path, shared: bool
) -> None:
    uri = request.getfixturevalue("server").uri if shared else f"sqlite:///{tmp_path}/mlflow.db"
    prepare_store(uri)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "runners.sync.tracking_worker"])
    writers = [context.Process(target=_write, args=(uri, str(tmp_path / "w"), number)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(600)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("writers")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert len({run.data.tags[names.TAG_FINGERPRINT] for run in finished}) == WRITERS + WRITERS // 2
    assert "RUNNING" not in {run.info.status for run in runs}
    for run in finished:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
        assert sorted(steps) == list(range(1, LINES + 1))
