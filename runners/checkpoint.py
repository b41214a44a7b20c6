"""Checkpoints: tensors in safetensors, numbers in JSON, nothing that can execute.

A checkpoint is written beside the previous one, flushed, and only then named in the manifest with its SHA-256; a torn
file is noticed and the previous one is used. Names inside a file: `model.<key>` and `optimizer.<index>.<key>`.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ablations.errors import CheckpointError
from runners.files import read_json, write_atomically, write_json

_KEPT = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """How far a training came: steps done since its start, and what it had summed up in the running epoch."""

    step: int
    sums: dict[str, float]


@dataclass(frozen=True)
class CheckpointStore:
    """The last two checkpoints of one training, in its state folder."""

    folder: Path

    @property
    def _manifest(self) -> Path:
        return self.folder / "checkpoints.json"

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
        """Writes a checkpoint and forgets all but the last two.

        Raises:
            OutputError: If the disk is full or the folder is not writable.
        """
        path = self.folder / f"checkpoint-{position.step:09d}.safetensors"
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        tensors |= _optimizer_tensors(optimizer)
        save_tensors(path, tensors)
        entry = {"file": path.name, "sha256": file_digest(path), "step": position.step, "sums": position.sums}
        entries = [kept for kept in self._entries() if kept["file"] != path.name]
        kept = [entry, *entries][:_KEPT]
        write_json(self._manifest, kept)
        for old in entries[_KEPT - 1 :]:
            (self.folder / old["file"]).unlink(missing_ok=True)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position | None:
        """Restores the newest whole checkpoint in place; returns its position, or `None` if there is none."""
        for entry in self._entries():
            path = self.folder / Path(entry["file"]).name
            try:
                if file_digest(path) != entry["sha256"]:
                    raise CheckpointError(f"{path} is torn")
                tensors = load_file(path)
                _restore_model(model, tensors)
                _restore_optimizer(optimizer, tensors)
            except (OSError, SafetensorError, CheckpointError) as error:
                _log.warning("checkpoint %s cannot be used (%s); trying the one before it", path.name, error)
                continue
            return Position(int(entry["step"]), {key: float(value) for key, value in entry["sums"].items()})
        return None

    def clear(self) -> None:
        """Removes all checkpoints; a finished training needs only its weights."""
        self._manifest.unlink(missing_ok=True)
        for path in self.folder.glob("checkpoint-*.safetensors"):
            path.unlink(missing_ok=True)

    def _entries(self) -> list[dict[str, Any]]:
        entries = read_json(self._manifest)
        return entries if isinstance(entries, list) else []


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors to a safetensors file, whole or not at all."""
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    write_atomically(path, lambda temporary: save_file(plain, temporary))


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts the weights of a trained network into `model`.

    Raises:
        CheckpointError: If the file is missing, torn or of another network.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the weights {path} cannot be read: {error}. Train the trial again.") from None
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the weights {path} are of another network: {error}") from None


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer.{index}.{key}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if value is not None
    }


def _restore_model(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    prefix = "model."
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"it is of another network: {error}") from None


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    # The buffers get the memory layout of their parameters back: fused kernels may round differently on another.
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind != "optimizer":
            continue
        index, _, key = rest.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
