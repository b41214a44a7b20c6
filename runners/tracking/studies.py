"""The summary run of a study: one child per variant with its mean and interval, and the report files as artifacts.

The numbers come from `reports`, which this room does not import; the command line carries them over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.errors import TrackingError
from ablations.estimates import Record
from ablations.fingerprint import canonical_json
from ablations.planning import Plan
from ablations.study import Study
from runners.tracking.nodes import Tracker

_LONGEST_TAG = 5000
"""Characters that every store of MLflow's takes."""


@dataclass(frozen=True)
class VariantRecord:
    """What the child run of one variant carries.

    Attributes:
        key: The variant's name, with the inspected network in front if there is one.
        metrics: Mean, spread, interval and difference under the names of the vocabulary.
        tuned: Settings that it was tuned to.
    """

    key: str
    metrics: Mapping[str, float]
    tuned: Mapping[str, Any] = field(default_factory=dict)


def write_study_summary(
    tracker: Tracker,
    plan: Plan,
    study: Study,
    variants: Sequence[VariantRecord],
    files: Sequence[Path],
    *,
    verdicts: Mapping[str, str] | None = None,
    launches: Sequence[Record] = (),
) -> str:
    """Writes the summary run of a study in place of its earlier one and returns its id.

    Args:
        tracker: Where to.
        plan: The plan that the study is part of.
        study: The study.
        variants: What its child runs carry.
        files: Report files, kept as artifacts.
        verdicts: The verdict on each claim, told in the run's description.
        launches: What the numbers were made in, the first one first.

    Raises:
        TrackingError: If the store refuses.
    """
    try:
        tags = {**_tags(tracker, plan, study, verdicts or {}), names.TAG_LAUNCHES: _launches(launches)}
        return _write(tracker, study, tags, variants, files)
    except Exception as error:
        raise TrackingError(f"the summary of study {study.name!r} could not be tracked: {error}") from error


def _tags(tracker: Tracker, plan: Plan, study: Study, verdicts: Mapping[str, str]) -> dict[str, str]:
    return {
        names.TAG_KIND: "study",
        names.TAG_STUDY_NAME: study.name,
        names.TAG_OVERRIDES: canonical_json(dict(plan.request.overrides)),
        names.TAG_SEEDS: str(plan.request.seeds_of(study)),
        names.TAG_CANARY: str(plan.request.canary).lower(),
        names.study_tag(study.name): "summary",
        names.TAG_NOTE: _note(study, verdicts),
        **tracker.common_tags(),
        **({names.TAG_TUNED: str(plan.request.tuned.folder)} if plan.request.tuned is not None else {}),
    }


def _launches(launches: Sequence[Record]) -> str:
    """Returns launches as JSON that is short enough for a tag: of many, the newest."""
    text = "[]"
    for first in range(len(launches)):
        text = canonical_json([launch.as_mapping() for launch in launches[first:]])
        if len(text) <= _LONGEST_TAG:
            break
    return text if len(text) <= _LONGEST_TAG else "[]"


def _write(
    tracker: Tracker, study: Study, tags: dict[str, str], variants: Sequence[VariantRecord], files: Sequence[Path]
) -> str:
    replaced = _earlier(tracker, tags)
    run_id = tracker.create_run(f"Study: {study.title}", tags, {"reference": study.reference, "metric": study.metric})
    for variant in variants:
        _write_variant(tracker, study, variant, run_id)
    for file in files:
        tracker.client.log_artifact(run_id, str(file), artifact_path="report")
    tracker.client.set_terminated(run_id, status="FINISHED")
    for old in replaced:
        tracker.client.delete_run(old)
    return run_id


def _write_variant(tracker: Tracker, study: Study, variant: VariantRecord, parent: str) -> None:
    tags = {
        names.TAG_KIND: "variant",
        names.TAG_STUDY_NAME: study.name,
        names.TAG_VARIANT_NAME: variant.key,
        names.TAG_PARENT: parent,
        names.study_tag(study.name): variant.key,
        **tracker.common_tags(),
    }
    run_id = tracker.create_run(f"{study.title}: {variant.key}", tags, _variant_params(study, variant))
    if variant.metrics:
        event = {"step": 0, "time": int(time.time() * 1000), "metrics": dict(variant.metrics)}
        tracker.log_metrics(run_id, [event])
    tracker.client.set_terminated(run_id, status="FINISHED")


def _variant_params(study: Study, record: VariantRecord) -> dict[str, Any]:
    key = record.key
    network_name, _, variant_name = key.rpartition(": ") if study.networks else ("", "", key)
    variant = study.variant(variant_name)
    params: dict[str, Any] = {"variant": variant.title}
    for network in study.networks:
        if network.name == network_name:
            params |= {"network": network.title, **network.changes}
    params |= variant.changes
    params |= {f"tuned.{setting}": value for setting, value in record.tuned.items()}
    if variant.intervention is not None and variant.intervention.aggregation is not None:
        params["intervention.aggregation"] = variant.intervention.aggregation
    return params


def _earlier(tracker: Tracker, tags: Mapping[str, str]) -> list[str]:
    """Returns the summary run of the same study, overrides and preset with its children."""
    wanted = (names.TAG_STUDY_NAME, names.TAG_PRESET)
    clauses = [f"tags.`{key}` = '{_quoted(tags[key])}'" for key in wanted if "'" not in tags[key]]
    found = [
        run
        for run in tracker.search(" AND ".join(clauses))
        if all(run.data.tags.get(key) == tags[key] for key in wanted)
    ]
    summaries = {
        run.info.run_id
        for run in found
        if run.data.tags.get(names.TAG_KIND) == "study"
        and run.data.tags.get(names.TAG_OVERRIDES) == tags[names.TAG_OVERRIDES]
        and (names.TAG_TUNED in run.data.tags) == (names.TAG_TUNED in tags)
    }
    children = [run.info.run_id for run in found if run.data.tags.get(names.TAG_PARENT) in summaries]
    return [*summaries, *children]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\")


def _note(study: Study, verdicts: Mapping[str, str]) -> str:
    parts = [f"**Question.** {study.question}"]
    if study.finding:
        parts.append(f"**Published finding.** {study.finding}")
    parts += [f"- {claim}: **{verdict}**" for claim, verdict in verdicts.items()]
    return "\n\n".join(parts)[:5000]
