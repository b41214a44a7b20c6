"""This module reads the runs of one search from MLflow and returns them as `SearchResults`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from ablations.addresses import shown
from ablations.errors import ReportError
from ablations.invocation import suggested_command
from ablations.planning.optimisation import slot_fingerprint
from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.plan import Plan
from ablations.planning.search import Search
from ablations.planning.tuned_values import TunedVariant
from ablations.spec.factors import Factor
from ablations.spec.fingerprint import SHORT
from reports.collect.results import FINISHED
from reports.collect.store import explained, open_store, search_runs
from reports.content.plan_words import experiments_of


def collect_search(plan: SearchPlan, tracking_uri: str) -> SearchResults:
    """Return the results of a search in the tracking store; of two finished runs of one training the newest counts.

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
        ReportError: If it holds no finished trial of the search.
    """
    slots = dict(_places(plan))
    chosen: dict[str, Run] = {}
    with explained(tracking_uri):
        client = open_store(tracking_uri)
        name = names.experiment_name(plan.request.preset.name, plan.request.base().data.name)
        experiment = client.get_experiment_by_name(name)
        runs = (
            search_runs(client, [experiment.experiment_id], f"tags.`{names.TAG_GROUP}` = '{plan.group}'")
            if experiment is not None
            else ()
        )
        for run in runs:
            key = run.data.tags.get(names.TAG_FINGERPRINT, "")
            if key in slots and run.info.status.lower() == FINISHED and names.TAG_SUPERSEDED not in run.data.tags:
                # Runs come newest first, so that the first of a fingerprint is the one that counts.
                chosen.setdefault(key, run)
    rows = [_row(run, slots[key], plan.search.factors) for key, run in chosen.items()]
    complete_rows = [row for row in rows if row is not None]
    if not complete_rows:
        raise ReportError(
            f"the store {shown(tracking_uri)} holds no finished trial of search {plan.search.name!r} at preset "
            f"{plan.request.preset.name!r}. Run it first: {suggested_command('search')}"
        )
    frame = pd.DataFrame(complete_rows, columns=[*SEARCH_COLUMNS, *plan.search.factors])
    commits = sorted({run.data.tags.get(names.TAG_GIT_COMMIT, "unknown") for run in chosen.values()})
    return SearchResults(plan.search, frame.sort_values(["slot", "repeat"]), tuple(commits), len(plan.nodes))


def _places(plan: SearchPlan) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the fingerprints of all trainings that may belong to the search, with slot and repeat."""
    for node in plan.nodes:
        yield node.fingerprint, (node.slot, 0)
        for repeat in range(1, plan.repeats + 1):
            yield slot_fingerprint(plan.group, node.slot, repeat), (node.slot, repeat)


def _row(run: Run, place: tuple[int, int], factors: Mapping[str, Factor]) -> tuple[Any, ...] | None:
    """Return a run as a row, or `None` if it does not name its proposed values."""
    values = [_value(run.data.params.get(f"{names.PROPOSED_PREFIX}{name}"), factor) for name, factor in factors.items()]
    if any(value is None for value in values):
        return None
    metrics = run.data.metrics
    measured = [
        metrics.get(name, math.nan)
        for name in (names.TUNING_TOP1, names.COST_MULTIPLY_ADDS, names.COST_PARAMETERS, names.SECONDS)
    ]
    outcome = run.data.tags.get(names.TAG_OUTCOME, "complete")
    return (*place, outcome, *measured, run.info.run_id, run.info.end_time or 0, *values)


def _value(text: str | None, factor: Factor) -> Any:
    """Return a value of a factor from the text that MLflow keeps; `None` if it is no value of the factor."""
    if text is None:
        return None
    if factor.labels is not None:
        return next((label for label in factor.labels if str(label) == text), None)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and isinstance(factor.low, int) else value


_SECONDS = 0.01
_PERCENT = 1e-6


def tuning_differences(plan: Plan, tracking_uri: str) -> tuple[list[str], list[str]]:
    """Return the differences between a report's tuning and the tracked trials, and notes on what was not checked.

    Raises:
        TrackingError: If the store cannot be reached.
    """
    differences: list[str] = []
    notes: list[str] = []
    entries = {entry.fingerprint: (f"tuning of {study}, {key}", entry) for (study, key), entry in plan.tuned.items()}
    if not entries:
        return differences, notes
    with explained(tracking_uri):
        client = open_store(tracking_uri)
        # Variants may share one tuning, which is then checked once.
        for fingerprint, (name, entry) in entries.items():
            trials = _trials(client, plan, entry)
            if trials:
                differences += _differences(name, entry, trials)
            else:
                notes.append(f"{name}: the store has no trials of group {fingerprint[:SHORT]}, they are not checked")
    return differences, notes


def _trials(client: MlflowClient, plan: Plan, entry: TunedVariant) -> list[Run]:
    """Return the finished trials of a group within its budget, by slot."""
    by_slot: dict[int, Run] = {}
    for name in experiments_of(plan):
        experiment = client.get_experiment_by_name(name)
        query = f"tags.`{names.TAG_GROUP}` = '{entry.fingerprint}'"
        for run in search_runs(client, [experiment.experiment_id], query) if experiment is not None else ():
            tags = run.data.tags
            counts = tags.get(names.TAG_KIND) == "tuning" and names.TAG_SUPERSEDED not in tags
            if counts and run.info.status.lower() == FINISHED and tags.get(names.TAG_SLOT, "").isdecimal():
                # Runs come newest first: of several runs of a slot, the newest counts.
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
        ("epochs", spent.epochs, math.fsum(run_metrics.get(names.TUNING_EPOCHS, 0.0) for run_metrics in metrics), 0),
        ("seconds", spent.seconds, math.fsum(run_metrics.get(names.SECONDS, 0.0) for run_metrics in metrics), _SECONDS),
    ]
    if best is not None:
        pairs.append(("validation top-1", entry.validation_top1, best.data.metrics[names.TUNING_TOP1], _PERCENT))
    for label, reported, tracked, tolerance in pairs:
        if abs(reported - tracked) > tolerance:
            yield f"{name}, {label}: {reported:g} in the report, {tracked:g} from the runs"
    for setting, value in entry.values.items():
        proposed = best.data.params.get(f"{names.PROPOSED_PREFIX}{setting}") if best is not None else None
        # MLflow keeps params as text, so that the text is what can be compared.
        if proposed != str(value):
            yield f"{name}, {setting}: {value} in the report, {proposed or 'nothing'} from the runs"


def _best(trials: Iterable[Run]) -> Run | None:
    """Return the trial with the highest accuracy of those trained to the end, the first of equals."""
    complete = [run for run in trials if run.data.tags.get(names.TAG_OUTCOME, "complete") == "complete"]
    measured = [run for run in complete if names.TUNING_TOP1 in run.data.metrics]
    return max(measured, key=lambda run: run.data.metrics[names.TUNING_TOP1], default=None)


SEARCH_COLUMNS = ("slot", "repeat", "outcome", "top1", "multiply_adds", "parameters", "seconds", "run_id", "ended")


@dataclass(frozen=True)
class SearchResults:
    """The measurements of a search.

    Attributes:
        search: The search.
        trials: A row per finished training: `SEARCH_COLUMNS` and a column per factor. `repeat` is 0 for a proposed
            trial and counts its repeats under other seeds. `top1` is in % on the validation split, NaN
            where the loss was not a number. `ended` is in milliseconds since 1970.
        commits: The commits that trained.
        asked: Number of trials that were asked for.
    """

    search: Search
    trials: pd.DataFrame
    commits: tuple[str, ...]
    asked: int

    @property
    def complete(self) -> pd.DataFrame:
        """The proposed trials that were trained to the end, by slot."""
        rows = self.trials[(self.trials["repeat"] == 0) & (self.trials["outcome"] == "complete")]
        return rows.dropna(subset=["top1"]).sort_values("slot")

    @property
    def newest(self) -> int:
        """The time when the newest run ended, in milliseconds since 1970."""
        return int(self.trials["ended"].max()) if len(self.trials) else 0

    def values(self, rows: pd.DataFrame) -> list[Mapping[str, Any]]:
        """Return the proposed values of some rows, by factor."""
        columns = [rows[name] for name in self.search.factors]
        return [dict(zip(self.search.factors, row, strict=True)) for row in zip(*columns, strict=True)]
