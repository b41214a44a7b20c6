"""This module loads a network that was trained elsewhere: its file is checked against its digest, and cannot execute.

Nothing else reads such a file. What was loaded is kept in the state folder, like the weights of a training.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ablations.errors import CheckpointError, SpecError
from ablations.files.checkpoint_file import read_checkpoint
from ablations.spec.inspected import CheckpointFile
from runners.training.checkpoint import check_tensors


def load_inspected(file: CheckpointFile, model: nn.Module) -> str:
    """Put the weights of a checkpoint that was trained elsewhere into `model`; return what was loaded in words.

    Raises:
        CheckpointError: The file is missing or has changed since it was planned with, is no checkpoint, or holds
            another network.
    """
    path = Path(file.path)
    try:
        sha256 = read_checkpoint(path).sha256
    except SpecError as error:
        raise CheckpointError(str(error)) from None
    if sha256 != file.sha256:
        raise CheckpointError(
            f"the checkpoint {path} has changed since this was planned: its SHA-256 is {sha256}, and was "
            f"{file.sha256}. Run the study again."
        )
    return _load(path, model, file.temperature)


def _load(path: Path, model: nn.Module, temperature: float | None) -> str:
    tensors = _read(path)
    try:
        check_tensors(model.state_dict(), tensors)
    except CheckpointError as error:
        raise CheckpointError(f"the checkpoint {path} does not fit: {error}") from None
    model.load_state_dict(tensors)
    return f"{len(tensors)} tensors from {path}"


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"the checkpoint {path} cannot be read: {reason}") from None
    if not isinstance(tensors, dict):
        raise CheckpointError(f"the checkpoint {path} holds no weights, but a {type(tensors).__name__}")
    return tensors
