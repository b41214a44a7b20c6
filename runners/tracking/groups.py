"""The run above the trials of one tuning or search: who shares them, what was found, what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations import vocabulary as names
from ablations.nodes import ProposedNode

if TYPE_CHECKING:
    from runners.tracking.nodes import Tracker

_KINDS: Mapping[str, names.Kind] = {"tuning": "tuned", "search": "searched"}


def group_run(tracker: Tracker, node: ProposedNode, served: Mapping[str, str]) -> str:
    """Returns the run above the trials of a node's group, opened if there is none yet.

    Args:
        tracker: Where to.
        node: One of the trials.
        served: Tags that name the rows it serves.
    """
    found = find_group_run(tracker, node.group)
    if found is None:
        title = f"{node.kind.capitalize()} of {node.subject}"
        tags = {
            names.TAG_KIND: _KINDS[node.kind],
            names.TAG_GROUP: node.group,
            **tracker.common_tags(),
            **served,
        }
        found = tracker.create_run(title, tags, {f"range.{name}": factor for name, factor in node.factors.items()})
        # A heading: whether something goes on below it, the runs there say.
        tracker.client.set_terminated(found, status="FINISHED")
    return found


def find_group_run(tracker: Tracker, group: str) -> str | None:
    """Returns the run above the trials of a group, or `None` if there is none."""
    kinds = set(_KINDS.values())
    found = [
        run
        for run in tracker.search(f"tags.`{names.TAG_GROUP}` = '{group}'")
        if run.data.tags.get(names.TAG_KIND) in kinds
    ]
    return str(found[-1].info.run_id) if found else None


def finish_group(
    tracker: Tracker, group: str, *, found: Mapping[str, Any], metrics: Mapping[str, float], is_whole: bool
) -> None:
    """Ends the run above a group with what was found; does nothing where no trial has been tracked.

    Args:
        tracker: Where to.
        group: The group.
        found: Values by setting. Each launch that gives a larger budget may find others, so they are tags.
        metrics: What it took, and how good that is.
        is_whole: Whether all trials of the budget have ended.
    """
    run_id = find_group_run(tracker, group)
    if run_id is None:
        return
    for key, value in found.items():
        tracker.client.set_tag(run_id, f"{names.TAG_FOUND_PREFIX}{key}", str(value))
    tracker.write(run_id, [{"step": 0, "time": int(time.time() * 1000), "metrics": dict(metrics)}])
    tracker.client.set_terminated(run_id, status="FINISHED" if is_whole else "KILLED")
