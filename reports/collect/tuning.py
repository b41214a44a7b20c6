"""This module compares the tuning that a report states with the tracked trials of that tuning."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from ablations.planning.tuned_values import TunedVariant
from ablations.spec.fingerprint import SHORT
from reports.collect.stores.base import in_group
from reports.collect.stores.opening import open_store
from reports.collect.tracked_runs import TrackedRun, counting_run, group_runs
from reports.content.plan_words import experiments_of

_SECONDS = 0.01
_PERCENT = 1e-6


def tuning_differences(plan: Plan, tracking_uri: str) -> tuple[list[str], list[str]]:
    """Return the differences between a report's tuning and the tracked trials, and notes on what was not checked.

    Raises:
        TrackingError: If the store cannot be reached.
    """
    differences: list[str] = []
    notes: list[str] = []
    entries: dict[str, tuple[str, TunedVariant]] = {}
    for (study, key), entry in plan.tuned.items():
        # Variants may share one tuning, which is then checked once.
        entries[entry.fingerprint] = (f"tuning of {study}, {key}", entry)
    if not entries:
        return differences, notes
    with open_store(tracking_uri) as store:
        for fingerprint, (name, entry) in entries.items():
            trials = _trials(store.runs(experiments_of(plan), in_group(fingerprint)), entry)
            if trials:
                differences += _differences(name, entry, trials)
            else:
                notes.append(f"{name}: the store has no trials of group {fingerprint[:SHORT]}, they are not checked")
    return differences, notes


def _trials(tracked: Iterable[TrackedRun], entry: TunedVariant) -> list[TrackedRun]:
    """Return the finished trials of a group within its budget, by slot."""
    by_slot = group_runs([run for run in tracked if run.kind == "tuning"], lambda run: run.slot)
    trials = []
    for slot in range(entry.spent.budget):
        if slot in by_slot:
            run = counting_run(by_slot[slot])
            if run.finished:
                trials.append(run)
    return trials


def _differences(name: str, entry: TunedVariant, trials: Sequence[TrackedRun]) -> Iterator[str]:
    outcomes = Counter(run.outcome for run in trials)
    spent, best = entry.spent, _best(trials)
    amounts: list[tuple[str, float, float, float]] = [
        ("trained to the end", spent.complete, outcomes["complete"], 0),
        ("stopped early", spent.pruned, outcomes["pruned"], 0),
        ("diverged", spent.diverged, outcomes["diverged"], 0),
        ("epochs", spent.epochs, _total(trials, names.TUNING_EPOCHS), 0),
        ("seconds", spent.seconds, _total(trials, names.SECONDS), _SECONDS),
    ]
    best_params: Mapping[str, str] = {}
    if best is not None:
        best_params = best.params
        amounts.append(("validation top-1", entry.validation_top1, best.metrics[names.TUNING_TOP1], _PERCENT))
    for label, reported, tracked, tolerance in amounts:
        if abs(reported - tracked) > tolerance:
            yield f"{name}, {label}: {reported:g} in the report, {tracked:g} from the runs"
    for setting, value in entry.values.items():
        proposed = best_params.get(f"{names.PROPOSED_PREFIX}{setting}")
        # MLflow keeps params as text, so that the text is what can be compared.
        if proposed != str(value):
            yield f"{name}, {setting}: {value} in the report, {proposed or 'nothing'} from the runs"


def _total(trials: Sequence[TrackedRun], metric: str) -> float:
    return math.fsum(run.metrics.get(metric, 0.0) for run in trials)


def _best(trials: Sequence[TrackedRun]) -> TrackedRun | None:
    """Return the trial with the highest accuracy of those trained to the end, the first of equals."""
    measured = [run for run in trials if run.outcome == "complete" and names.TUNING_TOP1 in run.metrics]
    return max(measured, key=lambda run: run.metrics[names.TUNING_TOP1], default=None)
