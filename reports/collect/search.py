"""MLflow → the results of one search. With `reports.collect.runs` the only reads of MLflow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from mlflow.entities import Run

from ablations import vocabulary as names
from ablations.addresses import shown
from ablations.errors import ReportError
from ablations.invocation import suggested_command
from ablations.planning.optimisation_plans import SearchPlan, repeat_fingerprint
from ablations.spec.factors import Factor
from reports.analysis.search_results import SEARCH_COLUMNS, SearchResults
from reports.collect.results import FINISHED
from reports.collect.store import explained, open_store, search_runs


def collect_search(plan: SearchPlan, tracking_uri: str) -> SearchResults:
    """Returns what the tracking store holds for a search; of two finished runs of one training the newest counts.

    Raises:
        TrackingError: If the store does not exist or cannot be reached.
        ReportError: If it holds no finished trial of the search.
    """
    places = dict(_places(plan))
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
            if key in places and run.info.status.lower() == FINISHED and names.TAG_SUPERSEDED not in run.data.tags:
                chosen.setdefault(key, run)
    rows = [_row(run, places[key], plan.search.factors) for key, run in chosen.items()]
    kept = [row for row in rows if row is not None]
    if not kept:
        raise ReportError(
            f"the store {shown(tracking_uri)} holds no finished trial of search {plan.search.name!r} at preset "
            f"{plan.request.preset.name!r}. Run it first: {suggested_command('search')}"
        )
    frame = pd.DataFrame(kept, columns=[*SEARCH_COLUMNS, *plan.search.factors])
    commits = sorted({run.data.tags.get(names.TAG_GIT_COMMIT, "unknown") for run in chosen.values()})
    return SearchResults(plan.search, frame.sort_values(["slot", "repeat"]), tuple(commits), len(plan.nodes))


def _places(plan: SearchPlan) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields the fingerprints of all trainings that may belong to the search, with slot and repeat."""
    for node in plan.nodes:
        yield node.fingerprint, (node.slot, 0)
        for repeat in range(1, plan.repeats + 1):
            yield repeat_fingerprint(plan.group, node.slot, repeat), (node.slot, repeat)


def _row(run: Run, place: tuple[int, int], factors: Mapping[str, Factor]) -> tuple[Any, ...] | None:
    """Returns a run as a row, or `None` if it does not say what was proposed."""
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
    """Returns a value that MLflow keeps as text; `None` if it is none of the factor's."""
    if text is None:
        return None
    if factor.labels is not None:
        return next((label for label in factor.labels if str(label) == text), None)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and isinstance(factor.low, int) else value
