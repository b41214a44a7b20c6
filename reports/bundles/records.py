"""This module makes the files of a bundle that hold the runs behind a report, without what names machines and people.

All runs of the plan's studies are packed: also tunings, and those that failed, were stopped or were done anew, as they
are part of what a report has cost. `reports.collect.stores.bundle` reads them back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from reports.collect.curves import histories
from reports.collect.stores.base import Store
from reports.collect.stores.bundle import HISTORY_FILE, RUN_FILE, PackedRun, member
from reports.collect.tracked_runs import TrackedRun
from reports.content.plan_words import experiments_of

_OWN_TAGS = "abl."
# These tags of ours tell of a machine, a process on it or a folder; the others describe the run.
_MACHINE_TAGS = frozenset({names.TAG_HOST, names.TAG_OWNER, names.TAG_HEARTBEAT, names.TAG_ARTIFACTS})
_PATH_PARAMS = frozenset({"data.root"})

LEFT_OUT = (
    "weights and checkpoints",
    "names of machines, users and folders: the tags "
    + ", ".join(sorted(_MACHINE_TAGS))
    + " and mlflow.*, the param data.root",
    "logs, and MLflow's descriptions of runs",
)
"""What is not packed of a run, in words."""


def packed_runs(plan: Plan, store: Store) -> list[TrackedRun]:
    """Return the runs of a plan's studies in a store, the newest first."""
    fingerprints = {node.fingerprint for node in plan.nodes}
    study_tags = [names.study_tag(study.name) for study in plan.studies]
    # Trials of a tuning belong to the report whose values they chose, even if no study tag says so.
    groups = {entry.fingerprint for entry in plan.tuned.values()}
    runs = []
    for run in store.runs(experiments_of(plan)):
        is_of_study = any(tag in run.tags for tag in study_tags)
        if is_of_study or run.fingerprint in fingerprints or run.tags.get(names.TAG_GROUP) in groups:
            runs.append(run)
    return runs


def run_files(plan: Plan, store: Store, runs: Sequence[TrackedRun]) -> dict[str, bytes]:
    """Return the files of runs by their names in the bundle. What cannot be read in the store is not in the bundle."""
    with_profiles = any(study.metric == names.ATTENTION_GAP for study in plan.studies)

    def read(store: Store, run: TrackedRun) -> dict[str, bytes]:
        return dict(_files(store, run, with_profiles=with_profiles))

    files = {}
    # The place in the store is packed as a number, since a bundle sorts its files by name.
    for order, (run, read_files) in enumerate(zip(runs, store.read_each(read, runs), strict=True)):
        files[member(run.run_id, RUN_FILE)] = _as_json(_packed(run, order).model_dump())
        files |= read_files
    return files


def _files(store: Store, run: TrackedRun, *, with_profiles: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the other files of a run that a report may read, each with its name in the bundle."""
    artifacts = []
    if names.TAG_CORRECTNESS in run.tags:
        artifacts.append(names.CORRECTNESS_FILE)
    if with_profiles and run.finished and store.has_artifact(run, names.ATTENTION_FILE):
        artifacts.append(names.ATTENTION_FILE)
    if names.TAG_FROZEN in run.tags:
        artifacts.append(f"{names.REPORT_FOLDER}/{names.FROZEN_FILE}")
    for name in artifacts:
        # The report warns of a file that is not there, and must do so of the bundle as of the store.
        with suppress(OSError):
            yield member(run.run_id, name), store.artifact(run, name).encode()
    # Tunings are many and their course is never drawn; that of a training that failed says nothing.
    if run.kind == "trial" and run.finished:
        yield member(run.run_id, HISTORY_FILE), _as_json(histories(store, run))


def _packed(run: TrackedRun, order: int) -> PackedRun:
    return PackedRun(
        run_id=run.run_id,
        order=order,
        experiment=run.experiment,
        name=run.name,
        status=run.status,
        began=run.began,
        ended=run.ended,
        data=run.data,
        tags=dict(_public_tags(run)),
        params={key: value for key, value in run.params.items() if key not in _PATH_PARAMS},
        metrics=dict(run.metrics),
    )


def _public_tags(run: TrackedRun) -> Iterator[tuple[str, str]]:
    for key, value in run.tags.items():
        if key == names.TAG_TUNED and run.kind == "study":
            # The folder of the tuned values, whose path names the user; the values are in the report's manifest.
            yield key, PurePath(value).name
        # Tags of MLflow and of users stay out, whatever they are called: only ours are known to name nobody.
        elif (key.startswith(_OWN_TAGS) and key not in _MACHINE_TAGS) or key == names.TAG_PARENT:
            yield key, value


def _as_json(value: Mapping[str, Any]) -> bytes:
    """Return JSON with a line to each value; numbers come back as the same bits."""
    # In the order of the store, in which a manifest lists the metrics of a run.
    return f"{json.dumps(value, indent=0)}\n".encode()
