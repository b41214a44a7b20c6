"""This module makes a node's params, tags and data set for MLflow. It writes nothing.

`runners.tracking.tracker` and `runners.tracking.summaries` write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import Node, ProposedNode
from ablations.spec.fingerprint import canonical_json
from ablations.spec.parts import Intervention, Placement
from ablations.spec.settings import flatten
from ablations.spec.titles import placement_title
from ablations.spec.trial import TrialSpec
from runners.state.nodes import NodeState
from runners.state.schemas import CORRECTNESS

# Characters that every store of MLflow accepts.
_LONGEST_TAG = 5000


def study_tags(serves: Mapping[str, list[str]]) -> dict[str, str]:
    """Return a tag per study that a node serves, with the keys of its variants there."""
    return {names.study_tag(study): ", ".join(keys)[:_LONGEST_TAG] for study, keys in serves.items()}


def note_tag(text: str) -> dict[str, str]:
    """Return the tag that MLflow shows as a run's description."""
    return {names.TAG_NOTE: text[:_LONGEST_TAG]}


def result_tags(state: NodeState, result: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a finished run about its measurement: versions, memory, micro-batch, outcome, digest."""
    environment = {**result.get("versions", {}), "device": result.get("device", "unknown")}
    tags = {names.TAG_VERSIONS: canonical_json(environment)}
    memory = {"main": result.get("peak_memory"), "gpu": result.get("peak_gpu_memory")}
    if memory["main"] is not None:
        peaks = {name: peak for name, peak in memory.items() if peak is not None}
        tags[names.TAG_PEAK_MEMORY] = canonical_json(peaks)
    if "micro_batch" in result:
        tags[names.TAG_MICRO_BATCH] = str(result["micro_batch"])
    proposal = state.proposal()
    if proposal is not None and "outcome" in proposal:
        tags[names.TAG_OUTCOME] = proposal["outcome"]
    # The file may be of another node, if it was copied here.
    correctness = CORRECTNESS.find(state.folder / names.CORRECTNESS_FILE)
    if correctness is not None and correctness.get("fingerprint", state.fingerprint) == state.fingerprint:
        tags[names.TAG_CORRECTNESS] = correctness["sha256"]
    return tags


def machine_tag(state: NodeState) -> dict[str, str]:
    """Return the tag of the machine on which the last attempt at a node ran, if the attempt has noted it."""
    attempt = state.lease()
    if attempt is None or not attempt.machine:
        return {}
    return {names.TAG_VERSIONS: canonical_json(dict(attempt.machine))}


def params_of(node: Node, state: NodeState) -> dict[str, Any]:
    """Return the settings of a node under dotted names, without unset ones; empty before they are proposed."""
    proposed: dict[str, Any] = {}
    if node.optimisation is not None:
        proposal = state.proposal()
        if proposal is None:
            return {}
        for name, value in proposal["values"].items():
            if value is not None:
                proposed[f"{names.PROPOSED_PREFIX}{name}"] = value
    return spec_params(node, state.training(node)) | proposed


def spec_params(node: Node, spec: TrialSpec) -> dict[str, Any]:
    """Return the settings of a node that trains `spec`, or evaluates it, under dotted names."""
    params = {"seed": spec.seed, **flatten(spec.model_dump(exclude={"seed"}))}
    params["model.where"] = spec.model.where
    if node.training.tuned:
        params["tuned"] = ", ".join(node.training.tuned)
    if node.file is not None:
        params["checkpoint.file"] = node.file.name
        params |= {f"checkpoint.{name}": value for name, value in node.file.identity.items()}
    if node.intervention is not None:
        for name in Intervention.model_fields:
            params[f"intervention.{name}"] = getattr(node.intervention, name)
    for name in ("model.where", "intervention.where"):
        if isinstance(params.get(name), Placement):
            # A placement has fields, but a reader takes it for one value.
            params[name] = placement_title(params[name])
    return {key: value for key, value in params.items() if value is not None}


def kind_tags(node: Node) -> dict[str, str]:
    """Return the tags of a new run about its node, without those of the studies that it serves."""
    tags = {names.TAG_KIND: node.kind, names.TAG_FINGERPRINT: node.fingerprint, names.TAG_SEED: str(node.spec.seed)}
    if node.training.tuned:
        tags[names.TAG_TUNED] = ", ".join(node.training.tuned)
    if node.file is not None:
        tags[names.TAG_CHECKPOINT] = node.file.sha256
    if isinstance(node, ProposedNode):
        tags |= {names.TAG_GROUP: node.group, names.TAG_SLOT: str(node.slot)}
    return tags


def plugin_tags(state: NodeState) -> dict[str, str]:
    """Return the tag of the plug-ins with which a node was planned, which may differ from those loaded now."""
    plugins = (state.about() or {}).get("plugins")
    return {names.TAG_PLUGINS: canonical_json(plugins)[:_LONGEST_TAG]} if plugins else {}


def dataset_input(spec: TrialSpec) -> Any:
    """Return the data set of a trial as an input that MLflow can log."""
    from mlflow.entities import Dataset, DatasetInput

    facts = spec.data.facts
    dataset = Dataset(
        name=facts.name,
        # MLflow takes no longer digest; `profile` has all of it.
        digest=(facts.digest or "unknown")[:36],
        source_type="local",
        source=canonical_json({"source": facts.source, "licence": facts.licence}),
        profile=canonical_json({"sha256": facts.digest, "classes": facts.num_classes}),
    )
    return DatasetInput(dataset=dataset)
