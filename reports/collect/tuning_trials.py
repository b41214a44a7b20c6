"""Whether what a report says of tuning is what the tracked trials say: budgets, epochs, seconds, what was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from ablations.planning.tuned_values import TunedVariant
from ablations.spec.fingerprint import SHORT
from reports.collect.results import FINISHED
from reports.collect.store import explained, open_store, search_runs
from reports.content.plan_words import experiments_of

_SECONDS = 0.01
_PERCENT = 1e-6


def tuning_differences(plan: Plan, tracking_uri: str) -> tuple[list[str], list[str]]:
    """Returns what differs between the tuning a report tells of and the tracked trials, and what could not be checked.

    Raises:
        TrackingError: If the store cannot be reached.
    """
    found: list[str] = []
    notes: list[str] = []
    entries = {entry.fingerprint: (f"tuning of {study}, {key}", entry) for (study, key), entry in plan.tuned.items()}
    if not entries:
        return found, notes
    with explained(tracking_uri):
        client = open_store(tracking_uri)
        for fingerprint, (name, entry) in entries.items():
            trials = _trials(client, plan, entry)
            if trials:
                found += _differences(name, entry, trials)
            else:
                notes.append(f"{name}: the store has no trials of group {fingerprint[:SHORT]}, they are not checked")
    return found, notes


def _trials(client: MlflowClient, plan: Plan, entry: TunedVariant) -> list[Run]:
    """Returns the finished trials of a group within its budget, by their place."""
    by_slot: dict[int, Run] = {}
    for name in experiments_of(plan):
        experiment = client.get_experiment_by_name(name)
        query = f"tags.`{names.TAG_GROUP}` = '{entry.fingerprint}'"
        for run in search_runs(client, [experiment.experiment_id], query) if experiment is not None else ():
            tags = run.data.tags
            counts = tags.get(names.TAG_KIND) == "tuning" and names.TAG_SUPERSEDED not in tags
            if counts and run.info.status.lower() == FINISHED and tags.get(names.TAG_SLOT, "").isdecimal():
                by_slot.setdefault(int(tags[names.TAG_SLOT]), run)
    return [run for slot, run in sorted(by_slot.items()) if slot < entry.spent.budget]


def _differences(name: str, entry: TunedVariant, trials: Iterable[Run]) -> Iterator[str]:
    trials = list(trials)
    outcomes = Counter(run.data.tags.get(names.TAG_OUTCOME, "complete") for run in trials)
    metrics = [run.data.metrics for run in trials]
    spent, best = entry.spent, _best(trials)
    pairs: list[tuple[str, float, float, float]] = [
        ("trained to the end", spent.complete, outcomes["complete"], 0),
        ("stopped early", spent.pruned, outcomes["pruned"], 0),
        ("diverged", spent.diverged, outcomes["diverged"], 0),
        ("epochs", spent.epochs, math.fsum(one.get(names.TUNING_EPOCHS, 0.0) for one in metrics), 0),
        ("seconds", spent.seconds, math.fsum(one.get(names.SECONDS, 0.0) for one in metrics), _SECONDS),
    ]
    if best is not None:
        pairs.append(("validation top-1", entry.validation_top1, best.data.metrics[names.TUNING_TOP1], _PERCENT))
    for what, told, tracked, tolerance in pairs:
        if abs(told - tracked) > tolerance:
            yield f"{name}, {what}: {told:g} in the report, {tracked:g} from the runs"
    for setting, value in entry.values.items():
        proposed = best.data.params.get(f"{names.PROPOSED_PREFIX}{setting}") if best is not None else None
        if proposed != str(value):
            yield f"{name}, {setting}: {value} in the report, {proposed or 'nothing'} from the runs"


def _best(trials: Iterable[Run]) -> Run | None:
    """Returns the trial with the highest accuracy of those trained to the end, the first of equals."""
    complete = [run for run in trials if run.data.tags.get(names.TAG_OUTCOME, "complete") == "complete"]
    known = [run for run in complete if names.TUNING_TOP1 in run.data.metrics]
    return max(known, key=lambda run: run.data.metrics[names.TUNING_TOP1], default=None)
