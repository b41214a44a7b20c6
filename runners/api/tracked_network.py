"""This module makes the network of a tracked training for MLflow: `mlflow.pyfunc.load_model("runs:/<run>/")`.

MLflow imports it by its name, which stands in the run's file `MLmodel`, and calls `_load_pyfunc`. The network is built
by the code that is installed and gets its weights from safetensors, so that nothing from the store can execute.
`mlflow.pytorch.load_model` is not offered: both of its formats, pickle and torch.export's, may execute code when read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ablations.datasets.facts import DatasetFacts
from ablations.vocabulary import WEIGHTS_FILE
from runners.tracking.result_files import recorded_spec
from runners.training.network import build_trained_network
from runners.training.sealed_tensors import load_tensors


class TrackedNetwork:
    """The trained network of a run, as MLflow calls it."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def predict(self, images: npt.NDArray[np.float32], params: Mapping[str, Any] | None = None) -> npt.NDArray[Any]:
        """Return the logits (B, classes) of images (B, C, H, W) that are normalised as in the training.

        Args:
            params: Nothing reads them; MLflow passes them to every model.
        """
        with torch.inference_mode():
            logits: torch.Tensor = self._network(torch.from_numpy(np.ascontiguousarray(images)))
        return logits.float().numpy()

    def get_raw_model(self) -> nn.Module:
        """Return the network itself, in evaluation mode on the CPU; MLflow's model has a method of this name."""
        return self._network


# MLflow fixes the name.
def _load_pyfunc(path: str, model_config: Mapping[str, int]) -> TrackedNetwork:
    """Return the network whose record and weights lie in a folder.

    Args:
        model_config: Sizes of images and number of classes, as the data set may not be on this machine.

    Raises:
        TrackingError: If the record cannot be read.
        CheckpointError: If the weights are missing, torn or of another network.
        DyconvError: If the network needs a plug-in that is not imported.
    """
    fingerprint, spec = recorded_spec(Path(path))
    facts = DatasetFacts(
        name=spec.data.name,
        title=spec.data.name,
        num_classes=model_config["num_classes"],
        channels=model_config["channels"],
        image_size=model_config["image_size"],
        # The counts of images have no part in a network; they are here to make the facts complete.
        train_images=1,
        validation_images=1,
        test_images=1,
    )
    network = build_trained_network(spec, facts)
    network.load_state_dict(load_tensors(Path(path) / WEIGHTS_FILE, node=fingerprint, must_be_sealed=False))
    return TrackedNetwork(network.eval())
