"""The run above the trials of one tuning or search: who shares them, what was found, what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import ProposedNode
from runners.tracking.experiment import Experiment

_KINDS: Mapping[str, names.Kind] = {"tuning": "tuned", "search": "searched"}


def group_run(experiment: Experiment, node: ProposedNode, tags: Mapping[str, str]) -> str:
    """Return the run above the trials of a node's group, opened if there is none yet.

    Args:
        experiment: Where to.
        node: One of the trials.
        tags: Tags that name the rows it serves, and those that every run carries.
    """
    found = find_group_run(experiment, node.group)
    if found is None:
        title = f"{node.kind.capitalize()} of {node.subject}"
        tags = {names.TAG_KIND: _KINDS[node.kind], names.TAG_GROUP: node.group, **tags}
        found = experiment.create_run(title, tags, {f"range.{name}": factor for name, factor in node.factors.items()})
        # A heading: whether something goes on below it, the runs there say.
        experiment.client.set_terminated(found, status="FINISHED")
    return found


def find_group_run(experiment: Experiment, group: str) -> str | None:
    """Return the run above the trials of a group, or `None` if there is none."""
    kinds = set(_KINDS.values())
    found = [
        run
        for run in experiment.search(f"tags.`{names.TAG_GROUP}` = '{group}'")
        if run.data.tags.get(names.TAG_KIND) in kinds
    ]
    return str(found[-1].info.run_id) if found else None


def finish_group(
    experiment: Experiment, group: str, *, found: Mapping[str, Any], metrics: Mapping[str, float], is_whole: bool
) -> None:
    """End the run above a group with what was found; do nothing where no trial has been tracked.

    Args:
        experiment: Where to.
        group: The group.
        found: Values by setting. Each launch that gives a larger budget may find others, so they are tags.
        metrics: What it took, and how good that is.
        is_whole: Whether all trials of the budget have ended.
    """
    run_id = find_group_run(experiment, group)
    if run_id is None:
        return
    for key, value in found.items():
        experiment.client.set_tag(run_id, f"{names.TAG_FOUND_PREFIX}{key}", str(value))
    experiment.write(run_id, [{"step": 0, "time": int(time.time() * 1000), "metrics": dict(metrics)}])
    experiment.client.set_terminated(run_id, status="FINISHED" if is_whole else "KILLED")
