"""The state folder of each node: what it is, how far it came, how it ended. The disk is the truth; MLflow follows it.

A launcher writes `node.json` and submits the fingerprint; a worker reads it, begins an attempt (`runners.leases`),
appends to `events.jsonl`, replaces `progress.json` and ends with `result.json` or `failure.json`. What is done anew has
its earlier folder kept aside until then. No torch and no mlflow here.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.errors import DatasetError, OutputError
from ablations.factors import Factor, plain
from ablations.planning import CostNode, EvaluationNode, Node, ProposedNode, TrialNode
from ablations.spec import SPEC_VERSION, Intervention, TrialSpec
from runners import leases
from runners.files import read_json, write_atomically, write_json, write_json_once
from runners.leases import Attempt

_WRITTEN_BY_WORKERS = (
    "progress.json",
    "events.jsonl",
    "model.safetensors",
    names.ATTENTION_FILE,
    names.CORRECTNESS_FILE,
    "proposal.json",
    "result.json",
)

ASIDE = ".aside"
"""Where folders of nodes that are done anew are kept, in the state root."""


def about(node: Node) -> dict[str, Any]:
    """Returns all that makes a node what it is, as JSON."""
    told: dict[str, Any] = {"kind": node.kind, "fingerprint": node.fingerprint, "title": node.title}
    told["spec"] = node.spec.model_dump(mode="json", by_alias=True)
    told["spec_version"] = SPEC_VERSION
    told["data_digest"] = node.spec.data.facts.digest
    if isinstance(node, EvaluationNode):
        told["trial"] = node.trial.fingerprint
        told["intervention"] = node.intervention.model_dump(mode="json", by_alias=True)
    if isinstance(node, ProposedNode):
        told |= _described(node)
    return told


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
        write_json(self.folder / "node.json", {**about(node), "title": self.title(node)})

    def about(self) -> dict[str, Any] | None:
        """Returns what `describe` wrote, `None` if it did not; folders of earlier versions lack `spec_version`."""
        found = read_json(self.folder / "node.json")
        return found if isinstance(found, dict) else None

    @property
    def kind(self) -> str:
        """`trial`, `evaluation` or `cost`; empty if nothing is described here."""
        return str((read_json(self.folder / "node.json") or {}).get("kind", ""))

    def node(self) -> Node:
        """Returns the node described in this folder.

        Raises:
            OutputError: If nothing is described here.
            DatasetError: If the data are no longer those that were planned with.
        """
        about = self.about()
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
        if about["kind"] in ("tuning", "search"):
            return _proposed(about, spec)
        return (TrialNode if about["kind"] == "trial" else CostNode)(about["fingerprint"], spec)

    def note_proposal(self, **values: Any) -> None:
        """Writes `values` of the factors that were proposed for this node, or how its training ended (`outcome`)."""
        write_json(self.folder / "proposal.json", {**(self.proposal() or {}), **values})

    def proposal(self) -> dict[str, Any] | None:
        """Returns what was proposed for this node, or `None` while nothing has been."""
        found: dict[str, Any] | None = read_json(self.folder / "proposal.json")
        return found

    def training(self, node: Node) -> TrialSpec:
        """Returns what is trained for a node: with what was proposed, once that is known."""
        proposal = self.proposal() if isinstance(node, ProposedNode) else None
        if isinstance(node, ProposedNode) and proposal is not None:
            return node.with_values(proposal["values"])
        return node.spec

    def title(self, node: Node) -> str:
        """Return the name of a node for people: with what was proposed, once that is known."""
        proposal = self.proposal() if isinstance(node, ProposedNode) else None
        if isinstance(node, ProposedNode) and proposal is not None:
            return node.title_with(proposal.get("values"))
        return node.title

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
        self.write_events([event for event in self.events() if event["step"] <= after_step])

    def write_events(self, events: Iterable[dict[str, Any]]) -> None:
        """Replaces all lines of metrics."""
        text = "".join(json.dumps(event, sort_keys=True) + "\n" for event in events)
        write_atomically(self.folder / "events.jsonl", lambda path: _write(path, text), flush=False)

    def report_progress(self, **values: Any) -> None:
        """Replaces what a display shows of the running node; not flushed, because losing it costs nothing."""
        write_json(self.folder / "progress.json", {**values, "updated": time.time()}, flush=False)

    def progress(self) -> dict[str, Any]:
        """Returns what the running node last reported."""
        return read_json(self.folder / "progress.json") or {}

    def attempts(self) -> list[Attempt]:
        """Returns all attempts at this node, the first one first, each with how it ended."""
        return leases.attempts(self.folder)

    def lease(self) -> Attempt | None:
        """Returns the last attempt, which may be running, or `None` if there was none."""
        return leases.latest(self.folder)

    def finish(self, metrics: dict[str, float], seconds: float, **more: Any) -> None:
        """Writes the result, unless there is one; from then on the node is done."""
        self.forget_failure()
        result = {"metrics": metrics, "seconds": seconds, "time": time.time(), **more}
        write_json_once(self.folder / "result.json", result)

    def remove_half_written(self) -> None:
        """Removes temporary files that killed attempts have left; those of launchers may be in use."""
        for name in _WRITTEN_BY_WORKERS:
            for path in self.folder.glob(f".{name}.*.tmp"):
                path.unlink(missing_ok=True)

    def result(self) -> dict[str, Any] | None:
        """Returns the result, or `None` if there is none yet."""
        found: dict[str, Any] | None = read_json(self.folder / "result.json")
        return found

    def fail(self, kind: str, message: str, details: str, cause: str = "error") -> None:
        """Writes why the node failed, as far as the disk lets it; `details` (a traceback) go to the log file.

        Args:
            kind: The kind of error.
            message: What it says.
            details: For the log file alone.
            cause: What it is due to, one of `runners.failures.Cause`.
        """
        failure = {"kind": kind, "message": message, "cause": cause, "time": time.time()}
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

    def forget_failure(self) -> None:
        """Removes why the last attempt failed, as another one begins; the attempts still tell it."""
        with suppress(OSError):
            (self.folder / "failure.json").unlink(missing_ok=True)

    @property
    def earlier(self) -> NodeState:
        """Where the folder is kept aside of a node that is done anew."""
        return NodeState(self.folder.parent / ASIDE / self.fingerprint)

    @property
    def is_anew(self) -> bool:
        """Whether the node is being done anew, or has been and its earlier folder is still there."""
        return self.earlier.folder.exists()

    def begin_anew(self) -> None:
        """Puts what there is of the node aside; what was aside already stays, as it is what was done.

        Raises:
            OutputError: If the folders cannot be moved.
        """
        try:
            self.earlier.folder.parent.mkdir(parents=True, exist_ok=True)
            if self.is_anew:
                shutil.rmtree(self.folder, ignore_errors=True)
            elif self.folder.exists():
                self.folder.rename(self.earlier.folder)
            else:
                # Done elsewhere, perhaps: that is not taken over from the tracking store either.
                self.earlier.folder.mkdir()
        except OSError as error:
            raise OutputError(f"cannot put {self.folder} aside: {error.strerror or error}.", error.errno) from None

    def forget_earlier(self) -> None:
        """Removes what was kept aside, when the node has been done anew."""
        shutil.rmtree(self.earlier.folder, ignore_errors=True)


@dataclass(frozen=True)
class StateStore:
    """All state folders, one per fingerprint."""

    root: Path

    def __getitem__(self, fingerprint: str) -> NodeState:
        return NodeState(self.root / fingerprint)

    def fingerprints(self) -> list[str]:
        """Returns the fingerprints of all nodes that are described here, in order."""
        return sorted(path.parent.name for path in self.root.glob("*/node.json"))

    def done(self, fingerprints: Iterable[str]) -> frozenset[str]:
        """Returns those of the fingerprints whose nodes have been measured."""
        return frozenset(fingerprint for fingerprint in fingerprints if self[fingerprint].is_done)


def _described(node: ProposedNode) -> dict[str, Any]:
    return {
        "group": node.group,
        "slot": node.slot,
        "general": plain(node.general),
        "own": plain(node.own),
        "factors": {name: factor.model_dump(mode="json") for name, factor in node.factors.items()},
        "values": node.values,
    }


def _proposed(about: dict[str, Any], spec: TrialSpec) -> ProposedNode:
    factors = {name: Factor.model_validate(factor) for name, factor in about["factors"].items()}
    place = (about["fingerprint"], spec, about["group"], about["slot"])
    return ProposedNode(*place, about["general"], about["own"], factors, about["kind"], about["values"])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
