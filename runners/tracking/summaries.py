"""This module writes the summary run of a study: a child run per variant with its numbers, and the report's files.

The numbers come from `reports`, which this package does not import; the command line passes them in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.errors import TrackingError
from ablations.launches import Record
from ablations.planning.plan import Plan
from ablations.planning.plan_data import part_tags
from ablations.protocol.looks import Look
from ablations.spec.fingerprint import canonical_json
from ablations.study import Study
from ablations.summary_rows import SummaryRow
from runners.tracking.descriptions import Links, study_note, variant_note
from runners.tracking.experiment import FINISHED
from runners.tracking.node_tags import spec_params
from runners.tracking.store import reason
from runners.tracking.tracker import Tracker
from runners.tracking.views import runs_view, shared_page, variants_view

_NO_VALUE = "none"
# What no name of a metric may have: a step in a path, at the beginning, and all but these characters.
_NOT_IN_METRICS = re.compile(r"^\.|[^\w\-.: ]")
_LONGEST_METRIC = 250
"""Characters that a store of MLflow takes in the name of a metric."""


def write_study_summary(
    tracker: Tracker,
    plan: Plan,
    study: Study,
    variants: Sequence[SummaryRow],
    files: Sequence[Path],
    *,
    verdicts: Mapping[str, str] | None = None,
    launches: Sequence[Record] = (),
    looks: Sequence[Look] = (),
    frozen: str | None = None,
) -> str:
    """Write the summary run of a study in place of its earlier one; return its id.

    Args:
        variants: The content of its child runs.
        files: Report files, kept as artifacts.
        verdicts: The verdict on each claim, for the run's description.
        launches: The launches that made the numbers, the first one first.
        looks: The looks at the study's results, the first one first.
        frozen: The SHA-256 of the plan that was frozen before the runs; the plan itself is among the files.

    Raises:
        TrackingError: If the store refuses.
    """
    try:
        tags = _tags(tracker, plan, study)
        tags[names.TAG_LAUNCHES] = _newest([launch.as_mapping() for launch in launches])
        tags[names.TAG_LOOKS] = _newest([look.as_mapping() for look in looks])
        if frozen is not None:
            tags[names.TAG_FROZEN] = frozen
        # Before the new run is opened, which would be found as well.
        replaced = _earlier(tracker, tags)
        params_of_study = {"reference": study.reference, "metric": study.metric}
        run = tracker.open_run(f"Study: {study.title}", tags)
        run_id = run.run_id
        tracker.write(run_id, params=params_of_study)
        links, params = Links(tracker.experiment_id), _params_by_row(study, variants, _differing(plan, study))
        children = []
        for variant in variants:
            note = variant_note(study, links, run_id, variant, names.LONGEST_TAG)
            child = _write_variant(tracker, study, variant, run_id, params=params[variant.key], note=note)
            children.append((variant, child))
        tracker.write(run_id, [_step(_metrics_of_study(variants))])
        for file in files:
            tracker.put_file(run, file, names.REPORT_FOLDER)
        tracker.set_status(run, FINISHED)
        report_files = [f"{names.REPORT_FOLDER}/{file.name}" for file in files]
        note = study_note(
            study,
            links,
            run_id,
            children,
            pages=_pages(tracker, study, params),
            files=report_files,
            verdicts=verdicts or {},
            longest=names.LONGEST_TAG,
        )
        tracker.client.set_tag(run_id, names.TAG_NOTE, note)
        # Last: a failure before leaves two summaries, never none.
        for old in replaced:
            tracker.client.delete_run(old)
        return run_id
    except Exception as error:
        raise TrackingError(
            f"the summary of study {study.name!r} could not be tracked: {reason(error, tracker.uri)}"
        ) from None


def _tags(tracker: Tracker, plan: Plan, study: Study) -> dict[str, str]:
    tags = {
        names.TAG_KIND: "study",
        names.TAG_STUDY_NAME: study.name,
        names.TAG_OVERRIDES: canonical_json(dict(plan.request.overrides)),
        names.TAG_SEEDS: str(plan.request.seeds_of(study)),
        names.TAG_CANARY: str(plan.request.canary).lower(),
        names.study_tag(study.name): "summary",
        **tracker.common_tags(),
    }
    tags |= part_tags(plan, study)
    looks = plan.request.looks_of(study)
    if plan.request.stopping is not None and looks:
        tags[names.TAG_STOPPING] = str(plan.request.stopping.max_seeds)
        tags[names.TAG_FIRST_SEEDS] = str(looks[0])
    if plan.request.tuned is not None:
        tags[names.TAG_TUNED] = str(plan.request.tuned.folder)
    return tags


def _newest(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records, the oldest first, as JSON that is short enough for a tag; of too many only the newest."""
    # From the oldest on, one is left out after another until the text fits.
    for first in range(len(records)):
        text = canonical_json(records[first:])
        if len(text) <= names.LONGEST_TAG:
            return text
    return "[]"


def _write_variant(
    tracker: Tracker, study: Study, variant: SummaryRow, parent: str, *, params: Mapping[str, Any], note: str
) -> str:
    """Write the run of a row and return its id."""
    tags = {
        names.TAG_KIND: "variant",
        names.TAG_STUDY_NAME: study.name,
        names.TAG_VARIANT_NAME: variant.key,
        names.TAG_PARENT: parent,
        names.study_tag(study.name): variant.key,
        names.TAG_NOTE: note,
        **tracker.common_tags(),
    }
    title = f"{study.title}: {variant.title or variant.key}"
    run_id = tracker.create_run(title, tags, params, [_step(variant.metrics)])
    tracker.client.set_terminated(run_id, status="FINISHED")
    return run_id


def _step(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return the event of a summary's metrics: it has no course, so they are one step."""
    return {"step": 0, "time": int(time.time() * 1000), "metrics": dict(metrics)}


def _metrics_of_study(variants: Sequence[SummaryRow]) -> dict[str, float]:
    """Return the numbers of all rows as metrics of the study's own run, `test/top1.mean/<row>`: all means, then others.

    MLflow's UI lists them in this order on the page of the run.
    """
    numbers = dict.fromkeys(name for variant in variants for name in variant.metrics)
    metrics: dict[str, float] = {}
    for name in numbers:
        for variant in variants:
            if name in variant.metrics:
                row = _NOT_IN_METRICS.sub("-", variant.key)
                metrics[f"{name}/{row}"[:_LONGEST_METRIC]] = variant.metrics[name]
    return metrics


def _pages(tracker: Tracker, study: Study, params: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the addresses of the lists of a study's runs, with the settings in which its rows differ as columns."""
    settings = dict.fromkeys(name for row in params.values() for name in row)
    # Their run names say what these are called.
    dotted = [name for name in settings if name not in ("variant", "network")]
    variants = variants_view(study.name, study.metric, dotted)
    runs = runs_view(study.name, study.metric, dotted)
    return {
        "list of variants": shared_page(tracker.client, tracker.experiment_id, variants),
        "trainings and evaluations": shared_page(tracker.client, tracker.experiment_id, runs),
    }


def _differing(plan: Plan, study: Study) -> dict[str, dict[str, Any]]:
    """Return the settings of each row, by its key, that are not the same in all rows.

    A setting that only some rows have differs only if it has several values among them: a static network has no
    temperature, and that follows from its being static.
    """
    settings: dict[str, dict[str, Any]] = {}
    values: dict[str, set[str]] = {}
    for cell in plan.cells_of(study.name):
        # One cell per row, as its repeats differ in the seed alone.
        if cell.key in settings:
            continue
        node = plan.node(cell.fingerprint)
        settings[cell.key] = spec_params(node, node.spec)
        for name, value in settings[cell.key].items():
            values.setdefault(name, set()).add(str(value))
    differing: dict[str, dict[str, Any]] = {}
    for key, row_settings in settings.items():
        differing[key] = {}
        for name, value in row_settings.items():
            if name != "seed" and len(values[name]) > 1:
                differing[key][name] = value
    return differing


def _params_by_row(
    study: Study, variants: Iterable[SummaryRow], differing: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the params of each row by its key. A setting that a row does not have is `none` there.

    Without a value, MLflow's parallel coordinates would draw an axis of numbers as if the row had the largest.
    """
    params = {variant.key: _variant_params(study, variant, differing) for variant in variants}
    settings = dict.fromkeys(name for row in params.values() for name in row)
    filled: dict[str, dict[str, Any]] = {}
    for key, row in params.items():
        filled[key] = {}
        for name in settings:
            value = row.get(name)
            filled[key][name] = _NO_VALUE if value is None else value
    return filled


def _variant_params(study: Study, record: SummaryRow, differing: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the params of a row: the titles of variant and network, their changes, and settings that differ."""
    network_name, variant_name = "", record.key
    if study.networks:
        # The key of a row is `network: variant`.
        network_name, _, variant_name = record.key.rpartition(": ")
    variant = study.variant(variant_name)
    params: dict[str, Any] = {"variant": variant.title}
    for network in study.networks:
        if network.name == network_name:
            params |= {"network": network.title, **network.changes}
    # Last what the plan resolved them to, which wins over the words of the study.
    params |= variant.changes | dict(differing.get(record.key, {}))
    for setting, value in record.tuned.items():
        params[f"tuned.{setting}"] = value
    return params


def _earlier(tracker: Tracker, tags: Mapping[str, str]) -> list[str]:
    """Return the ids of earlier summary runs of the same study, rows, overrides and preset, and of their children."""
    keys = (names.TAG_STUDY_NAME, names.TAG_PRESET)
    # A value with a quote cannot be part of a query; the comparison below finds its runs all the same.
    clauses = [f"tags.`{key}` = '{_quoted(tags[key])}'" for key in keys if "'" not in tags[key]]
    keys_of_summary = (*keys, names.TAG_KIND, names.TAG_OVERRIDES)
    summaries: list[str] = []
    parents: dict[str, str] = {}
    for run in tracker.search(" AND ".join(clauses)):
        run_id, run_tags = run.info.run_id, run.data.tags
        # Once more, as clauses may have been left out, and some data bases compare without regard to case.
        if not _agree(run_tags, tags, keys):
            continue
        if names.TAG_PARENT in run_tags:
            parents[run_id] = run_tags[names.TAG_PARENT]
        is_tuned = names.TAG_TUNED in run_tags
        # A report on some rows stands beside that on the whole study.
        is_same_part = all(run_tags.get(key) == tags.get(key) for key in (names.TAG_ROWS, names.TAG_ONLY_SEED))
        is_same = is_same_part and is_tuned == (names.TAG_TUNED in tags)
        if is_same and _agree(run_tags, tags, keys_of_summary):
            summaries.append(run_id)
    return [*summaries, *(run_id for run_id, parent in parents.items() if parent in summaries)]


def _agree(run_tags: Mapping[str, str], tags: Mapping[str, str], keys: Iterable[str]) -> bool:
    return all(run_tags.get(key) == tags[key] for key in keys)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\")
