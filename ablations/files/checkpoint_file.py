"""`read_checkpoint` reads of a checkpoint file what planning needs: its SHA-256 and, if it is one of ours, its network.

No torch is needed: weights are loaded by workers (`runners.training.inspected`). A file of ours is a safetensors file
whose header holds the settings of its network, or lies in the state folder of its training, which describes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ablations.errors import AblationError, SpecError
from ablations.spec.settings import flatten

MODEL_KEY = "model"
"""The entry in the header of a safetensors file with the settings of its network, as JSON."""

NODE_KEY = "node"
"""The entry with the fingerprint of the training."""

DESCRIPTION = "node.json"
"""The file that describes a training, in its state folder."""

_MAX_HEADER = 100_000_000
"""The largest header that the format allows, in bytes."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What is known of a checkpoint file without loading its weights.

    Attributes:
        settings: The settings of its network by their dotted names; empty for a file that is not ours.
    """

    sha256: str
    settings: Mapping[str, Any]


def read_checkpoint(path: Path) -> CheckpointFacts:
    """Return the facts of a checkpoint file; it is read once per process, as long as it does not change.

    Raises:
        SpecError: The file is missing, is no file or cannot be read, or its settings are not those of a network.
    """
    try:
        status = path.stat()
        if not path.is_file():
            raise SpecError(f"the checkpoint {path} is not a file. Give the file that holds the weights.")
        return _read(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise SpecError(f"the checkpoint {path} cannot be read: {error.strerror or error}.") from None


def network_name(path: Path) -> str:
    """Return the name of the network in a file, as rows have it: the file's without its ending."""
    # A row is known as "network: variant", so that a name has no colon.
    return (path.stem or path.name).replace(":", "-")


@lru_cache(maxsize=64)
def _read(path: Path, changed: int, size: int) -> CheckpointFacts:
    # Time and size of the file are arguments so that one that was replaced is read again.
    if not size:
        raise SpecError(f"the checkpoint {path} is empty.")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    header = _header(path)
    model = _json_object(header.get(MODEL_KEY))
    if model is None and NODE_KEY in header:
        model = _described_model(path.with_name(DESCRIPTION), header[NODE_KEY])
    if model is None:
        return CheckpointFacts(sha256, {})
    try:
        settings = flatten({"model": model})
    except AblationError as error:
        raise SpecError(f"the checkpoint {path} names settings of its network that are not known: {error}") from None
    return CheckpointFacts(sha256, {key: value for key, value in settings.items() if value is not None})


def _header(path: Path) -> Mapping[str, Any]:
    """Return the metadata of a safetensors file, empty for any other file."""
    with path.open("rb") as file:
        # 8 bytes, little-endian: the size of the JSON that follows.
        size = int.from_bytes(file.read(8), "little")
        # The first bytes of a pickle make a huge number here, of which nothing must be read.
        if size > min(_MAX_HEADER, path.stat().st_size):
            return {}
        content = _json_object(file.read(size))
    metadata = (content or {}).get("__metadata__")
    if not isinstance(metadata, dict):
        return {}
    return metadata


def _described_model(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the model settings in a state folder's description, `None` if it is not that of the training."""
    try:
        described = _json_object(path.read_bytes())
    except OSError:
        return None
    # A file that was copied into another folder lies beside the description of another training.
    if described is None or described.get("fingerprint") != fingerprint:
        return None
    spec = described.get("spec")
    model = spec.get("model") if isinstance(spec, dict) else None
    return model if isinstance(model, dict) else None


def _json_object(text: Any) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    # RecursionError: brackets that are nested too deep.
    except (TypeError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
