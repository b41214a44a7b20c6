"""This module holds `TrackedRun`, a run of the tracking store with its tags parsed, and says which of several counts.

Reports, comparisons, searches and tunings are all made from these. `reports.collect.stores` reads them, newest first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ablations import vocabulary as names
from ablations.spec.fingerprint import SHORT

if TYPE_CHECKING:
    from mlflow.entities import Run

FINISHED = "finished"
"""Status of a run with results; the others are MLflow's own in lower case (failed, killed, running, scheduled)."""

AGREE = 1e-6
"""Two finished runs of one node agree if their deciding metrics differ by no more."""

_MEASURED = frozenset({"trial", "network", "evaluation", "cost"})
_HUGE = 1e300
_LONGEST_INTEGER = 20

Key = TypeVar("Key")


@dataclass(frozen=True)
class TrackedRun:
    """A run of the tracking store.

    Attributes:
        status: `FINISHED`, or another of MLflow's in lower case.
        began: In milliseconds since 1970, 0 if unknown.
        ended: When it ended, or else began, likewise.
        kind: Kind of its node, or `study` for the summary of a study; empty if unknown.
        seed: `None` if its tag is no number.
        commit: Empty if unknown.
        dirty: True if the code had changes that no commit holds.
        superseded_by: The run that replaced it on request, `None` if none did.
        slot: Its number among the trials of its tuning or search, `None` for all else; `outcome` is how it ended there.
        data: Names and digests of its data, in words.
        metrics: The last value of each metric, by the name under which it was measured. The store keeps an infinity as
            the largest float.
    """

    run_id: str
    name: str
    experiment: str
    experiment_id: str
    artifact_uri: str
    status: str
    deleted: bool
    began: int
    ended: int
    kind: str
    fingerprint: str
    seed: int | None
    commit: str
    dirty: bool
    superseded_by: str | None
    slot: int | None
    outcome: str
    data: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]

    @classmethod
    def parse(cls, run: Run, experiment: str) -> TrackedRun:
        """Return an MLflow run of the experiment with that name."""
        info, tags = run.info, run.data.tags
        data = []
        # Older versions of MLflow, and other projects, log no data.
        if run.inputs:
            for entry in run.inputs.dataset_inputs:
                data.append(f"{entry.dataset.name} ({entry.dataset.digest[:SHORT]})")
        return cls.from_tags(
            run_id=info.run_id,
            name=info.run_name or "",
            experiment=experiment,
            experiment_id=info.experiment_id,
            artifact_uri=info.artifact_uri,
            status=str(info.status).lower(),
            deleted=info.lifecycle_stage != "active",
            began=int(info.start_time or 0),
            # A run that goes on, or was killed, has no end.
            ended=int(info.end_time or info.start_time or 0),
            data=", ".join(data),
            metrics=_measured(run.data.metrics),
            params=run.data.params,
            tags=tags,
        )

    @classmethod
    def from_tags(cls, *, tags: Mapping[str, str], **parts: Any) -> TrackedRun:
        """Return a run with what its tags say beside its other `parts`, which are called like the attributes."""
        return cls(
            kind=tags.get(names.TAG_KIND, ""),
            fingerprint=tags.get(names.TAG_FINGERPRINT, ""),
            seed=integer(tags.get(names.TAG_SEED)),
            commit=tags.get(names.TAG_GIT_COMMIT, ""),
            dirty=tags.get(names.TAG_GIT_DIRTY) == "true",
            superseded_by=tags.get(names.TAG_SUPERSEDED),
            slot=integer(tags.get(names.TAG_SLOT)),
            # Trainings that no optimiser has proposed have no such tag; they never stop early.
            outcome=tags.get(names.TAG_OUTCOME, "complete"),
            tags=tags,
            **parts,
        )

    @property
    def finished(self) -> bool:
        """True if it has results."""
        return self.status == FINISHED

    @property
    def measured(self) -> bool:
        """True if it is the run of a node that a table can show."""
        return self.kind in _MEASURED

    @property
    def short_commit(self) -> str:
        """The first digits of its commit."""
        return (self.commit or "unknown")[:SHORT]

    @property
    def marked_commit(self) -> str:
        """The first digits of its commit, with an asterisk if the code had changes."""
        if self.dirty:
            return f"{self.short_commit}*"
        return self.short_commit

    def value(self, metric: str) -> float:
        """Return the last value of a metric; NaN if it was infinite or not tracked."""
        return finite(self.metrics.get(metric, math.nan))


def _measured(tracked: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a store by the names under which they were measured.

    A run that an earlier version began has a metric under both names, of which the store's present one is the later.
    """
    metrics: dict[str, float] = {}
    for name, value in tracked.items():
        is_replaced = names.tracked_metric(name) != name and names.tracked_metric(name) in tracked
        if not is_replaced:
            metrics[names.measured_metric(name)] = value
    return metrics


def finite(value: float) -> float:
    """Return a tracked value, or NaN if it is infinite: MLflow stores an infinity as the largest float there is."""
    if abs(value) < _HUGE:
        return float(value)
    return math.nan


def integer(text: str | None) -> int | None:
    """Return the number in a tag, or `None` if it is none."""
    # Python refuses to read numbers of thousands of digits, which a tag of another project may have.
    if text and text.isdecimal() and len(text) < _LONGEST_INTEGER:
        return int(text)
    return None


def json_object(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a tag, empty if it is none."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    return value


def group_runs(runs: Iterable[TrackedRun], key: Callable[[TrackedRun], Key]) -> dict[Key, list[TrackedRun]]:
    """Return runs by a key, each group in their order; a run that was done anew on request is left out."""
    grouped: dict[Key, list[TrackedRun]] = {}
    for run in runs:
        if run.superseded_by is None:
            grouped.setdefault(key(run), []).append(run)
    return grouped


def counting_run(runs: Sequence[TrackedRun]) -> TrackedRun:
    """Return the run that counts among several of one node, which stand newest first.

    It is the newest that finished. If none did, the newest of any status tells why there is no value.
    """
    for run in runs:
        if run.finished:
            return run
    return runs[0]
