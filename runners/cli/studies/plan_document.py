"""Writes a plan as plain data, for `plan --json`. docs/command-line.md describes the keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ablations.planning.lint import Lint
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from runners.cli.options.json_output import Json
from runners.console.tables import data_remarks, network_remarks, static_remarks, study_counts
from runners.estimates.forecast import Forecaster


def plan_document(plan: Plan, forecaster: Forecaster, lints: Sequence[Lint], likely_seeds: Iterable[str]) -> Json:
    """Return the studies, nodes and cells of a plan, how long it takes, and what study lint objects to."""
    nodes: dict[str, Collection[Node]] = {
        "trainings": plan.trials.values(),
        "evaluations": plan.evaluations.values(),
        "networks_to_load": plan.networks.values(),
        "networks_to_count": plan.costs.values(),
    }
    needed, missing = {}, {}
    for kind, members in nodes.items():
        needed[kind] = len(members)
        missing[kind] = sum(node.fingerprint not in plan.done for node in members)
    return {
        "preset": plan.request.preset.name,
        "overrides": dict(plan.request.overrides),
        "studies": [_study(plan, study.name, study.title) for study in plan.studies],
        "left_out": list(plan.left_out),
        "needed": needed,
        "missing": missing,
        "trainings_without_sharing": plan.trainings_without_sharing,
        "time": _time(plan, forecaster),
        "lints": [_lint(lint) for lint in lints],
        "likely_seeds": [line.strip() for line in likely_seeds],
        "remarks": [*network_remarks(plan), *data_remarks(plan), *static_remarks(plan)],
        "nodes": [_node(plan, node) for node in plan.nodes],
        "cells": [vars(cell) for cell in plan.all_cells],
    }


def _study(plan: Plan, name: str, title: str) -> Json:
    counts = study_counts(plan, name)
    return {
        "study": name,
        "title": title,
        "rows": counts.rows,
        "seeds": counts.seeds,
        "trainings": counts.trainings,
        "trainings_done": counts.trainings_done,
        "evaluations": counts.evaluations,
        "evaluations_done": counts.evaluations_done,
    }


def _time(plan: Plan, forecaster: Forecaster) -> Json | None:
    """Return the time in seconds that is left, as far as it is known; `None` for tasks on other machines."""
    estimate = forecaster.estimate(plan)
    if estimate is None:
        return None
    seconds = None
    if estimate.wall_seconds is not None:
        seconds = vars(estimate.wall_seconds)
    return {"seconds": seconds, "workers": forecaster.workers, "is_complete": estimate.is_complete}


def _lint(lint: Lint) -> Json:
    return {"code": lint.code, "study": lint.study, "message": lint.message, "allowed_because": lint.reason or None}


def _node(plan: Plan, node: Node) -> Json:
    return {
        "fingerprint": node.fingerprint,
        "kind": node.kind,
        "title": node.title,
        "seed": node.seed,
        "is_done": node.fingerprint in plan.done,
        "depends_on": node.depends_on,
    }
