"""What runs on another machine: text in, a state folder out, and a sentence if that folder is not there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ablations.errors import DispatchError
from runners.dispatch import remote
from runners.workers.task import Task
from tests.runners.bench import Bench


def test_a_task_survives_its_way_as_text(bench: Bench) -> None:
    task = Task(bench.root, "c0ffee", "cuda", 2, ("one", "two"), 5.0, devices=2, gpus=(0, 3))
    assert Task.from_arguments(task.as_arguments()) == task


def test_a_node_is_run_from_its_text(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Task] = []
    monkeypatch.setattr(remote, "run_node", ran.append)
    task = Task(bench.root, bench.trial().fingerprint, "cpu")
    remote.run_remotely(*task.as_arguments())
    assert ran == [task]


def test_a_folder_that_is_not_shared_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DispatchError, match=r"does not see .*must be on a file system that all nodes share"):
        remote.check_visible(tmp_path / "node.json", patience=0.3)


def test_a_file_may_take_its_time_to_appear(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    threading.Timer(0.3, path.touch).start()
    remote.check_visible(path, patience=30)
