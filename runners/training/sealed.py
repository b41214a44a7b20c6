"""Tensors in files that say themselves whether they are whole: safetensors with a seal, nothing that can execute.

The seal, in the file's metadata, is a SHA-256 of every tensor's name, type, shape and bytes; a file that was cut short
or in which a bit has flipped does not fit it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ablations.errors import CheckpointError
from runners.state.files import write_atomically, write_once

_SEAL, _NODE = "sha256", "node"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], *, node: str = "", once: bool = False) -> None:
    """Writes tensors to a sealed safetensors file, whole or not at all.

    Args:
        path: The file.
        tensors: By name.
        node: Fingerprint of the node that they belong to, kept in the file; none if it is left out.
        once: Whether a file that is there already stays.

    Raises:
        OutputError: If the disk is full or the folder is not writable.
    """
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    content = save(plain, {_SEAL: _seal(plain)} | ({_NODE: node} if node else {}))
    (write_once if once else write_atomically)(path, lambda temporary: _write(temporary, content))


def load_tensors(path: Path, *, node: str = "", must_be_sealed: bool = True) -> dict[str, Tensor]:
    """Returns the tensors of a file, read once and held against its seal.

    Args:
        path: The file.
        node: Fingerprint of the node that they must belong to, if the file says so at all.
        must_be_sealed: Whether a file without any metadata, as earlier versions wrote them, is refused.

    Raises:
        CheckpointError: If the file is missing, torn, no safetensors or another node's.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        metadata = _metadata(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if metadata is None and not must_be_sealed:
        return tensors
    if (metadata or {}).get(_SEAL) != _seal(tensors):
        raise CheckpointError(f"{path} is torn: what it holds is not what was written")
    owner = (metadata or {}).get(_NODE, node)
    if node and owner != node:
        raise CheckpointError(f"{path} belongs to another node, {owner[:12]}")
    return tensors


def _seal(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _metadata(content: bytes) -> dict[str, str] | None:
    # `load` has checked that the header lies inside the file and maps names to plain values.
    end = 8 + int.from_bytes(content[:8], "little")
    found: dict[str, str] | None = json.loads(content[8:end]).get("__metadata__")
    return found


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
