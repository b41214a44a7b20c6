"""This module makes `Results` of the runs of a plan: it chooses the run of each cell and reads the files that it needs.

One paged search brings every run with its last metrics; only the curves of trials, the attention profiles of a study
about them and the correct images of evaluations of one checkpoint cost a file each. What the store holds beside the
plan (other projects, deleted or failed runs) does not disturb.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from ablations import vocabulary as names
from ablations.errors import ReportError
from ablations.invocation import as_named, suggested_command
from ablations.planning.plan import Cell, Plan
from ablations.spec.fingerprint import SHORT
from ablations.stores.addresses import shown
from reports.collect.attention import attention_rows
from reports.collect.computing.account import account
from reports.collect.correctness import compared_by_image, correct_images
from reports.collect.curves import curve_rows
from reports.collect.identity import contradiction
from reports.collect.results import (
    ATTENTION_COLUMNS,
    CELL_COLUMNS,
    CURVE_COLUMNS,
    MISSING,
    RUN_COLUMNS,
    Results,
    in_order,
)
from reports.collect.stores.opening import open_store
from reports.collect.summary_runs import frozen_in_store, launches_of, looks_of
from reports.collect.tracked_runs import AGREE, TrackedRun, counting_run, finite, group_runs, json_object
from reports.collect.unlearned import why_unlearned
from reports.content.plan_words import can_be_drawn, experiments_of, trials_of

_CELL_PREFIXES = ("test/", "val/", "cost/")


def collect(plan: Plan, tracking_uri: str) -> Results:
    """Return the results that the tracking store holds for `plan`.

    A cell is looked up by its fingerprint among the finished runs; of two, the newest counts, with a warning if their
    deciding metrics differ by more than 1e-6. A run that was done anew on request replaces the earlier one.

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    # All reads are within this block, so that any error of the store is explained.
    with open_store(tracking_uri) as store:
        tracked = list(store.runs(experiments_of(plan)))
        runs, left_out = _own_runs(plan, tracked)
        chosen: dict[str, TrackedRun] = {}
        finished: dict[str, TrackedRun] = {}
        failed = 0
        for key, candidates in runs.items():
            run = chosen[key] = counting_run(candidates)
            if run.finished:
                finished[key] = run
            elif run.status == "failed":
                failed += 1
        if not finished:
            raise ReportError(_nothing(plan, tracking_uri, failed))
        drawn, profiled, by_image = _nodes_with_files(plan)
        curves = list(curve_rows(store, _present(drawn, finished)))
        attention, unreadable = attention_rows(store, _present(profiled, finished))
        correctness, unusable = correct_images(store, _present(by_image, chosen))
        frozen, unread = frozen_in_store(store, plan, tracked)
    results = Results(
        cells=_cell_frame(plan.cells, chosen),
        curves=pd.DataFrame(curves, columns=list(CURVE_COLUMNS)),
        runs=pd.DataFrame(_run_rows(plan, finished), columns=list(RUN_COLUMNS)),
        launches=in_order(launches_of(plan, tracked)),
        warnings=(*left_out, *_disagreements(plan, runs), *unreadable, *unusable, *unread),
        attention=pd.DataFrame(attention, columns=list(ATTENTION_COLUMNS)),
        canaries=_cell_frame(plan.canaries, chosen),
        costs=_cell_frame(plan.cost_cells, chosen),
        correctness=correctness,
        unlearned=_unlearned(plan, finished),
        computing=account(plan, tracked, {run.run_id for run in finished.values()}),
    )
    return results.with_looks(looks_of(plan, tracked)).with_frozen(frozen)


def what_became_of(tracking_uri: str, run_ids: Iterable[str]) -> dict[str, str]:
    """Return the present state in the store of each run that a report is no longer computed from.

    Raises:
        TrackingError: If the store cannot be reached.
    """
    with open_store(tracking_uri) as store:
        return {run_id: _fate(store.run(run_id)) for run_id in dict.fromkeys(run_ids)}


def _fate(run: TrackedRun | None) -> str:
    if run is None:
        return "is not in the store"
    if run.deleted:
        return "was deleted"
    if run.superseded_by is not None:
        return f"was done anew, as run {run.superseded_by}"
    if run.finished:
        return "is finished, but is not one of those that the plan asks for"
    return run.status


def _own_runs(plan: Plan, tracked: Iterable[TrackedRun]) -> tuple[dict[str, list[TrackedRun]], list[str]]:
    """Return the runs of the plan's nodes by fingerprint, and a sentence about each that is not what its tags say."""
    fingerprints = {node.fingerprint for node in plan.nodes}
    candidates = [run for run in tracked if run.measured and run.fingerprint in fingerprints]
    own_runs: dict[str, list[TrackedRun]] = {}
    left_out = []
    for key, runs in group_runs(candidates, lambda run: run.fingerprint).items():
        for run in runs:
            problem = contradiction(run, plan.node(key))
            if problem is None:
                own_runs.setdefault(key, []).append(run)
            else:
                left_out.append(f"Run {run.run_id} is not of fingerprint {key[:SHORT]}, as it says: {problem}.")
    return own_runs, left_out


def _disagreements(plan: Plan, runs: Mapping[str, list[TrackedRun]]) -> Iterator[str]:
    metrics = {study.name: study.metric for study in plan.studies}
    reported = set()
    for cell in (*plan.cells, *plan.canaries):
        metric = metrics[cell.study]
        # Cells of several studies may share a node; its disagreement is one warning.
        if (cell.fingerprint, metric) in reported:
            continue
        values, texts = [], []
        for run in runs.get(cell.fingerprint, []):
            # Failed runs may hold half-trained metrics, which no finished run must agree with.
            if run.finished:
                value = run.metrics.get(metric, math.nan)
                values.append(value)
                texts.append(f"{value:.6g} ({run.run_id})")
        if not all(_agree(values[0], value) for value in values[1:]):
            reported.add((cell.fingerprint, metric))
            yield (
                f"{len(values)} finished runs of fingerprint {cell.fingerprint[:SHORT]} ({cell.study}, {cell.key}, "
                f"seed {cell.seed}) disagree on {metric}: {', '.join(texts)}. The newest, first here, is used."
            )


def _agree(value: float, second_value: float) -> bool:
    return abs(value - second_value) <= AGREE or (math.isnan(value) and math.isnan(second_value))


def _cell_frame(cells: Iterable[Cell], chosen: Mapping[str, TrackedRun]) -> pd.DataFrame:
    rows = [_cell_row(cell, chosen.get(cell.fingerprint)) for cell in cells]
    # A frame without rows has no columns, and a later selection by name would fail.
    if not rows:
        return pd.DataFrame(columns=list(CELL_COLUMNS))
    return pd.DataFrame(rows)


def _cell_row(cell: Cell, run: TrackedRun | None) -> dict[str, Any]:
    run_id, status = "", MISSING
    if run is not None:
        run_id, status = run.run_id, run.status
    columns = (cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint, run_id, status)
    row: dict[str, Any] = dict(zip(CELL_COLUMNS, columns, strict=True))
    if run is not None and run.finished:
        for name, value in run.metrics.items():
            if name.startswith(_CELL_PREFIXES) or name == names.SECONDS:
                row[name] = finite(value)
    return row


def _unlearned(plan: Plan, finished: Mapping[str, TrackedRun]) -> dict[str, str]:
    """Return the finished trainings that never learned, and networks from elsewhere at chance, with the reason."""
    reasons = {}
    for key, node in {**plan.trials, **plan.networks}.items():
        if key in finished:
            reason = why_unlearned(node.spec, finished[key].metrics)
            if reason:
                reasons[key] = reason
    return reasons


def _present(fingerprints: Iterable[str], runs: Mapping[str, TrackedRun]) -> list[TrackedRun]:
    """Return the runs of those fingerprints that have one."""
    return [runs[key] for key in fingerprints if key in runs]


def _nodes_with_files(plan: Plan) -> tuple[list[str], Iterable[str], Iterable[str]]:
    """Return the nodes that cost a file: trials whose curves are drawn, trials with a profile, nodes with images."""
    drawn: set[str] = set()
    # A dictionary has every node once, in the plan's order, which a set would not keep.
    profiled: dict[str, None] = {}
    by_image: dict[str, None] = {}
    for study in plan.studies:
        trials = dict.fromkeys(trials_of(plan, study.name))
        if can_be_drawn(plan, study):
            drawn |= trials.keys()
        if study.metric == names.ATTENTION_GAP:
            profiled |= trials
        by_image |= dict.fromkeys(compared_by_image(study, plan))
    return [key for key in plan.trials if key in drawn], profiled, by_image


def _run_rows(plan: Plan, finished: Mapping[str, TrackedRun]) -> list[tuple[Any, ...]]:
    rows = []
    for node in plan.nodes:
        run = finished.get(node.fingerprint)
        if run is not None:
            identity = (run.run_id, run.name or node.title, run.kind, node.fingerprint, node.spec.seed)
            versions = json_object(run.tags.get(names.TAG_VERSIONS))
            rows.append((*identity, run.commit, run.dirty, versions, run.ended, run.value(names.SECONDS)))
    return rows


def _nothing(plan: Plan, uri: str, failed: int) -> str:
    """Return the message that there is nothing to report, with the command that changes that."""
    preset = plan.request.preset.name
    studies = [study.name for study in plan.studies]
    message = (
        f"the store {shown(uri)} holds no finished run of {' '.join(studies)} with preset {preset!r} and these settings"
    )
    study_names = list(map(as_named, studies))
    if failed:
        status_command = suggested_command("status", study_names, preset=preset)
        retry_command = suggested_command("retry", study_names, preset=preset)
        # A line each, so that they can be copied.
        return f"{message}: {failed} failed.\n  Why: {status_command}\n  Once more: {retry_command}"
    return f"{message}. Run it first: {suggested_command('run', study_names, preset=preset)}"
