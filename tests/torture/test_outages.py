"""A tracking server that is killed, hangs, refuses or answers with errors in the middle of a study: nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.tracking.sync_notes import unsynced
from tests.torture.machines import NODES, Machine, assert_complete, attempts_by_node, end, tracked, wait_for
from tests.torture.servers import MlflowServer, Mode, door, mlflow_server

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

EPOCHS = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server on SQLite."""
    with mlflow_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def machine(server: MlflowServer, tmp_path: Path) -> Iterator[Machine]:
    """A machine that tracks to the server."""
    made = Machine(tmp_path / "machine", server.uri, EPOCHS)
    yield made
    made.kill()


def test_a_server_that_is_killed_and_stays_away(server: MlflowServer, machine: Machine) -> None:
    run = machine.start("run", "--workers", "2")
    wait_for(lambda: len(machine.done()) >= 2, run)
    server.kill()
    code, said = end(run)
    assert code == 3, said
    assert "is away" in said
    assert "run_ablation.py sync" in said
    assert "No report" in said
    assert len(machine.done()) == NODES, "the trainings went on"
    assert unsynced(machine.states, server.uri)
    code, said = machine.call("sync")
    assert (code, "does not answer" in said) == (2, True)
    server.start()
    assert "RUNNING" in {run.info.status for run in tracked(server.uri)}
    code, said = machine.call("sync")
    assert code == 0, said
    assert unsynced(machine.states, server.uri) == {}
    assert_complete(server.uri, EPOCHS)
    code, said = machine.call("sync")
    assert (code, f"0 runs brought over (0 lines), {NODES} were there" in said) == (0, True), said
    assert machine.call("report")[0] == 0
    assert "n=" not in machine.report()
    assert set(attempts_by_node([machine]).values()) == {1}


def test_a_server_that_is_killed_and_comes_back_while_the_study_goes_on(server: MlflowServer, machine: Machine) -> None:
    run = machine.start("run", "--workers", "2")
    for done in (1, 3, 5):
        wait_for(lambda done=done: len(machine.done()) >= done, run)
        server.kill()
        server.start()
    code, said = end(run)
    assert code == 0, said
    assert_complete(server.uri, EPOCHS)
    assert "n=" not in machine.report()
    assert set(attempts_by_node([machine]).values()) == {1}


@pytest.mark.parametrize("mode", ["refuse", "error", "hang"])
def test_a_server_that_misbehaves_for_a_while(server: MlflowServer, tmp_path: Path, mode: Mode) -> None:
    with door(server.port) as entrance:
        machine = Machine(tmp_path / "machine", entrance.uri, EPOCHS)
        run = machine.start("run", "--workers", "2")
        wait_for(lambda: len(machine.done()) >= 2, run)
        entrance.set(mode)
        wait_for(lambda: len(machine.done()) >= 5, run)
        entrance.set("open")
        code, said = end(run)
        assert code == 0, said
        assert_complete(entrance.uri, EPOCHS)
        assert set(attempts_by_node([machine]).values()) == {1}


@pytest.mark.parametrize("mode", ["refuse", "error", "hang"])
def test_a_server_that_misbehaves_to_the_end_holds_nobody_up(server: MlflowServer, tmp_path: Path, mode: Mode) -> None:
    with door(server.port) as entrance:
        machine = Machine(tmp_path / "machine", entrance.uri, EPOCHS)
        run = machine.start("run", "--workers", "2")
        wait_for(lambda: len(machine.done()) >= 1, run)
        entrance.set(mode)
        wait_for(lambda: len(machine.done()) == NODES, run)
        finished = time.monotonic()
        code, said = end(run)
        assert code == 3, said
        assert time.monotonic() - finished < 60
        entrance.set("open")
        # The same command brings the rest over, too, and makes the report.
        code, said = machine.call("run")
        assert code == 0, said
        assert_complete(entrance.uri, EPOCHS)
        assert "n=" not in machine.report()


@pytest.mark.parametrize("mode", ["refuse", "error", "hang"])
def test_a_server_that_misbehaves_at_the_start_is_a_sentence_that_tells_of_offline(
    server: MlflowServer, tmp_path: Path, mode: Mode
) -> None:
    with door(server.port) as entrance:
        machine = Machine(tmp_path / "machine", entrance.uri)
        entrance.set(mode)
        asked = time.monotonic()
        code, said = machine.call("run")
        assert (code, "--offline" in said) == (2, True), said
        assert time.monotonic() - asked < 60
        assert not machine.done()
        code, said = machine.call("run", "--offline")
        assert code == 0, said
        assert "run_ablation.py sync" in said
        assert len(machine.done()) == NODES
        entrance.set("open")
        code, said = machine.call("sync", "tiny")
        assert (code, f"{NODES} runs brought over" in said) == (0, True), said
        assert_complete(entrance.uri)
        assert machine.call("report")[0] == 0
        assert "n=" not in machine.report()


def test_a_launcher_and_its_server_killed_together(server: MlflowServer, machine: Machine) -> None:
    run = machine.start("run", "--workers", "2")
    wait_for(lambda: len(machine.done()) >= 2, run)
    server.kill()
    machine.kill()
    server.start()
    code, said = machine.call("run")
    assert code == 0, said
    assert_complete(server.uri, EPOCHS)
