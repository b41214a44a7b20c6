"""This module loads a network that was trained elsewhere: its file is checked against its digest, and cannot execute.

`dyconv.load_checkpoint` reads it, whatever layout it has. What was loaded is kept in the state folder, like the weights
of a training, and from then on the file is not needed.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

import dyconv
from ablations.errors import CheckpointError, SpecError
from ablations.files.checkpoint_file import read_checkpoint
from ablations.spec.inspected import CheckpointFile
from dyconv import Layout, LoadReport
from dyconv.errors import DyconvError
from runners.training.sealed_tensors import load_tensors

_BRANCH = "{layer}.attention_branch"
_KEPT = Layout(
    name="kept",
    title="a network that was loaded before",
    recognised_by=(),
    # What was taken over from the file's sizes then has them here, too.
    may_lack=(f"{_BRANCH}.squeeze.bias", f"{_BRANCH}.excite.bias"),
    adapts=True,
    saves_temperature=True,
)


def load_inspected(file: CheckpointFile, model: nn.Module) -> LoadReport:
    """Put the weights of a checkpoint that was trained elsewhere into `model`; return what went where.

    Raises:
        CheckpointError: The file is missing or has changed since it was planned with, is no checkpoint, holds another
            network, or has no temperature where one must be given.
    """
    path = Path(file.path)
    try:
        # Before the load as well, so that a file that has changed leaves the network as it is.
        _check_digest(read_checkpoint(path).sha256, file)
        report = dyconv.load_checkpoint(model, path, temperature=file.temperature)
    except (SpecError, DyconvError) as error:
        raise CheckpointError(_advised(str(error))) from None
    # That of the bytes that were loaded: the file may have been replaced just now.
    _check_digest(report.sha256, file)
    return report


def load_kept(path: Path, model: nn.Module) -> None:
    """Put the weights that were kept of a network into `model`, whose sizes may be others than its settings say.

    Raises:
        CheckpointError: The file is missing, torn or of another network.
    """
    try:
        # First, as it checks the seal.
        load_tensors(path, node=path.parent.name)
        dyconv.load_checkpoint(model, path, layout=_KEPT)
    except (CheckpointError, DyconvError) as error:
        raise CheckpointError(
            f"the weights cannot be used: {error}. Remove the folder {path.parent} and run again."
        ) from None


def _check_digest(sha256: str, file: CheckpointFile) -> None:
    if sha256 != file.sha256:
        raise CheckpointError(
            f"the checkpoint {file.path} has changed since this was planned: its SHA-256 is {sha256}, and was "
            f"{file.sha256}. Run the study again."
        )


def _advised(message: str) -> str:
    """Return a message about a missing temperature with the setting that gives it."""
    # The library names an argument of its own, which the user of a study never writes.
    if "give temperature=" not in message:
        return message
    return f"{message} Here: --set inspect.temperature=…, or temperature under inspect in a study's file."
