"""This module reads results from an MLflow experiment of anybody's: one run per repeat, found by tags and params.

Variant and seed are looked up among the tags of a run, then among its params. The last value that was logged counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from ablations.errors import ResultsError, TrackingError
from ablations.spec.fingerprint import digest
from ablations.stores.addresses import shown, sqlite_file
from ablations.stores.store_file import local_folder
from reports.collect.foreign.measurements import (
    LARGEST,
    Columns,
    ForeignResults,
    Measurement,
    Source,
    checked_seed,
    checked_variant,
    no_such_name,
    the_only_metric,
)
from reports.collect.stores.base import EVERY_RUN, Store
from reports.collect.stores.opening import open_store
from reports.collect.tracked_runs import FINISHED, TrackedRun

_LISTED = 6
_MOST_RUNS = 20_000


def read_experiment(uri: str, experiment: str, columns: Columns) -> ForeignResults:
    """Return the results in an MLflow experiment.

    Runs without the variant are left out and counted. A run that is not finished has no value: what it has logged so
    far is no result.

    Raises:
        ResultsError: If there is no such experiment, or its runs have not what they must.
        TrackingError: If the store cannot be read.
    """
    place = f"experiment {experiment} of {shown(uri)}"
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise TrackingError(f"there is no tracking store at {file}. Check the address, mlflow:URI/EXPERIMENT.")
    with open_store(uri) as store:
        runs = _listed(store.runs([experiment], EVERY_RUN), place)
        if not runs:
            available = store.experiments("")
            if experiment in available:
                raise ResultsError(f"{place} holds no run.")
            raise no_such_name("experiment", experiment, available, f"the store {shown(uri)}", "mlflow:URI/EXPERIMENT")
        chosen = [run for run in runs if _told(run, columns.variant, place) is not None]
        if not chosen:
            raise no_such_name("tag or param", columns.variant, _names(runs), place, "--variant-from")
        metric = columns.metric
        metrics = dict.fromkeys(name for run in chosen for name in run.metrics)
        if metric is None:
            metric = the_only_metric(metrics, place)
        elif metric not in metrics:
            raise no_such_name("metric", metric, list(metrics), place, "--metric")
        measurements = tuple(_measurement(run, columns, metric, place) for run in chosen)
        if not any(measurement.status == FINISHED for measurement in measurements):
            raise ResultsError(f"{place} has no finished run with a value of {metric!r} ({len(chosen)} runs).")
        notes = list(_notes(store, runs, chosen, columns, metric))
    ended = max(run.ended for run in chosen if run.finished)
    content = sorted([item.origin, item.variant, item.seed, item.status, repr(item.value)] for item in measurements)
    source = Source("mlflow", f"experiment {experiment} of {_store_title(uri)}", digest(content), ended)
    return ForeignResults(source, columns, metric, measurements, tuple(notes))


def _store_title(uri: str) -> str:
    """Return a store as a report names it: a file or a folder by its name, since where it lies is nobody's business."""
    place = sqlite_file(uri) or local_folder(uri)
    return place.name if place is not None else shown(uri)


def _listed(runs: Iterator[TrackedRun], title: str) -> list[TrackedRun]:
    listed: list[TrackedRun] = []
    for run in runs:
        if len(listed) == _MOST_RUNS:
            raise ResultsError(
                f"{title} holds more than {_MOST_RUNS:,} runs. Put those of the study into one of their own."
            )
        listed.append(run)
    # The oldest first, as they were made; a store gives the newest first.
    return sorted(listed, key=lambda run: (run.began, run.run_id))


def _told(run: TrackedRun, name: str, title: str) -> str | None:
    """Return what the tags of a run or its params say under a name, `None` if nothing.

    Raises:
        ResultsError: If both say something, and not the same.
    """
    tag, param = run.tags.get(name), run.params.get(name)
    if tag is not None and param is not None and tag != param:
        raise ResultsError(
            f"run {run.run_id} of {title} has a tag {name!r}, {tag[:40]!r}, and a param of that name, {param[:40]!r}. "
            "Rename one."
        )
    return tag if tag is not None else param


def _names(runs: Iterable[TrackedRun]) -> list[str]:
    """Return the names of tags and params, without those that MLflow writes of itself."""
    names: dict[str, None] = {}
    for run in runs:
        own_tags = [name for name in run.tags if not name.startswith("mlflow.")]
        names |= dict.fromkeys([*own_tags, *run.params])
    return list(names)


def _measurement(run: TrackedRun, columns: Columns, metric: str, title: str) -> Measurement:
    place = f"run {run.run_id} of {title}"
    variant = checked_variant(_told(run, columns.variant, title) or "", place)
    seed = _told(run, columns.seed, title)
    if seed is None:
        raise ResultsError(
            f"{place} has no tag or param {columns.seed!r}, which numbers the repeats. It has "
            f"{', '.join(map(repr, _names([run])[:_LISTED]))}. Name the right one with --seed-from."
        )
    status, value = run.status, math.nan
    if run.finished:
        value = run.value(metric)
        # Of NaN no comparison holds.
        if not abs(value) <= LARGEST:
            value = math.nan
            status = "without a value of the metric"
    return Measurement(variant, checked_seed(seed, place), status, value, run.run_id)


def _notes(
    store: Store, runs: Sequence[TrackedRun], chosen: Sequence[TrackedRun], columns: Columns, metric: str
) -> Iterator[str]:
    left_out = len(runs) - len(chosen)
    if left_out:
        yield f"{left_out} of {len(runs)} runs have no tag or param “{columns.variant}” and are left out."
    measured = [run for run in chosen if run.finished and metric in run.metrics]
    steps = [len(history) for history in store.read_each(lambda opened, run: opened.history(run, metric), measured)]
    if max(steps, default=1) > 1:
        yield (
            f"{metric} was logged at up to {max(steps)} steps of a run: the value at the last step counts, which need "
            "not be the best one."
        )


def split_address(address: str) -> tuple[str, str]:
    """Return the store and the experiment of `URI/EXPERIMENT`, or of `URI#EXPERIMENT` for a name with a slash.

    Raises:
        TrackingError: If there is no experiment.
    """
    store, mark, experiment = address.rpartition("#")
    if not mark:
        store, mark, experiment = address.rpartition("/")
    # What is left of `sqlite:///` alone, or of `http://host`, is no address.
    if not (store.strip("/") and experiment) or store.rstrip("/").endswith(":"):
        raise TrackingError(
            f"mlflow:{shown(address)} names no store and experiment. Write mlflow:URI/EXPERIMENT, for example "
            "mlflow:sqlite:///mlflow.db/baselines, or mlflow:URI#EXPERIMENT for a name with a slash."
        )
    return store, experiment
