"""This module writes the run above the trials of one tuning or search: its rows, the values found, and the cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import ProposedNode
from runners.tracking.experiment import Experiment

_KINDS: Mapping[str, names.Kind] = {"tuning": "tuned", "search": "searched"}


def group_run(experiment: Experiment, node: ProposedNode, tags: Mapping[str, str]) -> str:
    """Return the id of the run above the trials of a node's group; open the run if there is none yet.

    Args:
        node: One of the trials.
        tags: Tags that name the rows it serves, and those that every run carries.
    """
    run_id = find_group_run(experiment, node.group)
    if run_id is None:
        title = f"{node.kind.capitalize()} of {node.subject}"
        tags = {names.TAG_KIND: _KINDS[node.kind], names.TAG_GROUP: node.group, **tags}
        run_id = experiment.create_run(title, tags, {f"range.{name}": factor for name, factor in node.factors.items()})
        # The run is only a heading and ends at once; the runs below it show what goes on.
        experiment.client.set_terminated(run_id, status="FINISHED")
    return run_id


def find_group_run(experiment: Experiment, group: str) -> str | None:
    """Return the id of the run above the trials of a group, or `None` if there is none."""
    run_id: str | None = None
    # The newest run comes first. The oldest counts, in case two machines have opened one each.
    for run in experiment.search(f"tags.`{names.TAG_GROUP}` = '{group}'"):
        if run.data.tags.get(names.TAG_KIND) in _KINDS.values():
            run_id = run.info.run_id
    return run_id


def finish_group(
    experiment: Experiment, group: str, *, values: Mapping[str, Any], metrics: Mapping[str, float], is_whole: bool
) -> None:
    """End the run above a group with the values found; do nothing if no trial has been tracked.

    Args:
        values: By setting. A launch with a larger budget may find other ones, so they are tags.
        metrics: The cost and the accuracy of the values.
        is_whole: True if all trials of the budget have ended.
    """
    run_id = find_group_run(experiment, group)
    if run_id is None:
        return
    for key, value in values.items():
        experiment.client.set_tag(run_id, f"{names.TAG_FOUND_PREFIX}{key}", str(value))
    experiment.write(run_id, [{"step": 0, "time": int(time.time() * 1000), "metrics": dict(metrics)}])
    experiment.client.set_terminated(run_id, status="FINISHED" if is_whole else "KILLED")
