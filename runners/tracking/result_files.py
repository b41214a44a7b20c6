"""This module makes a finished node's artifacts, and takes them over on a machine that has not measured the node.

Beside the weights of a training lies a description by which `mlflow.pyfunc.load_model` makes the network of them.

Files taken over are compared with the digests in the run's tags and with the requested fingerprint; nothing in them can
execute.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NotRequired

from pydantic import ValidationError
from typing_extensions import TypedDict

from ablations import vocabulary as names
from ablations.datasets.facts import DatasetFacts
from ablations.errors import AblationError, TrackingError
from ablations.planning.nodes import Node
from ablations.spec.trial import TrialSpec
from runners.state.files import write_atomically, write_json_once
from runners.state.nodes import NodeState
from runners.state.schemas import Damage, Event, FileKind, NodeFile, ProposalFile, ResultFile
from runners.tracking.experiment import KnownRun

MODEL_FILE = "MLmodel"
"""MLflow's name of the description of a model, in the folder of the model's files."""
_LOADER = "runners.api.tracked_network"
"""The module that `mlflow.pyfunc` imports to load the network; a name, as its torch is not needed here."""
_KEPT = (names.ATTENTION_FILE, names.CORRECTNESS_FILE)
_CHUNK = 1 << 20


class _Record(TypedDict):
    """`record.json`: all measurements of a finished node."""

    fingerprint: str
    node: NotRequired[NodeFile | None]
    result: ResultFile
    events: list[Event]
    proposal: NotRequired[ProposalFile | None]


_RECORD: FileKind[dict[str, Any]] = FileKind(_Record)


def record_text(state: NodeState) -> str:
    """Return all measurements of a finished node as JSON; numbers come back as the same bits."""
    record = {
        "fingerprint": state.fingerprint,
        "node": state.about(),
        "result": state.result(),
        "events": state.events(),
        "proposal": state.proposal(),
    }
    return json.dumps(record, sort_keys=True)


def files_of(state: NodeState) -> list[Path]:
    """Return the other files of a finished node that are kept as artifacts."""
    paths = (state.weights_file, *(state.folder / name for name in _KEPT))
    return [path for path in paths if path.exists()]


def model_text(state: NodeState, run_id: str) -> str | None:
    """Return the description by which MLflow loads the network of a finished training; `None` without a training.

    It names a module of this project and holds plain values alone: loading it executes nothing from the store.
    """
    if state.kind != "trial" or not state.weights_file.exists():
        return None
    try:
        facts = state.node().spec.data.facts
    except AblationError:
        # Data of the user's own are gone, or plug-ins are not loaded; the weights can be loaded without MLflow.
        return None
    from mlflow.models import Model

    model = Model(run_id=run_id, signature=_signature(facts), model_uuid=run_id)
    sizes = {"channels": facts.channels, "image_size": facts.image_size, "num_classes": facts.num_classes}
    # What `mlflow.pyfunc.add_to_model` does; to import that module takes seconds, and it warns of its own type hints.
    model.add_flavor("python_function", loader_module=_LOADER, python_version=platform.python_version(), config=sizes)
    return str(model.to_yaml())


def _signature(facts: DatasetFacts) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    images = TensorSpec(np.dtype("float32"), (-1, facts.channels, facts.image_size, facts.image_size))
    logits = TensorSpec(np.dtype("float32"), (-1, facts.num_classes))
    return ModelSignature(Schema([images]), Schema([logits]))


def recorded_spec(folder: Path) -> tuple[str, TrialSpec]:
    """Return the fingerprint and the spec of the training whose record lies in a folder of artifacts.

    Raises:
        TrackingError: If the record cannot be read, or is not that of a training.
    """
    path = folder / names.RECORD_FILE
    record = _RECORD.read(path)
    node = record.get("node") if isinstance(record, dict) else None
    if not isinstance(record, dict) or node is None or node["kind"] != "trial":
        reason = str(record) if isinstance(record, Damage) else f"{path} is not the record of a training"
        raise TrackingError(f"the network cannot be made: {reason}.")
    try:
        return record["fingerprint"], TrialSpec.model_validate(node["spec"])
    except ValidationError as error:
        raise TrackingError(f"the network cannot be made: {path} holds no spec: {_first_line(error)}.") from None


def _first_line(error: ValidationError) -> str:
    return str(error).splitlines()[0]


def digest_of_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def take_over(client: Any, run: KnownRun, node: Node, state: NodeState) -> None:
    """Write the result of a finished run into a state folder, as if it had been measured here; weights stay behind.

    Raises:
        TrackingError: If the run has no record, or one that is torn or of another node.
        OutputError: If the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="dyconv-result-") as folder:
        record = _record(_download(client, run, names.RECORD_FILE, Path(folder)), node.fingerprint)
        # Described from the plan; the description in the record is only compared.
        state.describe(node)
        for name in _KEPT:
            if name in _digests(run):
                content = _download(client, run, name, Path(folder)).read_bytes()
                write_atomically(state.folder / name, partial(_write, content))
    state.write_events(record["events"])
    state.forget_failure()
    if isinstance(record.get("proposal"), dict):
        state.note_proposal(**record["proposal"])
    # Last, because from then on the node is done.
    write_json_once(state.result_file, record["result"])


def take_weights_over(client: Any, run: KnownRun, state: NodeState) -> None:
    """Write the weights of a finished trial into its state folder.

    Raises:
        TrackingError: If the run has none, or they are torn.
    """
    # In the same folder: a renaming across file systems would be a copy, which is not atomic.
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=state.folder) as folder:
        _download(client, run, names.WEIGHTS_FILE, Path(folder)).replace(state.weights_file)


def _digests(run: KnownRun) -> dict[str, str]:
    try:
        # Anybody can edit a tag in MLflow's UI.
        digests = json.loads(run.tags.get(names.TAG_FILES, "{}"))
    except ValueError:
        digests = {}
    return digests if isinstance(digests, dict) else {}


def _download(client: Any, run: KnownRun, name: str, folder: Path) -> Path:
    digests = _digests(run)
    if name not in digests:
        raise TrackingError(f"run {run.run_id} has no {name}")
    path = Path(client.download_artifacts(run.run_id, name, str(folder)))
    if digest_of_file(path) != digests[name]:
        raise TrackingError(f"{name} of run {run.run_id} is torn: it is not what was written")
    return path


def _record(path: Path, fingerprint: str) -> dict[str, Any]:
    record = _RECORD.read(path)
    if record is None or isinstance(record, Damage):
        reason = record.reason if record is not None else "it is not there"
        raise TrackingError(f"{path.name} of {fingerprint} cannot be read: {reason}")
    # Every entry that names a node must name this one; earlier versions left some out.
    owners = [record["fingerprint"], (record.get("node") or {}).get("fingerprint"), record["result"].get("fingerprint")]
    if any(owner not in (None, fingerprint) for owner in owners):
        raise TrackingError(f"{path.name} is not the record of {fingerprint}")
    return record


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
