"""This module reads every value of a metric over the epochs of finished trials.

A run's record has them all in one file; without it, the store is asked once per metric, which for the attention of each
layer is some thirty requests a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablations import vocabulary as names
from reports.collect.identity import check_owner
from reports.collect.stores.base import Store
from reports.collect.tracked_runs import TrackedRun, finite

_CURVES = frozenset({names.TRAIN_LOSS, names.TRAIN_TOP1, names.VAL_LOSS, names.VAL_TOP1, names.TEMPERATURE})

_BY_EPOCH_PREFIXES = ("train/", "val/", names.ENTROPY_PREFIX)
_BY_EPOCH = frozenset({names.TEMPERATURE})


def curve_rows(store: Store, runs: Sequence[TrackedRun]) -> Iterator[tuple[Any, ...]]:
    """Yield, for finished runs of trials, run id, fingerprint, metric, step and value, by metric and step.

    What was tracked twice for a step counts as it was tracked last.
    """
    for run, recorded in zip(runs, store.read_each(_recorded, runs), strict=True):
        for name in sorted(filter(_is_curve, run.metrics)):
            # A record that lacks a metric is not trusted for it: the store is asked instead.
            curve = recorded.get(name) or store.history(run, name)
            for step, value in sorted(curve.items()):
                yield run.run_id, run.fingerprint, name, step, finite(value)


def histories(store: Store, run: TrackedRun) -> dict[str, dict[int, float]]:
    """Return the values by step of each metric that a finished trial tracked over its epochs, by name."""
    recorded = dict(_recorded(store, run))
    for name in run.metrics:
        if not recorded.get(name) and (name in _BY_EPOCH or name.startswith(_BY_EPOCH_PREFIXES)):
            recorded[name] = dict(store.history(run, name))
    return {name: recorded[name] for name in sorted(recorded)}


def _is_curve(name: str) -> bool:
    return name in _CURVES or name.startswith(names.ENTROPY_PREFIX)


def _recorded(store: Store, run: TrackedRun) -> Mapping[str, dict[int, float]]:
    """Return the curves in a run's record; none if there is no record, or it is not the one that was tracked."""
    try:
        expected = json.loads(run.tags[names.TAG_FILES])[names.RECORD_FILE]
        text = store.artifact(run, names.RECORD_FILE)
        # A file that was changed after it was tracked, or not wholly written, is not read.
        if hashlib.sha256(text.encode()).hexdigest() != expected:
            return {}
        check_owner(text, run.fingerprint)
        curves: dict[str, dict[int, float]] = {}
        for event in json.loads(text)["events"]:
            for name, value in event["metrics"].items():
                curves.setdefault(name, {})[int(event["step"])] = value
    # Whatever is wrong with the record, the store still has every value.
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OSError):
        return {}
    return curves
