"""This module saves and restores checkpoints of a training, as files of sealed tensors.

A checkpoint is one file, written beside the previous one, flushed and renamed, with the step in its name. A torn one is
noticed, and the previous one is used. Names inside a file: `model.<key>`, `optimizer.<index>.<key>`, `scaler.<key>`,
`position.step`, `position.seconds` and `position.sums.<name>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ablations.errors import CheckpointError
from runners.state.schemas import remove_file
from runners.training.sealed_tensors import load_tensors, save_tensors

_MAX_CHECKPOINTS = 2
"""The newest, and the one before it in case the newest is torn."""
_NAME = re.compile(r"checkpoint-(\d{9,})\.safetensors")
_SCALER_KEYS = ("scale", "_growth_tracker")

Log = Callable[[str], None]
"""Takes a sentence for the log."""


@dataclass(frozen=True)
class Position:
    """The position of a training.

    Attributes:
        step: Steps done since the start.
        sums: Sums over the running epoch by name; empty between two epochs.
        seconds: Time of the steps of the running epoch so far.
    """

    step: int
    sums: dict[str, float]
    seconds: float = 0.0

    def epoch_and_step(self, steps_per_epoch: int) -> tuple[int, int]:
        """Return the running epoch and the steps done in it: all of them if only its validation is left."""
        epoch, step = divmod(self.step, steps_per_epoch)
        # Sums left at the boundary of an epoch: its last step is done, its validation is not.
        if self.sums and step == 0:
            return epoch - 1, steps_per_epoch
        return epoch, step


@dataclass(frozen=True)
class Training:
    """The objects whose state a checkpoint holds; there is no generator, see `runners.training.trainer`."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


@dataclass(frozen=True)
class CheckpointStore:
    """The last two checkpoints of one training, in its state folder.

    Attributes:
        check_owner: Called before each write or removal; raises if the folder belongs to another process by now.
    """

    folder: Path
    check_owner: Callable[[], None] = lambda: None

    def save(self, training: Training, position: Position) -> None:
        """Write a checkpoint and remove all but the last two.

        Raises:
            OutputError: If the disk is full or the folder is not writable; earlier checkpoints stay.
        """
        self.check_owner()
        tensors = {f"model.{key}": value for key, value in training.model.state_dict().items()}
        tensors |= _optimizer_tensors(training.optimizer) | _scaler_tensors(training.scaler)
        path = self.folder / f"checkpoint-{position.step:09d}.safetensors"
        save_tensors(path, tensors | _position_tensors(position), node=self.folder.name)
        # Only now: the previous one is needed until this one is on the disk.
        for _, older_path in self._newest_first()[_MAX_CHECKPOINTS:]:
            remove_file(older_path)

    def load(self, training: Training, log: Log) -> Position | None:
        """Restore the newest whole checkpoint in place; return its position, or `None` if there is none.

        Args:
            training: Unchanged if no checkpoint can be used.
            log: Called with each checkpoint that cannot be used, and why.
        """
        checkpoints = self._newest_first()
        for step, path in checkpoints:
            try:
                tensors = load_tensors(path, node=self.folder.name)
                _check(training, tensors)
                # The name of a file is not sealed: it must agree with the step inside.
                position = _position(tensors)
                if position.step != step:
                    raise CheckpointError(f"it holds step {position.step}")
            except CheckpointError as error:
                log(f"the checkpoint {path.name} is not used: {error}")
                continue
            _restore(training, tensors)
            return position
        if checkpoints:
            log("there is no checkpoint left to go on from: the training starts anew")
        return None

    def forget_beyond(self, step: int) -> None:
        """Remove all that a training which goes on from `step` must not meet: newer checkpoints, half-written files.

        Otherwise a torn file would count as one of the last two checkpoints.
        """
        self.check_owner()
        newer = [path for checkpoint_step, path in self._newest_first() if checkpoint_step > step]
        for path in (*newer, *self.folder.glob(".checkpoint-*.tmp")):
            with suppress(OSError):
                remove_file(path)

    def clear(self) -> None:
        """Remove all checkpoints; a finished training needs only its weights."""
        self.forget_beyond(-1)

    def _newest_first(self) -> list[tuple[int, Path]]:
        """Return step and path of each checkpoint, the newest first."""
        checkpoints = []
        for path in self.folder.glob("checkpoint-*.safetensors"):
            match = _NAME.fullmatch(path.name)
            if match is not None:
                checkpoints.append((int(match[1]), path))
        return sorted(checkpoints, reverse=True)


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a trained network into `model`.

    Raises:
        CheckpointError: If the file is missing, torn or of another network.
    """
    try:
        tensors = load_tensors(path, node=path.parent.name, must_be_sealed=False)
        _check_tensors(model.state_dict(), tensors)
    except CheckpointError as error:
        raise CheckpointError(
            f"the weights cannot be used: {error}. Remove the folder {path.parent} and run again."
        ) from None
    model.load_state_dict(tensors)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    return tensors


def _scaler_tensors(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    state = scaler.state_dict()
    # Double precision holds both exactly: a power of two, and a count of steps.
    return {f"scaler.{key}": torch.tensor(state[key], dtype=torch.float64) for key in _SCALER_KEYS if key in state}


def _position_tensors(position: Position) -> dict[str, Tensor]:
    tensors = {"position.seconds": torch.tensor(position.seconds, dtype=torch.float64)}
    for name, value in position.sums.items():
        tensors[f"position.sums.{name}"] = torch.tensor(value, dtype=torch.float64)
    return tensors | {"position.step": torch.tensor(position.step)}


def _position(tensors: Mapping[str, Tensor]) -> Position:
    numbers = {name: value for name, value in tensors.items() if name.startswith("position.")}
    # A file that is whole may still come from another version of this code.
    is_complete = {"position.step", "position.seconds"} <= numbers.keys()
    if not is_complete or any(number.numel() != 1 for number in numbers.values()):
        raise CheckpointError("it does not say how far the training was")
    step, seconds = int(numbers.pop("position.step")), float(numbers.pop("position.seconds"))
    sums = {name.removeprefix("position.sums."): float(number) for name, number in numbers.items()}
    return Position(step, sums, seconds)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check(training: Training, tensors: Mapping[str, Tensor]) -> None:
    """Raise if the tensors are not those of this training, before any of them is restored."""
    _check_tensors(training.model.state_dict(), _part(tensors, "model."))
    # State of a parameter has its shape or is a single number, such as a count of steps.
    parameters = _parameters(training.optimizer)
    for name, value in _part(tensors, "optimizer.").items():
        index, _, _ = name.partition(".")
        index_is_valid = index.isdecimal() and int(index) < len(parameters)
        if not index_is_valid or (value.ndim > 0 and value.shape != parameters[int(index)].shape):
            raise CheckpointError(f"it is of another optimiser: {name!r} does not fit")
    if any(value.numel() != 1 for value in _part(tensors, "scaler.").values()):
        raise CheckpointError("its scale of the loss is not a number")


def _check_tensors(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if names, types or shapes of the tensors differ."""
    for name in sorted(expected.keys() | actual.keys()):
        expected_shape, actual_shape = _shape(expected.get(name)), _shape(actual.get(name))
        if expected_shape != actual_shape:
            raise CheckpointError(f"it is of another network: {name!r} is {actual_shape} instead of {expected_shape}")


def _shape(value: Tensor | None) -> str:
    if value is None:
        return "absent"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    parameters: list[Tensor] = []
    for group in optimizer.param_groups:
        parameters += group["params"]
    return parameters


def _restore(training: Training, tensors: Mapping[str, Tensor]) -> None:
    """Put checked tensors into model, optimiser and scaler."""
    training.model.load_state_dict(_part(tensors, "model."))
    _restore_optimizer(training.optimizer, _part(tensors, "optimizer."))
    scaler, saved = training.scaler, _part(tensors, "scaler.")
    if scaler.is_enabled() and set(_SCALER_KEYS) <= saved.keys():
        # The steps since the scale last grew or shrank, after which it grows again.
        scale, growth_tracker = (float(saved[key]) for key in _SCALER_KEYS)
        scaler.load_state_dict({**scaler.state_dict(), "scale": scale, "_growth_tracker": int(growth_tracker)})


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    # The buffers get the memory layout of their parameters back: fused kernels may round differently on another.
    parameters = _parameters(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
