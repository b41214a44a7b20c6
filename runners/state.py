"""The state folder of each node: what it is, how far it came, how it ended. The disk is the truth; MLflow follows it.

A launcher writes `node.json` and submits the fingerprint; a worker reads it, appends to `events.jsonl`, replaces
`progress.json` and ends with `result.json` or `failure.json`. No torch and no mlflow here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.errors import DatasetError, OutputError
from ablations.planning import CostNode, EvaluationNode, Node, TrialNode
from ablations.spec import Intervention, TrialSpec
from runners.files import read_json, write_json


@dataclass(frozen=True)
class NodeState:
    """The folder of one node."""

    folder: Path

    @property
    def fingerprint(self) -> str:
        """The node's fingerprint, which is the folder's name."""
        return self.folder.name

    @property
    def log_file(self) -> Path:
        """Where a failed attempt leaves its traceback."""
        return self.folder / "log.txt"

    @property
    def weights_file(self) -> Path:
        """The trained weights."""
        return self.folder / "model.safetensors"

    @property
    def is_done(self) -> bool:
        """Whether the node has been measured."""
        return (self.folder / "result.json").exists()

    def describe(self, node: Node) -> None:
        """Writes what the node is, for the worker that will run it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about: dict[str, Any] = {"kind": node.kind, "fingerprint": node.fingerprint, "title": node.title}
        about["spec"] = node.spec.model_dump(mode="json", by_alias=True)
        about["data_digest"] = node.spec.data.facts.digest
        if isinstance(node, EvaluationNode):
            about["trial"] = node.trial.fingerprint
            about["intervention"] = node.intervention.model_dump(mode="json", by_alias=True)
        write_json(self.folder / "node.json", about)

    def node(self) -> Node:
        """Returns the node described in this folder.

        Raises:
            OutputError: If nothing is described here.
            DatasetError: If the data are no longer those that were planned with.
        """
        about = read_json(self.folder / "node.json")
        if about is None:
            raise OutputError(f"{self.folder} describes no node. Run the study again.")
        spec = TrialSpec.model_validate(about["spec"])
        if about["data_digest"] != spec.data.facts.digest:
            raise DatasetError(
                f"the files in {spec.data.root} have changed since this was planned, and so has its fingerprint. "
                "Run the study again."
            )
        if about["kind"] == "evaluation":
            intervention = Intervention.model_validate(about["intervention"])
            return EvaluationNode(about["fingerprint"], TrialNode(about["trial"], spec), intervention)
        return (TrialNode if about["kind"] == "trial" else CostNode)(about["fingerprint"], spec)

    def append_event(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line of metrics, flushed to the disk."""
        line = json.dumps({"step": step, "time": int(time.time() * 1000), "metrics": metrics}, sort_keys=True)
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> list[dict[str, Any]]:
        """Returns the complete lines of metrics so far, in order."""
        try:
            text = (self.folder / "events.jsonl").read_text(encoding="utf-8")
        except OSError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def truncate_events(self, after_step: int) -> None:
        """Drops the metrics of steps after `after_step`: a resumed training will write the same ones again."""
        kept = [event for event in self.events() if event["step"] <= after_step]
        text = "".join(json.dumps(event, sort_keys=True) + "\n" for event in kept)
        path = self.folder / "events.jsonl"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

    def report_progress(self, **values: Any) -> None:
        """Replaces what a display shows of the running node; not flushed, because losing it costs nothing."""
        path = self.folder / "progress.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({**values, "updated": time.time()}), encoding="utf-8")
        temporary.replace(path)

    def progress(self) -> dict[str, Any]:
        """Returns what the running node last reported."""
        return read_json(self.folder / "progress.json") or {}

    def finish(self, metrics: dict[str, float], seconds: float, **more: Any) -> None:
        """Writes the result; from then on the node is done."""
        (self.folder / "failure.json").unlink(missing_ok=True)
        write_json(self.folder / "result.json", {"metrics": metrics, "seconds": seconds, "time": time.time(), **more})

    def result(self) -> dict[str, Any] | None:
        """Returns the result, or `None` if there is none yet."""
        found: dict[str, Any] | None = read_json(self.folder / "result.json")
        return found

    def fail(self, kind: str, message: str, details: str) -> None:
        """Writes why the node failed, as far as the disk lets it; `details` (a traceback) go to the log file."""
        failure = {"kind": kind, "message": message, "time": time.time()}
        # On a full disk the failure is that nothing can be written; it must not end the launch too.
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.note(f"{kind}: {message}\n{details}")
        with suppress(OutputError):
            write_json(self.folder / "failure.json", failure)

    def note(self, message: str) -> None:
        """Adds a line to the log file."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}\n")

    def failure(self) -> dict[str, Any] | None:
        """Returns why the last attempt failed, or `None`."""
        found: dict[str, Any] | None = read_json(self.folder / "failure.json")
        return found


@dataclass(frozen=True)
class StateStore:
    """All state folders, one per fingerprint."""

    root: Path

    def __getitem__(self, fingerprint: str) -> NodeState:
        return NodeState(self.root / fingerprint)

    def done(self, fingerprints: Iterable[str]) -> frozenset[str]:
        """Returns those of the fingerprints whose nodes have been measured."""
        return frozenset(fingerprint for fingerprint in fingerprints if self[fingerprint].is_done)
