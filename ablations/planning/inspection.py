"""This module reads the option `inspect`: names of a study's networks, or files that were trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablations.errors import SpecError
from ablations.files.checkpoint_file import network_name, read_checkpoint
from ablations.planning.request import (
    INSPECT_KEY,
    INSPECT_TEMPERATURE_KEY,
    Request,
    checkpoint_path,
    is_checkpoint,
)
from ablations.spec.inspected import CheckpointFile
from ablations.spec.settings import explain
from ablations.studies import attention_profile, cost
from ablations.study import InspectedNetwork, Study

_FORMS = {study.name: study for study in (attention_profile.ELSEWHERE, cost.ELSEWHERE)}
"""The forms of built-in studies whose variants are trainings, on a network that is there already."""


def choose_networks(studies: Sequence[Study], request: Request) -> list[Study]:
    """Return studies at the preset of a request, inspecting the networks that it asks for.

    Raises:
        SpecError: If `inspect` is no list of networks, names both networks and files, or is read by nothing.
        StudyError: If a file is to be inspected by a study that trains its variants.
        UnknownNameError: If a study has no network of a name.
    """
    values = request.inspected
    at_preset = [study.at(request.preset.name) for study in studies]
    files = [value for value in values if _is_file(value, studies)]
    if files and len(files) < len(values):
        raise SpecError(f"{INSPECT_KEY} = {','.join(values)} names networks and files. Name one or the other.")
    if files:
        networks = _inspected(files, request.overrides.get(INSPECT_TEMPERATURE_KEY))
        # The studies as they are: a preset cuts trainings down, of which there are none.
        return [study.inspecting_checkpoints(_counted(networks, study), _form(study, request)) for study in studies]
    if INSPECT_TEMPERATURE_KEY in request.overrides:
        raise SpecError(f"nothing reads {INSPECT_TEMPERATURE_KEY}: {INSPECT_KEY} names no checkpoint.")
    if not values:
        return at_preset
    # Studies that train their variants stay as they are, as long as another study inspects networks.
    if not any(study.networks for study in at_preset):
        raise SpecError(f"nothing reads {INSPECT_KEY} = {values!r}: none of the studies inspects trained networks.")
    chosen: list[Study] = []
    for study in at_preset:
        chosen.append(study.inspecting(values) if study.networks else study)
    return chosen


def _is_file(value: str, studies: Sequence[Study]) -> bool:
    # Names of networks go first: a file that is called like one is given with its folder.
    for study in studies:
        if any(network.name == value for network in study.networks):
            return False
    # A path to nothing is a file that is missing, and not the name of a network.
    return is_checkpoint(value) or Path(value).parent != Path()


def _inspected(files: Sequence[str], temperature: Any) -> list[InspectedNetwork]:
    networks: list[InspectedNetwork] = []
    for file in files:
        path = Path(file)
        name = network_name(path)
        # Files of one name in several folders are told apart by their paths, in which a colon would end the name.
        if any(network.name == name for network in networks):
            name = str(path).replace(":", "-")
        try:
            network = InspectedNetwork(name=name, label=path.name, checkpoint=file, temperature=temperature)
        except ValidationError as error:
            raise SpecError(f"{INSPECT_KEY}: {explain(error)}") from None
        networks.append(network)
    names = [network.name for network in networks]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"{INSPECT_KEY} names the checkpoint {name} twice. Keep one.")
    return networks


def _form(study: Study, request: Request) -> Study | None:
    """Return the form of a study on a checkpoint, if that is not its own."""
    form = _FORMS.get(study.name)
    if form is cost.ELSEWHERE and request.base().model.layer in ("static", "adopted"):
        # It is static itself, or came with its layers: there is no other network to hold it against.
        own = form.variant(cost.ITS_OWN)
        return form.model_copy(update={"variants": (own,), "reference": own.name})
    return form


def _counted(networks: list[InspectedNetwork], study: Study) -> list[InspectedNetwork]:
    if not study.is_about_cost:
        return networks
    # To count a network its settings are all there is, so those that its file records are taken for its own.
    counted: list[InspectedNetwork] = []
    for network in networks:
        counted.append(network.model_copy(update={"changes": {**recorded_settings(network), **network.changes}}))
    return counted


def checkpoint_file(network: InspectedNetwork) -> CheckpointFile:
    """Return the file of a network that was trained elsewhere, with the digest of its content.

    Raises:
        SpecError: It is missing or cannot be read.
    """
    assert network.checkpoint is not None
    path = checkpoint_path(network.checkpoint)
    return CheckpointFile(path=str(path), sha256=read_checkpoint(path).sha256, temperature=network.temperature)


def recorded_settings(network: InspectedNetwork) -> Mapping[str, Any]:
    """Return the model settings that a file of ours records; none for a file from elsewhere.

    Raises:
        SpecError: The file is missing or cannot be read.
    """
    assert network.checkpoint is not None
    return read_checkpoint(checkpoint_path(network.checkpoint)).settings


def check_not_inspecting(request: Request, purpose: str) -> None:
    """Raise `SpecError` if a request inspects networks that were trained elsewhere, where networks must be trained."""
    for value in request.inspected:
        if is_checkpoint(value):
            raise SpecError(f"{purpose}, and {value} was trained elsewhere. Leave {INSPECT_KEY} out.")
