"""Machines that share a tracking server and no folder: each a folder of runs, worked in through the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

from ablations import vocabulary as names
from runners.state.nodes import NodeState, StateStore

ROOT = Path(__file__).resolve().parent.parent.parent
STUDY = """\
name: tiny
question: Does a network survive its server?
reference: dynamic
seeds: 2
baseline:
  train.epochs: {epochs}
  data.train_images: 64
  data.validation_images: 20
  data.test_images: 20
  model.depth: 0.25
variants:
  dynamic: {{}}
  averaged: {{intervention: {{aggregation: average}}}}
  maximal: {{intervention: {{aggregation: max}}}}
  static: {{model.layer: static}}
"""
TRAININGS, EVALUATIONS = 4, 4
NODES = TRAININGS + EVALUATIONS


class Machine:
    """A folder of runs and the launches in it.

    Args:
        folder: Where everything of this machine is.
        uri: The tracking server.
        epochs: How long each training is; one takes about a tenth of a second.
    """

    def __init__(self, folder: Path, uri: str, epochs: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.uri, self.runs, self.study = uri, folder / "runs", folder / "tiny.yaml"
        self.study.write_text(STUDY.format(epochs=epochs))
        self.states = StateStore(self.runs / "state")
        self._started: list[subprocess.Popen[str]] = []

    def start(self, verb: str, *options: str) -> subprocess.Popen[str]:
        """Starts a verb."""
        command = [sys.executable, str(ROOT / "run_ablation.py"), verb]
        if verb in ("run", "report"):
            command += [str(self.study), "--preset", "smoke", "--format", "md"]
        process = subprocess.Popen(
            [*command, "--runs-dir", str(self.runs), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "MLFLOW_TRACKING_URI": self.uri},
        )
        self._started.append(process)
        return process

    def call(self, verb: str, *options: str) -> tuple[int, str]:
        """Runs a verb to its end; returns its exit code and what it said."""
        return end(self.start(verb, *options))

    def kill(self) -> None:
        """Kills all that runs here with SIGKILL, workers first as they might outlive their launch."""
        while self._started:
            process = self._started.pop()
            if process.returncode is not None:
                continue
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGKILL)
                for child in children:
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
            process.communicate()

    def nodes(self) -> list[NodeState]:
        """Returns all nodes that were planned here."""
        return [self.states[fingerprint] for fingerprint in self.states.fingerprints()]

    def done(self) -> list[NodeState]:
        """Returns the nodes that have a result here, whoever measured it."""
        return [state for state in self.nodes() if state.is_done]

    def report(self) -> str:
        """Returns the report that was written here."""
        return (self.runs / "reports" / "tiny-smoke.md").read_text(encoding="utf-8")


def end(process: subprocess.Popen[str], seconds: float = 1000.0) -> tuple[int, str]:
    """Waits for a process; returns its exit code and what it said."""
    output, _ = process.communicate(timeout=seconds)
    assert "Traceback" not in output, output
    return process.returncode, output


def tracked(uri: str) -> list[Any]:
    """Returns the runs of all nodes in a store."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    if experiment is None:
        return []
    return [run for run in client.search_runs([experiment.experiment_id]) if names.TAG_FINGERPRINT in run.data.tags]


def assert_complete(uri: str, epochs: int = 2) -> None:
    """Each node has one run, finished, and each training each epoch once."""
    runs, client = tracked(uri), MlflowClient(tracking_uri=uri)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert Counter(run.data.tags[names.TAG_KIND] for run in finished) == {
        "trial": TRAININGS,
        "evaluation": EVALUATIONS,
    }
    assert len({run.data.tags[names.TAG_FINGERPRINT] for run in runs}) == NODES
    assert "RUNNING" not in {run.info.status for run in runs}
    trials = {run.info.run_id for run in finished if run.data.tags[names.TAG_KIND] == "trial"}
    for run in finished:
        if run.info.run_id in trials:
            for name in ("train/loss", "val/top1"):
                steps = [metric.step for metric in client.get_metric_history(run.info.run_id, name)]
                assert sorted(steps) == list(range(1, epochs + 1))
        else:
            assert run.data.tags[names.TAG_PARENT] in trials
        assert len(client.get_metric_history(run.info.run_id, "test/top1")) == 1


def attempts_by_node(machines: Sequence[Machine]) -> Counter[str]:
    """Returns how often each node was begun, on all machines together."""
    return Counter(state.fingerprint for machine in machines for state in machine.nodes() for _ in state.attempts())


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 1000.0) -> None:
    """Polls until `condition` holds while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
