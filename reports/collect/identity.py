"""This module checks that a tracked run is of the node that its fingerprint names: other tags and params must agree.

Only what stands in the run itself is compared, so that no file is read. Values are compared as they were written; a
setting that an earlier version did not track, or tracked under another name, says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import Node
from ablations.spec.parts import Intervention
from ablations.spec.settings import flatten
from reports.collect.tracked_runs import TrackedRun

_WITHOUT_EFFECT = frozenset({"data.root", "data.download", "data.workers", "train.devices"})
"""Settings that are not a part of the fingerprint: another machine may have others."""


def contradiction(run: TrackedRun, node: Node) -> str | None:
    """Return the contradiction between a run's own tags and params and `node`, or `None` if there is none."""
    tags, params = run.tags, run.params
    if tags.get(names.TAG_KIND, node.kind) != node.kind:
        return f"its tag says that it is a {tags[names.TAG_KIND]}, not a {node.kind}"
    if not is_same_value(tags.get(names.TAG_SEED), node.spec.seed):
        return f"its tag says seed {tags[names.TAG_SEED]}, not {node.spec.seed}"
    for key, value in _settings(node):
        if not is_same_value(params.get(key), value):
            return f"its param {key} is {params[key]}, not {value}"
    if node.intervention is not None:
        return _other_intervention(params, node.intervention)
    return None


def _other_intervention(params: Mapping[str, str], intervention: Intervention) -> str | None:
    """Return the contradiction between an evaluation's params and its intervention, or `None`."""
    for name in ("aggregation", "temperature", "seed"):
        tracked, value = params.get(f"intervention.{name}"), getattr(intervention, name)
        # What a change leaves alone is not tracked.
        if tracked is not None and value is None:
            return f"its param intervention.{name} is {tracked}, not left alone"
        if not is_same_value(tracked, value):
            return f"its param intervention.{name} is {tracked}, not {value}"
    return None


def _settings(node: Node) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a node that have one plain value, of a cost those of its network."""
    settings = {"seed": node.spec.seed, **flatten(node.spec.model_dump(exclude={"seed"}))}
    for key, value in settings.items():
        # A network that is counted for one study may be trained otherwise in another, and is counted once.
        if node.kind == "cost" and not key.startswith("model."):
            continue
        if key not in _WITHOUT_EFFECT and isinstance(value, bool | int | float | str):
            yield key, value


def is_same_value(tracked: str | None, value: Any) -> bool:
    """Return True if a tracked text says the same as a value; without a text there is nothing to contradict."""
    if tracked is None or tracked == str(value):
        return True
    try:
        # MLflow keeps text: 0.1 and 1e-1 are one number.
        return float(tracked) == float(value)
    except (TypeError, ValueError):
        return False


def check_owner(text: str, fingerprint: str) -> None:
    """Raise if a tracked file says that it belongs to another node; files of earlier versions name none.

    Raises:
        ValueError: If it belongs to another node, or is no JSON object.
    """
    content = json.loads(text)
    if not isinstance(content, Mapping) or content.get("fingerprint", fingerprint) != fingerprint:
        raise ValueError("it belongs to another node")
