"""This module reads the runs of a plan from MLflow and returns them as `Results`.

One paged search per experiment brings every run with its last metrics; only the curves of trials, the attention
profiles of a study about them and the correct images of evaluations of one checkpoint cost a file each. What the store
holds beside the plan (other projects, deleted or failed runs) does not disturb.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from ablations.addresses import shown
from ablations.errors import ReportError
from ablations.invocation import as_named, suggested_command
from ablations.launches import Record
from ablations.planning.plan import Cell, Plan
from ablations.spec.fingerprint import SHORT, canonical_json
from ablations.vocabulary import TAG_LAUNCHES
from reports.collect.correctness import Correctness, compared_by_image, read_correctness
from reports.collect.curves import curve_rows, finite, profile_rows
from reports.collect.identity import check_owner, contradiction
from reports.collect.results import (
    ATTENTION_COLUMNS,
    CELL_COLUMNS,
    CURVE_COLUMNS,
    FINISHED,
    MISSING,
    RUN_COLUMNS,
    Results,
    in_order,
)
from reports.collect.store import (
    artifact,
    explained,
    has_artifact,
    open_store,
    read_each,
    search_runs,
    without_progress_bar,
)
from reports.collect.unlearned import why_unlearned
from reports.content.plan_words import can_be_drawn, experiments_of, trials_of

_MEASURED = ("trial", "evaluation", "cost")
_CELL_PREFIXES = ("test/", "val/", "cost/")
_AGREE = 1e-6
_ROOT = names.experiment_name("", "").partition("/")[0]


def collect(plan: Plan, tracking_uri: str) -> Results:
    """Return the results that the tracking store holds for `plan`.

    A cell is looked up by its fingerprint among the finished runs; of two, the newest counts, with a warning if their
    deciding metrics differ by more than 1e-6. A run that was done anew on request replaces the earlier one.

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    with explained(tracking_uri):
        client = open_store(tracking_uri)
        # All reads are within this block, so that any error of the store is explained.
        runs, left_out = _own_runs(plan, _runs_by_fingerprint(client, plan))
        chosen = {key: _choose(candidates) for key, candidates in runs.items()}
        if not any(_status(run) == FINISHED for run in chosen.values()):
            raise ReportError(_nothing(plan, tracking_uri, sum(_status(run) == "failed" for run in chosen.values())))
        drawn = [chosen[key] for key in _drawn(plan) if key in chosen and _status(chosen[key]) == FINISHED]
        curves = list(curve_rows(client, tracking_uri, drawn))
        launches = in_order(_launches(client, plan))
        attention, unreadable = _attention(client, plan, chosen)
        correctness, unusable = _correctness(plan, chosen, tracking_uri)
    return Results(
        cells=_cell_frame(plan.cells, chosen),
        curves=pd.DataFrame(curves, columns=list(CURVE_COLUMNS)),
        runs=pd.DataFrame(_run_rows(plan, chosen), columns=list(RUN_COLUMNS)),
        launches=launches,
        warnings=(*left_out, *_disagreements(plan, runs), *unreadable, *unusable),
        attention=pd.DataFrame(attention, columns=list(ATTENTION_COLUMNS)),
        canaries=_cell_frame(plan.canaries, chosen),
        correctness=correctness,
        unlearned=_unlearned(plan, chosen),
    )


def latest_request(study_name: str, tracking_uri: str) -> dict[str, Any] | None:
    """Return the request of the newest summary run of a study, or `None` if there is none.

    The keys are `preset` (a name), `overrides` (a mapping), `seeds` (a number, or `None` for the default), `canary`
    (a bool: if there was one) and `tuned_from` (the path of the tuned values, or `None`).

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
    """
    with explained(tracking_uri):
        client = open_store(tracking_uri)
        experiments = [e.experiment_id for e in client.search_experiments(filter_string=f"name LIKE '{_ROOT}/%'")]
        if not experiments:
            return None
        # The name is compared here: no quoting of MLflow's filter language takes every name.
        for run in search_runs(client, experiments, f"tags.`{names.TAG_KIND}` = 'study'"):
            tags = run.data.tags
            if tags.get(names.TAG_STUDY_NAME) == study_name and tags.get(names.TAG_PRESET):
                return {
                    "preset": tags[names.TAG_PRESET],
                    "overrides": _json_object(tags.get(names.TAG_OVERRIDES)),
                    "seeds": _integer(tags.get(names.TAG_SEEDS)),
                    "canary": tags.get(names.TAG_CANARY) == "true",
                    "tuned_from": tags.get(names.TAG_TUNED) or None,
                }
    return None


def _launches(client: MlflowClient, plan: Plan) -> Iterator[Record]:
    """Yield the launches that earlier reports of the plan's studies at this scale came from."""
    request, study_names = plan.request, {study.name for study in plan.studies}
    # Tags hold the overrides as canonical JSON, so that equal overrides are equal texts.
    overrides = canonical_json(dict(request.overrides))
    experiment = client.get_experiment_by_name(names.experiment_name(request.preset.name, request.base().data.name))
    if experiment is None:
        return
    for run in search_runs(client, [experiment.experiment_id], f"tags.`{names.TAG_KIND}` = 'study'"):
        tags = run.data.tags
        if tags.get(names.TAG_STUDY_NAME) in study_names and tags.get(names.TAG_OVERRIDES) == overrides:
            yield from read_launches([tags])


def what_became_of(tracking_uri: str, run_ids: Iterable[str]) -> dict[str, str]:
    """Return the present state in the store of each run that a report is no longer computed from.

    Raises:
        TrackingError: If the store cannot be reached.
    """
    with explained(tracking_uri):
        client = open_store(tracking_uri)
        return {run_id: _fate(client, run_id) for run_id in dict.fromkeys(run_ids)}


def _fate(client: MlflowClient, run_id: str) -> str:
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        # MLflow has one code for an unknown id and another for a text that cannot be an id.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return "is not in the store"
        raise
    if run.info.lifecycle_stage != "active":
        return "was deleted"
    if names.TAG_SUPERSEDED in run.data.tags:
        return f"was done anew, as run {run.data.tags[names.TAG_SUPERSEDED]}"
    return "is finished, but is not one of those that the plan asks for" if _status(run) == FINISHED else _status(run)


def _runs_by_fingerprint(client: MlflowClient, plan: Plan) -> dict[str, list[Run]]:
    """Return the runs of the plan's nodes by fingerprint, the newest first."""
    fingerprints = {node.fingerprint for node in plan.nodes}
    runs: dict[str, list[Run]] = {}
    for name in experiments_of(plan):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            continue
        for run in search_runs(client, [experiment.experiment_id], f"tags.`{names.TAG_FINGERPRINT}` != ''"):
            key = run.data.tags[names.TAG_FINGERPRINT]
            is_measured = run.data.tags.get(names.TAG_KIND) in _MEASURED
            # A run that was done anew is tagged with its successor, and no longer counts.
            if key in fingerprints and is_measured and names.TAG_SUPERSEDED not in run.data.tags:
                runs.setdefault(key, []).append(run)
    return runs


def _own_runs(plan: Plan, runs: dict[str, list[Run]]) -> tuple[dict[str, list[Run]], list[str]]:
    """Return the runs that are of the nodes that their tags name, and a sentence about each that is left out."""
    own_runs: dict[str, list[Run]] = {}
    left_out = []
    for key, candidates in runs.items():
        for run in candidates:
            problem = contradiction(run, plan.node(key))
            if problem is None:
                own_runs.setdefault(key, []).append(run)
            else:
                left_out.append(f"Run {run.info.run_id} is not of fingerprint {key[:SHORT]}, as it says: {problem}.")
    return own_runs, left_out


def _status(run: Run) -> str:
    return str(run.info.status).lower()


def _choose(runs: list[Run]) -> Run:
    """Return the newest finished run, or the newest of any status if none finished."""
    return next((run for run in runs if _status(run) == FINISHED), runs[0])


def _disagreements(plan: Plan, runs: dict[str, list[Run]]) -> Iterator[str]:
    metrics = {study.name: study.metric for study in plan.studies}
    reported = set()
    for cell in (*plan.cells, *plan.canaries):
        metric = metrics[cell.study]
        # Failed runs may hold half-trained metrics, which no finished run must agree with.
        finished = [run for run in runs.get(cell.fingerprint, []) if _status(run) == FINISHED]
        values = [run.data.metrics.get(metric, math.nan) for run in finished]
        # Cells of several studies may share a node; its disagreement is one warning.
        if (cell.fingerprint, metric) not in reported and any(not _agree(values[0], value) for value in values[1:]):
            reported.add((cell.fingerprint, metric))
            listed = ", ".join(f"{value:.6g} ({run.info.run_id})" for run, value in zip(finished, values, strict=True))
            yield (
                f"{len(finished)} finished runs of fingerprint {cell.fingerprint[:SHORT]} ({cell.study}, {cell.key}, "
                f"seed {cell.seed}) disagree on {metric}: {listed}. The newest, first here, is used."
            )


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= _AGREE or (math.isnan(one) and math.isnan(other))


def _cell_frame(cells: Iterable[Cell], chosen: dict[str, Run]) -> pd.DataFrame:
    rows = [_cell_row(cell, chosen.get(cell.fingerprint)) for cell in cells]
    # A frame without rows has no columns, and a later selection by name would fail.
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(CELL_COLUMNS))


def _cell_row(cell: Cell, run: Run | None) -> dict[str, Any]:
    status = _status(run) if run is not None else MISSING
    run_id = run.info.run_id if run is not None else ""
    columns = (cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint, run_id, status)
    row: dict[str, Any] = dict(zip(CELL_COLUMNS, columns, strict=True))
    if run is not None and status == FINISHED:
        for name, value in run.data.metrics.items():
            if name.startswith(_CELL_PREFIXES) or name == names.SECONDS:
                row[name] = finite(value)
    return row


def _unlearned(plan: Plan, chosen: dict[str, Run]) -> dict[str, str]:
    """Return the finished trainings that never learned, with the reason."""
    finished = ((key, node.spec, chosen[key]) for key, node in plan.trials.items() if key in chosen)
    reasons = {key: why_unlearned(spec, run.data.metrics) for key, spec, run in finished if _status(run) == FINISHED}
    return {key: reason for key, reason in reasons.items() if reason}


def _drawn(plan: Plan) -> Iterator[str]:
    """Yield the trials whose curves a figure shows; each costs a file."""
    studies = [study.name for study in plan.studies if can_be_drawn(plan, study)]
    fingerprints = {key for study in studies for key in trials_of(plan, study)}
    yield from (key for key in plan.trials if key in fingerprints)


def _attention(client: MlflowClient, plan: Plan, chosen: dict[str, Run]) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Return the attention profiles of the trials of a study about them, and sentences on the unreadable ones."""
    studies = [study.name for study in plan.studies if study.metric == names.ATTENTION_GAP]
    fingerprints = dict.fromkeys(key for study in studies for key in trials_of(plan, study) if key in chosen)
    rows: list[tuple[Any, ...]] = []
    unreadable = []
    for key in fingerprints:
        run_id = chosen[key].info.run_id
        # A static network has no dynamic layer and so no profile.
        if _status(chosen[key]) != FINISHED or not has_artifact(client.tracking_uri, chosen[key], names.ATTENTION_FILE):
            continue
        try:
            profile = _download(client, chosen[key], names.ATTENTION_FILE)
            check_owner(profile, key)
            rows += [(key, *row) for row in profile_rows(profile)]
        except ValueError as error:
            unreadable.append(f"{names.ATTENTION_FILE} of run {run_id} is left out: {error}.")
    return rows, unreadable


def _correctness(plan: Plan, chosen: dict[str, Run], uri: str) -> tuple[dict[str, Correctness], list[str]]:
    """Return the correct images of the nodes that are compared by them, and sentences on the unreadable ones."""
    fingerprints = dict.fromkeys(
        key for study in plan.studies for key in compared_by_image(study, plan) if key in chosen
    )
    runs = {key: chosen[key] for key in fingerprints if names.TAG_CORRECTNESS in chosen[key].data.tags}
    outcomes = dict(zip(runs, read_each(partial(_read_correctness, uri), list(runs.values())), strict=True))
    correctness = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Correctness)}
    return correctness, [outcome for outcome in outcomes.values() if isinstance(outcome, str)]


def _read_correctness(uri: str, run: Run) -> Correctness | str:
    """Return the correct images of a run, or a sentence why they are left out."""
    try:
        text = artifact(uri, run, names.CORRECTNESS_FILE)
        correctness = read_correctness(text)
        check_owner(text, run.data.tags[names.TAG_FINGERPRINT])
        if correctness.digest != run.data.tags[names.TAG_CORRECTNESS]:
            raise ValueError("it is not the file that was tracked")
        correctness.check(run.data.metrics)
    except (MlflowException, OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
        return f"{names.CORRECTNESS_FILE} of run {run.info.run_id} is left out: {reason}."
    return correctness


def _download(client: MlflowClient, run: Run, path: str) -> str:
    with without_progress_bar():
        return artifact(client.tracking_uri, run, path)


def _run_rows(plan: Plan, chosen: dict[str, Run]) -> list[tuple[Any, ...]]:
    rows = []
    for key in (node.fingerprint for node in plan.nodes):
        run = chosen.get(key)
        if run is None or _status(run) != FINISHED:
            continue
        node, tags = plan.node(key), run.data.tags
        commit, dirty = tags.get(names.TAG_GIT_COMMIT, ""), tags.get(names.TAG_GIT_DIRTY) == "true"
        versions, ended = _json_object(tags.get(names.TAG_VERSIONS)), run.info.end_time or run.info.start_time or 0
        identity = (run.info.run_id, run.info.run_name or node.title, tags[names.TAG_KIND], key, node.spec.seed)
        rows.append((*identity, commit, dirty, versions, ended, finite(run.data.metrics.get(names.SECONDS, math.nan))))
    return rows


def _json_object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _nothing(plan: Plan, uri: str, failed: int) -> str:
    """Return the message that there is nothing to report, with the command that changes that."""
    studies = " ".join(study.name for study in plan.studies)
    preset = plan.request.preset.name
    study_names = [as_named(study.name) for study in plan.studies]
    message = f"the store {shown(uri)} holds no finished run of {studies} with preset {preset!r} and these settings"
    if failed:
        status_command = suggested_command("status", study_names, preset=preset)
        retry_command = suggested_command("retry", study_names, preset=preset)
        # A line each, so that they can be copied.
        return f"{message}: {failed} failed.\n  Why: {status_command}\n  Once more: {retry_command}"
    return f"{message}. Run it first: {suggested_command('run', study_names, preset=preset)}"


def read_launches(tags: Iterable[Mapping[str, str]]) -> Iterator[Record]:
    """Yield the launches in the tags of summary runs; an entry that is no record is left out."""
    for tag in tags:
        try:
            # A list first: one bad entry leaves out all of its tag, and none is yielded before it is found.
            yield from [Record.from_mapping(values) for values in json.loads(tag.get(TAG_LAUNCHES, "[]"))]
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
