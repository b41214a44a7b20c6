"""Completes the selection of `report` and `bundle`: by the last run, or by the newest report of the first study.

It imports MLflow, so the verbs import it only when they read the store.
"""

from __future__ import annotations

import json
from dataclasses import replace

from ablations.invocation import complete_invocation
from ablations.planning.plan import Plan
from ablations.registry import split_name, study_name
from runners.api.plans import as_last_time, find_plan, last_selection
from runners.api.selection import Selection
from runners.importing import without_collection
from runners.tracking import prepare_store

with without_collection():
    from reports.collect.summary_runs import latest_request, seeds_at_last_look


def as_reported(selection: Selection) -> tuple[Selection, Plan]:
    """Return a selection completed by the last run or the newest report, as `report` means it, and its plan.

    Plug-ins are loaded on the way.
    """
    runs_dir, uri, is_scaled = selection.runs_dir, selection.tracking_uri, selection.is_scaled
    previous = last_selection(runs_dir)
    # Studies of the last run without a preset mean that run; other studies mean their own newest report.
    is_last_run = not selection.all_studies and _without_rows(selection) <= _without_rows(previous)
    if is_last_run:
        selection = as_last_time(selection, previous)
    selection.load_plugins()
    # Before the newest report is looked up in it.
    prepare_store(uri)
    if not is_scaled and not is_last_run:
        selection = as_last_report(selection)
    # From here on, messages that suggest a command name the studies and the scale that were meant.
    complete_invocation(**selection.as_options())
    plan = find_plan(selection)
    # Without the record of the last run, for example on another machine, the store knows how far the seeds had come.
    if selection.until_decided and not selection.seeds_by_study:
        plan = _as_last_looked_at(plan, selection)
    return selection, plan


def _without_rows(selection: Selection) -> set[str]:
    return {split_name(name)[0] for name in selection.studies}


def _as_last_looked_at(plan: Plan, selection: Selection) -> Plan:
    """Return a plan with a stopping rule with the seeds that its studies had in their last report under that rule."""
    seeds = seeds_at_last_look(plan, selection.tracking_uri)
    return find_plan(replace(selection, seeds_by_study=seeds))


def as_last_report(selection: Selection) -> Selection:
    """Return a selection at the scale of the newest tracked summary of its first study, if there is one."""
    if not selection.studies:
        return selection
    tracked = latest_request(study_name(split_name(selection.studies[0])[0]), selection.tracking_uri)
    if tracked is None:
        return selection
    # As JSON, which the parser of `--set` reads back as the same value and type.
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in tracked["overrides"].items())
    tuned_from = selection.tuned_from
    if tuned_from is None and not selection.tuned:
        tuned_from = tracked["tuned_from"]
    return replace(
        selection,
        preset=tracked["preset"],
        overrides=overrides,
        seeds=tracked["seeds"],
        # What was asked for on the command line is kept; the rest is that of the report.
        canary=selection.canary or tracked["canary"],
        tuned_from=tuned_from,
        until_decided=selection.until_decided or tracked["max_seeds"] is not None,
        max_seeds=selection.max_seeds or tracked["max_seeds"],
    )
