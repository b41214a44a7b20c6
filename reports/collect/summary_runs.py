"""This module reads the summary runs of studies: the newest report's request, launches, looks and frozen plans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ablations import vocabulary as names
from ablations.errors import StudyError
from ablations.launches import Record
from ablations.planning.frozen_plan import FrozenPlan, frozen_from_data
from ablations.planning.plan import Plan
from ablations.planning.plan_data import part_tags
from ablations.protocol.looks import Look
from ablations.spec.fingerprint import SHORT, canonical_json
from reports.collect.stores.base import SUMMARIES, Store
from reports.collect.stores.opening import open_store
from reports.collect.tracked_runs import TrackedRun, integer, json_object

_KIND = "study"
_ROOT = names.experiment_name("", "").partition("/")[0]


def latest_request(study_name: str, tracking_uri: str) -> dict[str, Any] | None:
    """Return the request of the newest summary run of a study, or `None` if there is none.

    The keys are `preset` (a name), `overrides` (a mapping), `seeds` (a number, or `None` for the default), `canary`
    (a bool: if there was one), `tuned_from` (the path of the tuned values, or `None`) and `max_seeds` (where seeds were
    added until claims were decided, else `None`; `seeds` is then the number of the first look).

    A report on some rows or on one repeat says nothing of the scale of the whole study, and counts only where there is
    no other.

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
    """
    request_of_part: dict[str, Any] | None = None
    with open_store(tracking_uri) as store:
        # The name is compared here: no quoting of MLflow's filter language takes every name.
        for run in store.runs(store.experiments(f"{_ROOT}/"), SUMMARIES):
            tags = run.tags
            if tags.get(names.TAG_STUDY_NAME) == study_name and tags.get(names.TAG_PRESET):
                request = {
                    "preset": tags[names.TAG_PRESET],
                    "overrides": json_object(tags.get(names.TAG_OVERRIDES)),
                    "seeds": integer(tags.get(names.TAG_FIRST_SEEDS) or tags.get(names.TAG_SEEDS)),
                    "max_seeds": integer(tags.get(names.TAG_STOPPING)),
                    "canary": tags.get(names.TAG_CANARY) == "true",
                    "tuned_from": tags.get(names.TAG_TUNED) or None,
                }
                if names.TAG_ROWS not in tags and names.TAG_ONLY_SEED not in tags:
                    return request
                if names.TAG_ONLY_SEED in tags:
                    request["seeds"] = None
                request_of_part = request_of_part or request
    return request_of_part


def seeds_at_last_look(plan: Plan, tracking_uri: str) -> dict[str, int]:
    """Return the seeds that the studies of a plan with a stopping rule had in their newest report under that rule.

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
    """
    request = plan.request
    if request.stopping is None:
        return {}
    seeds: dict[str, int] = {}
    # Another first look or another end is another rule, with other looks.
    looks = {study.name: request.looks_of(study) for study in plan.studies}
    parts = {study.name: part_tags(plan, study).get(names.TAG_ROWS) for study in plan.studies}
    experiment = names.experiment_name(request.preset.name, request.data_name)
    with open_store(tracking_uri) as store:
        for run in _summaries_of(plan, store.runs([experiment])):
            study = run.tags[names.TAG_STUDY_NAME]
            first, most = integer(run.tags.get(names.TAG_FIRST_SEEDS)), integer(run.tags.get(names.TAG_STOPPING))
            last = integer(run.tags.get(names.TAG_SEEDS))
            is_same_rule = bool(looks[study]) and (first, most) == (looks[study][0], request.stopping.max_seeds)
            is_same_rule = is_same_rule and run.tags.get(names.TAG_ROWS) == parts[study]
            # The newest run comes first.
            if is_same_rule and last and study not in seeds:
                seeds[study] = last
    return seeds


def summary_params(runs: Iterable[TrackedRun]) -> Mapping[str, str]:
    """Return the params of the newest summary run, which name the metric and the reference; empty without one."""
    for run in runs:
        if run.kind == _KIND:
            return run.params
    return {}


def launches_of(plan: Plan, runs: Iterable[TrackedRun]) -> Iterator[Record]:
    """Yield the launches that earlier reports of the plan's studies at this scale came from."""
    for run in _summaries_of(plan, runs):
        yield from read_launches([run.tags])


def looks_of(plan: Plan, runs: Iterable[TrackedRun]) -> Iterator[Look]:
    """Yield the looks at the results of the plan's studies at this scale; an entry that is no look is left out."""
    for run in _summaries_of(plan, runs):
        try:
            yield from [Look.from_mapping(values) for values in json.loads(run.tags.get(names.TAG_LOOKS, "[]"))]
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def frozen_in_store(store: Store, plan: Plan, runs: Iterable[TrackedRun]) -> tuple[list[FrozenPlan], list[str]]:
    """Return the frozen plans that earlier reports of the plan's studies kept, and a sentence on each unreadable one.

    Reports at another scale are asked, too: settings that were not planned must not hide the plan.
    """
    studies = {study.name for study in plan.studies}
    frozen: list[FrozenPlan] = []
    problems: dict[str, None] = {}
    read: set[str] = set()
    for run in runs:
        digest = run.tags.get(names.TAG_FROZEN)
        is_of_plan = run.kind == _KIND and run.tags.get(names.TAG_STUDY_NAME) in studies
        # The studies of one report keep the same file.
        if digest is None or digest in read or not is_of_plan:
            continue
        read.add(digest)
        try:
            content = json.loads(store.artifact(run, f"{names.REPORT_FOLDER}/{names.FROZEN_FILE}"))
            kept = [frozen_from_data(values) for values in content]
        except (OSError, ValueError, TypeError, StudyError) as error:
            problems[f"The frozen plan {digest[:SHORT]} in the store cannot be read ({type(error).__name__})."] = None
            continue
        # An edited copy has the digest of its plan, and both are kept: `Results.with_frozen` tells them apart.
        frozen += [candidate for candidate in kept if candidate.concerns(plan)]
    return frozen, list(problems)


def _summaries_of(plan: Plan, runs: Iterable[TrackedRun]) -> Iterator[TrackedRun]:
    """Yield the summary runs of the plan's studies at this scale."""
    study_names = {study.name for study in plan.studies}
    # Tags hold the overrides as canonical JSON, so that equal overrides are equal texts.
    overrides = canonical_json(dict(plan.request.overrides))
    experiment = names.experiment_name(plan.request.preset.name, plan.request.data_name)
    for run in runs:
        tags = run.tags
        is_of_plan = tags.get(names.TAG_STUDY_NAME) in study_names and tags.get(names.TAG_OVERRIDES) == overrides
        if run.kind == _KIND and run.experiment == experiment and is_of_plan:
            yield run


def read_launches(tags: Iterable[Mapping[str, str]]) -> Iterator[Record]:
    """Yield the launches in the tags of summary runs; an entry that is no record is left out."""
    for tag in tags:
        try:
            # A list first: one bad entry leaves out all of its tag, and none is yielded before it is found.
            yield from [Record.from_mapping(values) for values in json.loads(tag.get(names.TAG_LAUNCHES, "[]"))]
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
