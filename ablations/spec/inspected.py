"""This module defines the spec of a network that was trained elsewhere: its file, its architecture, the test images.

Nothing is trained, so that nothing of a training is in such a spec, in its JSON or in its fingerprint. In place of
hyperparameters stands the SHA-256 of the checkpoint file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import facts_of
from ablations.errors import SpecError
from ablations.spec.parts import DataSpec, Frozen, PositiveFloat
from ablations.spec.settings import Settings, explain, merge, nest, unread
from ablations.spec.trial import TrialSpec, check_images

MEASURED_DATA = frozenset({"name", "root", "download", "workers", "image_size", "test_images"})
"""The settings of the data that a measurement reads; all others are about training images."""


class CheckpointFile(Frozen):
    """A checkpoint that was trained elsewhere, known by the SHA-256 of its file.

    Attributes:
        path: Its absolute path where the plan was made; not part of a fingerprint.
        temperature: τ of the softmax, for a file that does not hold it.
    """

    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    temperature: PositiveFloat | None = None

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.path).name

    @property
    def identity(self) -> dict[str, Any]:
        """The part of a fingerprint, as JSON."""
        return identity_of(self.model_dump(mode="json"))


def identity_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a checkpoint file's JSON that are part of a fingerprint."""
    # A temperature that is not given adds nothing, and the path never does: the file may be moved.
    members = ("sha256", "temperature")
    return {key: described[key] for key in members if described.get(key) is not None}


class MeasuredData(DataSpec):
    """The images on which a network is measured without being trained: the test split, which is all that is read."""

    @property
    def facts(self) -> DatasetFacts:
        """The facts of the data set; those of files in a folder are of the test split alone.

        Raises:
            DatasetError: The files are missing or not laid out as they must be.
        """
        return facts_of(self.name, self.root, self.image_size, download=bool(self.download), test_only=True)

    @model_serializer(mode="wrap")
    def _without_training_images(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key in MEASURED_DATA}


class NetworkSpec(TrialSpec):
    """The architecture of a network that was trained elsewhere, and the images that it is measured on.

    It stands where the spec of a trial stands. `train` has its defaults there, which nothing reads, and is in no dump.
    """

    data: MeasuredData = MeasuredData()

    @model_validator(mode="after")
    def _fits_together(self) -> NetworkSpec:
        check_images(self.data, ("test_images",))
        return self

    @model_serializer(mode="wrap")
    def _without_training(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key != "train"}


def read_spec(described: Mapping[str, Any]) -> TrialSpec:
    """Return the spec of a trial, or of a network that was trained elsewhere, from its JSON.

    Raises:
        ValidationError: It is no spec.
    """
    # The JSON of a trial always has a training and that of a network never, so no other mark is needed.
    if "train" in described:
        return TrialSpec.model_validate(described)
    return NetworkSpec.model_validate(described)


def is_measured(setting: str) -> bool:
    """Return True if a setting, by its dotted name, counts for a network that was trained elsewhere."""
    group, _, name = setting.partition(".")
    return group == "model" or (group == "data" and name in MEASURED_DATA)


def resolve_network(layers: Iterable[Settings], changes: Settings) -> NetworkSpec:
    """Return the spec that `changes` make of the `layers`, of which the settings of a training are dropped.

    Args:
        layers: General settings, the weakest first.
        changes: Settings of the network itself, the strongest; each must be read.

    Raises:
        SpecError: If a value is invalid, or nothing reads a setting in `changes`.
    """
    values = {key: value for key, value in merge([*layers, changes]).items() if is_measured(key)}
    # Rules ask for settings that no measurement reads; their defaults will do.
    reasons = unread(merge([values]))
    for key in changes:
        if key in reasons:
            raise SpecError(f"{key} = {changes[key]!r} would be read by nothing: {reasons[key]}.")
    settings = {key: value for key, value in values.items() if key not in reasons}
    try:
        # Nothing is drawn, so that one seed stands for all: a network has one spec.
        return NetworkSpec.model_validate({**nest(settings), "seed": 0})
    except ValidationError as error:
        raise SpecError(explain(error)) from None
