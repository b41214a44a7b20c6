"""This module keeps the state folder of each node: its description, progress, metrics and result or failure.

The disk is the truth; MLflow follows it.

A launcher writes `node.json` and submits the fingerprint; a worker reads it, begins an attempt
(`runners.state.attempts`), appends to `events.jsonl`, replaces `progress.json` and ends with `result.json` or
`failure.json`. The earlier folder of a node that is done anew is kept aside until then. No torch and no mlflow here.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations import vocabulary as names
from ablations.atomic import final_name
from ablations.datasets.registry import forget_folders
from ablations.errors import AblationError, DatasetError, OutputError
from ablations.planning.nodes import (
    CostNode,
    EvaluationNode,
    NetworkNode,
    Node,
    ProposedNode,
    TrialNode,
    plugins_of,
)
from ablations.planning.optimisation import Optimisation, slot_fingerprint
from ablations.spec.factors import Factor, plain
from ablations.spec.fingerprint import SHORT, cost_fingerprint, spec_version_of
from ablations.spec.identities import as_json
from ablations.spec.inspected import CheckpointFile, NetworkSpec, read_spec
from ablations.spec.parts import SPEC_VERSION, Intervention
from ablations.spec.trial import TrialSpec
from runners.state import attempts as leases
from runners.state import schemas
from runners.state.attempts import Attempt
from runners.state.files import write_atomically, write_json, write_json_once
from runners.state.schemas import Damage, set_aside

_NODE_FILE, _RESULT_FILE, _FAILURE_FILE, _EVENTS_FILE = "node.json", "result.json", "failure.json", "events.jsonl"
_PROPOSAL_FILE, _PROGRESS_FILE = "proposal.json", "progress.json"

# A worker may remove temporary files of these, which earlier attempts have left, but none that a launcher writes.
_WRITTEN_BY_WORKERS = (
    _PROGRESS_FILE,
    _EVENTS_FILE,
    names.WEIGHTS_FILE,
    names.ATTENTION_FILE,
    names.CORRECTNESS_FILE,
    _PROPOSAL_FILE,
    _RESULT_FILE,
)

_DESCRIBED_BY_HASH = frozenset(
    {
        "kind",
        "fingerprint",
        "title",
        "spec",
        "spec_version",
        "data_digest",
        "checkpoint",
        "trial",
        "intervention",
        "plugins",
    }
)
"""The fields that this version knows in the description of a trial, a network or an evaluation. Where a later version
adds some, its fingerprint cannot be computed here."""

# Without the events, which are read line by line, and the attempts, which `runners.state.attempts` reads.
_KINDS = {
    _NODE_FILE: schemas.NODE,
    _RESULT_FILE: schemas.RESULT,
    _FAILURE_FILE: schemas.FAILURE,
    _PROPOSAL_FILE: schemas.PROPOSAL,
    _PROGRESS_FILE: schemas.PROGRESS,
    "tracking.json": schemas.TRACKING,
    "origin.json": schemas.ORIGIN,
    names.CORRECTNESS_FILE: schemas.CORRECTNESS,
    names.ATTENTION_FILE: schemas.OBJECT,
}

ASIDE = ".aside"
"""The folder in the state root that keeps the earlier folders of nodes that are done anew."""


def about(node: Node) -> dict[str, Any]:
    """Return the description of a node as JSON: everything that `NodeState.node` needs to make it again."""
    description: dict[str, Any] = {"kind": node.kind, "fingerprint": node.fingerprint, "title": node.title}
    description["spec"] = node.spec.model_dump(mode="json", by_alias=True)
    description["spec_version"] = SPEC_VERSION
    description["data_digest"] = node.spec.data.facts.digest
    plugins = as_json(plugins_of(node).values())
    if plugins:
        description["plugins"] = plugins
    if node.file is not None:
        # Also of an evaluation, whose network is described by it and not by a training.
        description["checkpoint"] = node.file.model_dump(mode="json")
    if node.intervention is not None:
        description["trial"] = node.checkpoint
        description["intervention"] = node.intervention.model_dump(mode="json", by_alias=True)
    if isinstance(node, ProposedNode):
        description |= _described(node)
    return description


@dataclass(frozen=True)
class NodeState:
    """The folder of one node."""

    folder: Path

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the node, from the folder's name."""
        return self.folder.name

    @property
    def log_file(self) -> Path:
        """The log file, in which a failed attempt leaves its traceback."""
        return self.folder / "log.txt"

    @property
    def weights_file(self) -> Path:
        """The trained weights."""
        return self.folder / names.WEIGHTS_FILE

    @property
    def result_file(self) -> Path:
        """The measurement; see `result`."""
        return self.folder / _RESULT_FILE

    @property
    def events_file(self) -> Path:
        """The metrics of each epoch, a line per epoch; see `events`."""
        return self.folder / _EVENTS_FILE

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints of its training, the oldest first."""
        return sorted(self.folder.glob("checkpoint-*.safetensors"))

    @property
    def is_done(self) -> bool:
        """True if the node has been measured: there is a result that can be read and is the node's own."""
        return self.result() is not None

    def describe(self, node: Node) -> None:
        """Write the description of the node, for the worker that will run it. Set aside what belongs to another node.

        Raises:
            OutputError: If the folder cannot be written.
        """
        foreign = self.foreign()
        if foreign is not None and foreign.path == self.folder:
            # Its checkpoints and weights would pass for this node's as soon as the folder said so.
            set_aside(foreign)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder}: {error.strerror or error}.", error.errno) from None
        # The title has the proposed values once there are some; `about` knows the node alone.
        write_json(self.folder / _NODE_FILE, {**about(node), "title": self.title(node)})

    def about(self) -> dict[str, Any] | None:
        """Return the description that `describe` wrote, or `None`; folders of earlier versions lack `spec_version`."""
        return schemas.NODE.find(self.folder / _NODE_FILE)

    @property
    def kind(self) -> str:
        """The kind of the node, such as `trial` or `evaluation`; empty if nothing is described here."""
        return str((self.about() or {}).get("kind", ""))

    def foreign(self) -> Damage | None:
        """Return the folder or its result as damage if it is another node's; `None` if all is its own.

        The description in a folder that was copied under another name tells its node.
        """
        return self._foreign(schemas.RESULT.find(self.result_file))

    def _foreign(self, result: dict[str, Any] | None) -> Damage | None:
        described = self.about()
        if described is not None and described["fingerprint"] != self.fingerprint:
            return Damage(self.folder, f"what lies there is of another node, {described['fingerprint'][:SHORT]}")
        if described is not None and not _fits(described):
            return Damage(self.folder, "the node that it describes has another fingerprint")
        return self._foreign_result(result, described)

    def _foreign_result(self, result: dict[str, Any] | None, described: dict[str, Any] | None) -> Damage | None:
        if result is None:
            return None
        owner = result.get("fingerprint")
        if owner is not None and owner != self.fingerprint:
            return Damage(self.result_file, f"it is the result of another node, {owner[:SHORT]!r}")
        if owner is None and described is None:
            return Damage(self.result_file, "nothing says of which node it is")
        return None

    def damages(self) -> list[Damage]:
        """Return the files of this folder that cannot be read or are another node's, each once."""
        foreign = self.foreign()
        if foreign is not None and foreign.path == self.folder:
            return [foreign]
        damages: list[Damage] = []
        for name, kind in _KINDS.items():
            damages += kind.damages([self.folder / name])
        if foreign is not None:
            damages.append(foreign)
        # The first alone: all lines of a damaged file of events are set aside together.
        damages += islice(self._damaged_events(), 1)
        return [*damages, *self._foreign_files(), *leases.damages(self.folder)]

    def _foreign_files(self) -> Iterator[Damage]:
        """Yield the files beside the result that name another node as theirs."""
        for name, kind in ((names.CORRECTNESS_FILE, schemas.CORRECTNESS), (names.ATTENTION_FILE, schemas.OBJECT)):
            owner = (kind.find(self.folder / name) or {}).get("fingerprint", self.fingerprint)
            if owner != self.fingerprint:
                yield Damage(self.folder / name, f"it is of another node, {str(owner)[:SHORT]!r}")

    def _damaged_events(self) -> Iterator[Damage]:
        lines = schemas.read_lines(self.events_file, schemas.EVENT)
        return (line for line in lines if isinstance(line, Damage))

    def set_damaged_aside(self) -> list[Damage]:
        """Set aside the files that cannot be read or are another node's, so that they are done again; return them.

        Files of attempts stay: a living attempt writes its own anew, and a dead one is found to stand still. Events
        of a finished node stay too; readers skip the lines that cannot be read.

        Raises:
            OutputError: If the system refuses to read or to rename it.
        """
        moved = [damage for damage in self.damages() if damage.path.parent != leases.attempts_folder(self.folder)]
        is_done = self.is_done
        for damage in moved:
            if damage.path != self.events_file:
                set_aside(damage)
            elif not is_done:
                self._begin_from_start(damage)
        if not is_done and moved:
            # Otherwise a launch that finds an attempt finished without a result would wait for the result.
            attempt = self.lease()
            failure = {"kind": "DamagedResult", "message": str(moved[0]), "cause": "input_output"}
            if attempt is not None and attempt.outcome == "finished":
                leases.declare_dead(self.folder, attempt, "failed", failure)
        return moved

    def _begin_from_start(self, damage: Damage) -> None:
        """Set the metrics aside, and with them the checkpoints and weights that would continue the training."""
        set_aside(damage)
        for path in (*self.checkpoints(), self.weights_file):
            if path.exists():
                set_aside(Damage(path, "its metrics are lost"))

    def node(self) -> Node:
        """Return the node described in this folder.

        Raises:
            OutputError: If nothing is described here, or it cannot be read, or it is another node.
            DatasetError: If the data are no longer those that were planned with.
        """
        described = schemas.NODE.read(self.folder / _NODE_FILE)
        if described is None:
            raise OutputError(f"{self.folder} describes no node. Run the study again.")
        if isinstance(described, Damage):
            raise OutputError(f"{described}. Run the study again.")
        foreign = self.foreign()
        if foreign is not None and foreign.path == self.folder:
            raise OutputError(f"{foreign}. Run the study again.")
        try:
            return self._node(described)
        except (ValidationError, RecursionError) as error:
            # RecursionError: the JSON is nested more deeply than any spec.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise OutputError(f"{self.folder}/{_NODE_FILE} cannot be read: {reason}. Run the study again.") from None

    def _node(self, described: dict[str, Any]) -> Node:
        spec = read_spec(described["spec"])
        if described["data_digest"] != spec.data.facts.digest:
            # A worker that outlives a launch may have read the data folder before its files were as planned.
            forget_folders()
        if described["data_digest"] != spec.data.facts.digest:
            subject = f"data set {spec.data.name!r} has"
            if spec.data.root:
                subject = f"the files in {spec.data.root} have"
            raise DatasetError(
                f"{subject} changed since this was planned, or is read otherwise here, and so has its fingerprint. "
                "Run the study again."
            )
        if described["kind"] == "network":
            return _network(described["fingerprint"], spec, described)
        if described["kind"] == "evaluation":
            intervention = Intervention.model_validate(described["intervention"])
            network: TrialNode | NetworkNode = TrialNode(described["trial"], spec)
            if "checkpoint" in described:
                network = _network(described["trial"], spec, described)
            return EvaluationNode(described["fingerprint"], network, intervention)
        if described["kind"] in ("tuning", "search"):
            return _proposed(described, spec)
        if described["kind"] == "trial":
            return TrialNode(described["fingerprint"], spec)
        return CostNode(described["fingerprint"], spec)

    def note_proposal(self, **values: Any) -> None:
        """Write the `values` of the factors that were proposed for this node, or the `outcome` of its training."""
        write_json(self.folder / _PROPOSAL_FILE, {**(self.proposal() or {}), **values})

    def proposal(self) -> dict[str, Any] | None:
        """Return the proposal for this node, or `None` before there is one."""
        return schemas.PROPOSAL.find(self.folder / _PROPOSAL_FILE)

    def training(self, node: Node) -> TrialSpec:
        """Return the spec that is trained for a node: with the proposed values, once they are known."""
        if node.optimisation is not None:
            proposal = self.proposal()
            if proposal is not None:
                return node.optimisation.resolve(proposal["values"], node.seed)
        return node.spec

    def title(self, node: Node) -> str:
        """Return the name of a node for people: with the proposed values, once they are known."""
        if isinstance(node, ProposedNode):
            proposal = self.proposal()
            if proposal is not None:
                return node.title_with(proposal.get("values"))
        return node.title

    def append_event(self, step: int, metrics: dict[str, float]) -> None:
        """Add one line of metrics, flushed to the disk."""
        line = json.dumps({"step": step, "time": int(time.time() * 1000), "metrics": metrics}, sort_keys=True)
        with (self.events_file).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> list[dict[str, Any]]:
        """Return the complete lines of metrics so far, in order; `damages` names those that cannot be read."""
        lines = schemas.read_lines(self.events_file, schemas.EVENT)
        return [line for line in lines if not isinstance(line, Damage)]

    def truncate_events(self, after_step: int) -> None:
        """Drop the metrics of steps after `after_step`: a resumed training will write the same ones again."""
        self.write_events([event for event in self.events() if event["step"] <= after_step])

    def write_events(self, events: Iterable[dict[str, Any]]) -> None:
        """Replace all lines of metrics."""
        text = "".join(json.dumps(event, sort_keys=True) + "\n" for event in events)
        write_atomically(self.events_file, lambda path: _write(path, text), flush=False)

    def report_progress(self, **values: Any) -> None:
        """Replace the progress that a display shows of the running node; not flushed, as losing it costs nothing."""
        write_json(self.folder / _PROGRESS_FILE, {**values, "updated": time.time()}, flush=False)

    def progress(self) -> dict[str, Any]:
        """Return the last progress report of the running node, without values that are missing or not finite."""
        progress = schemas.PROGRESS.find(self.folder / _PROGRESS_FILE) or {}
        return {key: value for key, value in progress.items() if value is not None and math.isfinite(value)}

    def attempts(self) -> list[Attempt]:
        """Return all attempts at this node, the first one first, each with its outcome."""
        return leases.attempts(self.folder)

    def lease(self) -> Attempt | None:
        """Return the last attempt, which may be running, or `None` if there was none."""
        return leases.latest(self.folder)

    def finish(self, metrics: dict[str, float], seconds: float, **extra: Any) -> None:
        """Write the result, unless there is one; from then on the node is done."""
        # In this order: a kill in between must not leave a finished node with a failure.
        self.forget_failure()
        result = {"metrics": metrics, "seconds": seconds, "fingerprint": self.fingerprint, "time": time.time(), **extra}
        write_json_once(self.result_file, result)

    def remove_half_written(self) -> None:
        """Remove temporary files that killed attempts have left; those of launchers may be in use."""
        for path in self.folder.glob(".*.tmp"):
            if final_name(path) in _WRITTEN_BY_WORKERS:
                path.unlink(missing_ok=True)

    def result(self) -> dict[str, Any] | None:
        """Return the result, or `None` if there is none yet, or none that can be read and is this node's."""
        result = schemas.RESULT.find(self.result_file)
        if result is None or self._foreign(result) is not None:
            return None
        return result

    def fail(self, kind: str, message: str, details: str, cause: str = "error") -> None:
        """Write the failure of the node, as far as the disk lets it; `details` (a traceback) go to the log file.

        Args:
            details: For the log file alone.
            cause: Its cause, one of `runners.state.failures.Cause`.
        """
        failure = {"kind": kind, "message": message, "cause": cause, "time": time.time()}
        # On a full disk the failure is that nothing can be written; it must not end the launch too.
        with suppress(OSError):
            # Without its parents: a runs folder that somebody removed must not come back with failures in it.
            self.folder.mkdir(exist_ok=True)
            self.note(f"{kind}: {message}\n{details}")
        with suppress(OutputError):
            write_json(self.folder / _FAILURE_FILE, failure)

    def note(self, message: str) -> None:
        """Add a line to the log file."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}\n")

    def failure(self) -> dict[str, Any] | None:
        """Return the failure of the last attempt, or `None`."""
        return schemas.FAILURE.find(self.folder / _FAILURE_FILE)

    def forget_failure(self) -> None:
        """Remove the failure of the last attempt when another one begins; the files of attempts keep it."""
        with suppress(OSError):
            (self.folder / _FAILURE_FILE).unlink(missing_ok=True)

    @property
    def earlier(self) -> NodeState:
        """The folder kept aside of a node that is done anew."""
        return NodeState(self.folder.parent / ASIDE / self.fingerprint)

    @property
    def is_anew(self) -> bool:
        """True if the node is being done anew, or has been and its earlier folder is still there."""
        return self.earlier.folder.exists()

    def begin_anew(self) -> None:
        """Move the node's folder aside. A folder that is aside already stays, as it is the older one.

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
                # An empty folder aside marks the node, so that the tracking store's result is not taken over either.
                self.earlier.folder.mkdir()
        except OSError as error:
            raise OutputError(f"cannot put {self.folder} aside: {error.strerror or error}.", error.errno) from None

    def forget_earlier(self) -> None:
        """Remove the folder kept aside, when the node has been done anew."""
        shutil.rmtree(self.earlier.folder, ignore_errors=True)


@dataclass(frozen=True)
class StateStore:
    """All state folders, one per fingerprint."""

    root: Path

    def __getitem__(self, fingerprint: str) -> NodeState:
        return NodeState(self.root / fingerprint)

    def fingerprints(self) -> list[str]:
        """Return the fingerprints of all nodes that are described here, in order."""
        # Without names that begin with a dot: `.aside`, and folders that were set aside as damaged.
        return sorted(path.parent.name for path in self.root.glob("[!.]*/node.json"))

    def folders(self) -> list[NodeState]:
        """Return all state folders in order, those that describe no node, too."""
        return [self[path.name] for path in sorted(self.root.glob("[!.]*")) if path.is_dir()]

    def done(self, fingerprints: Iterable[str]) -> frozenset[str]:
        """Return the fingerprints whose nodes have been measured."""
        return frozenset(fingerprint for fingerprint in fingerprints if self[fingerprint].is_done)


def _fits(described: dict[str, Any]) -> bool:
    """Return True if a description has the fingerprint that it states, or if that cannot be computed here."""
    fingerprint, kind = described["fingerprint"], described["kind"]
    if kind in ("tuning", "search"):
        # A training that repeats another one has values from the start, and a fingerprint from elsewhere.
        is_slot = described["values"] is None
        return not is_slot or slot_fingerprint(described["group"], described["slot"]) == fingerprint
    if not described.keys() <= _DESCRIBED_BY_HASH:
        return True
    try:
        if kind == "cost":
            return _fits_cost(described)
        if kind == "evaluation" and "plugins" in described:
            # The description does not tell which plug-ins its training named, so the training's fingerprint cannot be
            # checked; the evaluation's own fingerprint holds them all.
            return spec_version_of(fingerprint, described) is not None
        network = {**described, "kind": "network" if "checkpoint" in described else "trial"}
        checkpoint = described["trial"] if kind == "evaluation" else fingerprint
        fits = spec_version_of(checkpoint, network) is not None
        return fits and (kind != "evaluation" or spec_version_of(fingerprint, described) is not None)
    except (ValueError, RecursionError):
        # A value that no description holds, NaN for example.
        return False


def _fits_cost(described: dict[str, Any]) -> bool:
    # A plug-in's network is known only where the plug-in is loaded.
    if described.get("spec_version") != SPEC_VERSION or "plugins" in described:
        return True
    spec = read_spec(described["spec"])
    try:
        return bool(cost_fingerprint(spec) == described["fingerprint"])
    except AblationError:
        # The data, from which the size of the images is known, may be gone.
        return True


def _network(fingerprint: str, spec: TrialSpec, described: dict[str, Any]) -> NetworkNode:
    if not isinstance(spec, NetworkSpec):
        raise OutputError("a network that was trained elsewhere is described with a training. Run the study again.")
    return NetworkNode(fingerprint, spec, CheckpointFile.model_validate(described["checkpoint"]))


def _described(node: ProposedNode) -> dict[str, Any]:
    return {
        "group": node.group,
        "slot": node.slot,
        "general": plain(node.optimisation.general),
        "own": plain(node.optimisation.changes),
        "factors": {name: factor.model_dump(mode="json") for name, factor in node.factors.items()},
        "values": node.values,
    }


def _proposed(about: dict[str, Any], spec: TrialSpec) -> ProposedNode:
    factors = {name: Factor.model_validate(factor) for name, factor in about["factors"].items()}
    optimisation = Optimisation(about["kind"], about["group"], spec, about["general"], about["own"], factors)
    return ProposedNode(about["fingerprint"], spec, optimisation, about["slot"], about["values"])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
