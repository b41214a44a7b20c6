"""How a node looks in MLflow: its params, its data set, its tags. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import EvaluationNode, Node, ProposedNode, TrialNode
from ablations.spec.fingerprint import canonical_json
from ablations.spec.parts import Placement
from ablations.spec.settings import flatten
from ablations.spec.titles import placement_title
from ablations.spec.trial import TrialSpec
from runners.state.nodes import NodeState
from runners.state.schemas import CORRECTNESS

_LONGEST_TAG = 5000


def study_tags(serves: Mapping[str, list[str]]) -> dict[str, str]:
    """Return a tag per study that names the variants a node is there."""
    return {names.study_tag(study): ", ".join(keys)[:_LONGEST_TAG] for study, keys in serves.items()}


def note_tag(text: str) -> dict[str, str]:
    """Return the tag that MLflow shows as a run's description."""
    return {names.TAG_NOTE: text[:_LONGEST_TAG]}


def result_tags(state: NodeState, result: Mapping[str, Any]) -> dict[str, str]:
    """Return what the tags of a finished run say of how it was measured, and which digest its correct images have."""
    told = {**result.get("versions", {}), "device": result.get("device", "unknown")}
    tags = {names.TAG_VERSIONS: canonical_json(told)}
    if "micro_batch" in result:
        tags[names.TAG_MICRO_BATCH] = str(result["micro_batch"])
    proposal = state.proposal()
    if proposal is not None and "outcome" in proposal:
        tags[names.TAG_OUTCOME] = proposal["outcome"]
    correctness = CORRECTNESS.find(state.folder / names.CORRECTNESS_FILE)
    if correctness is not None and correctness.get("fingerprint", state.fingerprint) == state.fingerprint:
        tags[names.TAG_CORRECTNESS] = correctness["sha256"]
    return tags


def params_of(node: Node, state: NodeState) -> dict[str, Any]:
    """Return the settings of a node under dotted names, without those that are not set; none before they are known."""
    if not isinstance(node, ProposedNode):
        return settings_of(node, state.training(node))
    proposal = state.proposal()
    if proposal is None:
        return {}
    proposed = {f"{names.PROPOSED_PREFIX}{name}": value for name, value in proposal["values"].items()}
    return settings_of(node, state.training(node)) | {key: v for key, v in proposed.items() if v is not None}


def settings_of(node: Node, spec: TrialSpec) -> dict[str, Any]:
    """Return the settings of a node that trains `spec`, or evaluates it, under dotted names."""
    params = {"seed": spec.seed, **flatten(spec.model_dump(exclude={"seed"}))}
    where = spec.model.where
    params["model.where"] = placement_title(where) if where is not None else None
    if _tuned(node):
        params["tuned"] = ", ".join(_tuned(node))
    if isinstance(node, EvaluationNode):
        change = node.intervention
        params |= {
            "intervention.aggregation": change.aggregation,
            "intervention.where": placement_title(change.where) if isinstance(change.where, Placement) else None,
            "intervention.temperature": change.temperature,
            "intervention.seed": change.seed,
        }
    return {key: value for key, value in params.items() if value is not None}


def kind_tags(node: Node) -> dict[str, str]:
    """Return what the tags of a new run say of its node beside the studies that it serves."""
    tags = {names.TAG_KIND: node.kind, names.TAG_FINGERPRINT: node.fingerprint, names.TAG_SEED: str(node.spec.seed)}
    if _tuned(node):
        tags[names.TAG_TUNED] = ", ".join(_tuned(node))
    if isinstance(node, ProposedNode):
        tags |= {names.TAG_GROUP: node.group, names.TAG_SLOT: str(node.slot)}
    return tags


def plugin_tags(state: NodeState) -> dict[str, str]:
    """Return the tag of the plug-ins with which a node was planned: those of today may be other ones."""
    plugins = (state.about() or {}).get("plugins")
    return {names.TAG_PLUGINS: canonical_json(plugins)[:_LONGEST_TAG]} if plugins else {}


def _tuned(node: Node) -> tuple[str, ...]:
    """Return which settings of a training, or of that whose checkpoint is evaluated, were tuned."""
    trial = node.trial if isinstance(node, EvaluationNode) else node
    return trial.tuned if isinstance(trial, TrialNode) else ()


def dataset_input(spec: TrialSpec) -> Any:
    """Return the data set of a trial as an input that MLflow can log."""
    from mlflow.entities import Dataset, DatasetInput

    facts = spec.data.facts
    dataset = Dataset(
        name=facts.name,
        digest=(facts.digest or "unknown")[:36],
        source_type="local",
        source=canonical_json({"source": facts.source, "licence": facts.licence}),
        profile=canonical_json({"sha256": facts.digest, "classes": facts.num_classes}),
    )
    return DatasetInput(dataset=dataset)
