"""Turns selections into plans, and completes them: by those of the last run, or for a plan that was trimmed."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ablations.errors import AblationError
from ablations.planning.plan import Plan
from ablations.registry import available_studies, split_name, study_name
from runners.api.selection import Selection
from runners.state.last_run import last_run
from runners.state.nodes import StateStore


def find_plan(selection: Selection) -> Plan:
    """Return the plan of the selected studies and rows, with the nodes that are measured in the runs folder done."""
    plan = selection.plan()
    measured = StateStore(selection.layout.state).done(node.fingerprint for node in plan.nodes)
    return replace(plan, done=measured)


def last_selection(runs_dir: Path) -> Selection:
    """Return the selection of the last `run` in a folder; empty if there was none."""
    content = last_run(runs_dir)
    values: dict[str, Any] = {}
    for field in fields(Selection):
        if field.name in content:
            value = content[field.name]
            # JSON knows lists only.
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return Selection(**{**values, "runs_dir": runs_dir})


def as_last_time(selection: Selection, previous: Selection) -> Selection:
    """Return a selection completed by that of the last run.

    Preset, overrides and seeds go together: if one of them is given, none is taken from the last run.

    Raises:
        AblationError: If no study is named and nothing was run.
    """
    # Plug-ins add up: names that the last run used must stay known.
    completed = replace(selection, plugins=tuple(dict.fromkeys([*selection.plugins, *previous.plugins])))
    # A present preset with earlier overrides would make a plan that the user never meant.
    if not selection.is_scaled:
        completed = replace(completed, preset=previous.preset, overrides=previous.overrides)
        completed = replace(completed, seeds=previous.seeds, seed=previous.seed)
        completed = replace(completed, canary=selection.canary or previous.canary)
        if not selection.until_decided:
            completed = replace(completed, until_decided=previous.until_decided, max_seeds=previous.max_seeds)
        if completed.until_decided:
            completed = replace(completed, seeds_by_study=previous.seeds_by_study)
        if not selection.tuned and not selection.tuned_from:
            completed = replace(completed, tuned=previous.tuned, tuned_from=previous.tuned_from)
    if not selection.is_named:
        if not previous.is_named:
            raise AblationError("nothing was run here yet. Name studies, or another folder with --runs-dir.")
        completed = replace(completed, studies=previous.studies, all_studies=previous.all_studies)
    return completed


def as_trimmed(selection: Selection, trimmed: Plan) -> Selection:
    """Return the selection with which a user would ask for a trimmed plan, its studies as they were named."""
    names = list(selection.studies)
    if selection.all_studies:
        names += available_studies()
    remaining = {study.name for study in trimmed.studies}
    # The studies of a sweep are not called as they were asked for: they are all of what was named, or none of it.
    if trimmed.request.sweeps:
        return replace(selection, seeds=trimmed.request.seeds)
    # Several names may be of rows of one study.
    studies = tuple(name for name in dict.fromkeys(names) if study_name(split_name(name)[0]) in remaining)
    return replace(selection, studies=studies, all_studies=False, seeds=trimmed.request.seeds)
