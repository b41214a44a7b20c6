"""This module writes tensors to sealed files and reads them back: nothing that is read can execute.

Files are safetensors with a seal in the metadata: a SHA-256 of every tensor's name, type, shape and bytes. A file that
was cut short, or in which a bit has flipped, does not fit its seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ablations.errors import CheckpointError
from ablations.files.checkpoint_file import MODEL_KEY, NODE_KEY
from ablations.spec.fingerprint import canonical_json
from ablations.spec.parts import ModelSpec
from runners.state.files import write_atomically, write_once

_SEAL = "sha256"


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, node: str = "", model: ModelSpec | None = None, once: bool = False
) -> None:
    """Write tensors to a sealed safetensors file, whole or not at all.

    Args:
        node: Fingerprint of the node that they belong to, kept in the file; none if it is left out.
        model: The settings of the network that they are the weights of, kept in the file: it can be inspected without
            them then.
        once: Whether an existing file stays as it is.

    Raises:
        OutputError: If the disk is full or the folder is not writable.
    """
    # Cloned, because safetensors refuses tensors that share memory.
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    metadata = {_SEAL: _seal(plain)}
    if node:
        metadata[NODE_KEY] = node
    if model is not None:
        metadata[MODEL_KEY] = canonical_json(model.model_dump(mode="json", by_alias=True))
    content = save(plain, metadata)

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    if once:
        write_once(path, write)
    else:
        write_atomically(path, write)


def load_tensors(path: Path, *, node: str = "", must_be_sealed: bool = True) -> dict[str, Tensor]:
    """Return the tensors of a file, read once and checked against its seal.

    Args:
        node: Fingerprint of the node that they must belong to, if the file names one.
        must_be_sealed: Whether to refuse a file without any metadata, as earlier versions wrote them.

    Raises:
        CheckpointError: If the file is missing, torn, no safetensors or another node's.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        metadata = _metadata(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    # Weights from before the seal are still accepted; a checkpoint always has one.
    if metadata is None and not must_be_sealed:
        return tensors
    metadata = metadata or {}
    if metadata.get(_SEAL) != _seal(tensors):
        raise CheckpointError(f"{path} is torn: what it holds is not what was written")
    owner = metadata.get(NODE_KEY, node)
    if node and owner != node:
        raise CheckpointError(f"{path} belongs to another node, {owner[:12]}")
    return tensors


def file_digests(path: Path) -> frozenset[str]:
    """Return the SHA-256 of a sealed file with its metadata in each of their orders.

    safetensors writes them in another order in each process. Two files of equal weights have one of these in common.
    """
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    metadata = header.pop("__metadata__", {})
    digests = set()
    for order in permutations(metadata.items()):
        text = json.dumps({"__metadata__": dict(order), **header}, separators=(",", ":"), ensure_ascii=False)
        # Spaces fill the header up to a multiple of 8 bytes.
        padded = text.encode().ljust(end - 8)
        digests.add(hashlib.sha256(content[:8] + padded + content[end:]).hexdigest())
    return frozenset(digests)


def _seal(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    # Sorted by name: the order of a dictionary is no property of the file.
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _metadata(content: bytes) -> dict[str, str] | None:
    # A safetensors file begins with the size of its JSON header: 8 bytes, little-endian. `load` has checked that the
    # header lies inside the file and maps names to plain values.
    end = 8 + int.from_bytes(content[:8], "little")
    metadata: dict[str, str] | None = json.loads(content[8:end]).get("__metadata__")
    return metadata
