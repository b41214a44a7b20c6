"""This module makes `SearchResults` of the runs of one search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations import vocabulary as names
from ablations.errors import ReportError
from ablations.invocation import suggested_command
from ablations.planning.optimisation import slot_fingerprint
from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.search import Search
from ablations.spec.factors import Factor
from ablations.stores.addresses import shown
from reports.collect.stores.base import in_group
from reports.collect.stores.opening import open_store
from reports.collect.tracked_runs import TrackedRun, counting_run, group_runs

SEARCH_COLUMNS = ("slot", "repeat", "outcome", "top1", "multiply_adds", "parameters", "seconds", "run_id", "ended")


@dataclass(frozen=True)
class SearchResults:
    """The measurements of a search.

    Attributes:
        trials: A row per finished training: `SEARCH_COLUMNS` and a column per factor. `repeat` is 0 for a proposed
            trial and counts its repeats under other seeds. `top1` is in % on the validation split, NaN
            where the loss was not a number. `ended` is in milliseconds since 1970.
        requested: Number of trials that were asked for.
    """

    search: Search
    trials: pd.DataFrame
    commits: tuple[str, ...]
    requested: int

    @property
    def complete(self) -> pd.DataFrame:
        """The proposed trials that were trained to the end, by slot."""
        # Repeats are left out: they are of the best alone, and would count these several times.
        rows = self.trials[(self.trials["repeat"] == 0) & (self.trials["outcome"] == "complete")]
        return rows.dropna(subset=["top1"]).sort_values("slot")

    @property
    def newest(self) -> int:
        """The time when the newest run ended, in milliseconds since 1970."""
        if self.trials.empty:
            return 0
        return int(self.trials["ended"].max())

    def values(self, rows: pd.DataFrame) -> list[Mapping[str, Any]]:
        """Return the proposed values of some rows, by factor."""
        factor_rows = rows[list(self.search.factors)].itertuples(index=False, name=None)
        return [dict(zip(self.search.factors, row, strict=True)) for row in factor_rows]


def collect_search(plan: SearchPlan, tracking_uri: str) -> SearchResults:
    """Return the results of a search in the tracking store; of two finished runs of one training the newest counts.

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
        ReportError: If it holds no finished trial of the search.
    """
    # Repeats are looked for under every slot: which trials were repeated is known from the runs alone.
    slots = dict(_slots(plan))
    experiment = names.experiment_name(plan.request.preset.name, plan.request.data_name)
    with open_store(tracking_uri) as store:
        tracked = list(store.runs([experiment], in_group(plan.group)))
    rows = []
    commits: set[str] = set()
    for fingerprint, runs in group_runs(tracked, lambda run: run.fingerprint).items():
        run = counting_run(runs)
        # A larger budget of an earlier search has left trials that this one did not ask for.
        if run.finished and fingerprint in slots:
            commits.add(run.commit or "unknown")
            row = _row(run, slots[fingerprint], plan.search.factors)
            if row is not None:
                rows.append(row)
    if not rows:
        raise ReportError(
            f"the store {shown(tracking_uri)} holds no finished trial of search {plan.search.name!r} at preset "
            f"{plan.request.preset.name!r}. Run it first: {suggested_command('search')}"
        )
    frame = pd.DataFrame(rows, columns=[*SEARCH_COLUMNS, *plan.search.factors])
    return SearchResults(plan.search, frame.sort_values(["slot", "repeat"]), tuple(sorted(commits)), len(plan.nodes))


def _slots(plan: SearchPlan) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the fingerprints of all trainings that may belong to the search, with slot and repeat."""
    for node in plan.nodes:
        yield node.fingerprint, (node.slot, 0)
        for repeat in range(1, plan.repeats + 1):
            yield slot_fingerprint(plan.group, node.slot, repeat), (node.slot, repeat)


def _row(run: TrackedRun, slot: tuple[int, int], factors: Mapping[str, Factor]) -> tuple[Any, ...] | None:
    """Return a run as a row, or `None` if it does not name its proposed values."""
    values = []
    for name, factor in factors.items():
        value = _value(run.params.get(f"{names.PROPOSED_PREFIX}{name}"), factor)
        if value is None:
            return None
        values.append(value)
    metrics = (names.TUNING_TOP1, names.COST_MULTIPLY_ADDS, names.COST_PARAMETERS, names.SECONDS)
    measured = [run.metrics.get(metric, math.nan) for metric in metrics]
    return (*slot, run.outcome, *measured, run.run_id, run.ended, *values)


def _value(text: str | None, factor: Factor) -> Any:
    """Return a value of a factor from the text that MLflow keeps; `None` if it is no value of the factor."""
    if text is None:
        return None
    if factor.labels is not None:
        for label in factor.labels:
            # MLflow keeps params as text, so a label is known by its text, and keeps its own type.
            if str(label) == text:
                return label
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    # A range of floats may propose a whole number, which stays a float.
    if value.is_integer() and isinstance(factor.low, int):
        return int(value)
    return value
