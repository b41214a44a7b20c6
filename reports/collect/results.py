"""This module holds `Results`: the content of the tracking store for a plan, read by `reports.collect.runs`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from ablations.launches import Record
from ablations.planning.frozen_plan import FrozenPlan
from ablations.protocol.looks import Look
from ablations.protocol.looks import in_order as looks_in_order
from reports.collect.computing.accounted import Computing
from reports.collect.correctness import Correctness
from reports.collect.tracked_runs import FINISHED

MISSING, NO_METRIC = "missing", "without the deciding metric"
"""Status of a cell without a run, and of one whose run tracked no value; the others are those of runs."""

CELL_COLUMNS = ("study", "network", "variant", "seed", "fingerprint", "run_id", "status")
CURVE_COLUMNS = ("run_id", "fingerprint", "metric", "step", "value")
ATTENTION_COLUMNS = ("fingerprint", "layer", "index", "resolution", "depth", "class", "entropy")
RUN_COLUMNS = ("run_id", "run_name", "kind", "fingerprint", "seed", "commit", "dirty", "versions", "ended", "seconds")


@dataclass(frozen=True)
class Repeat:
    """One cell's status and value; the value is NaN unless the status is `FINISHED`."""

    status: str
    value: float

    @classmethod
    def of(cls, status: str, value: float) -> Repeat:
        """Return the repeat of a run with that status; one that finished without its metric counts as absent."""
        if status == FINISHED and math.isnan(value):
            status = NO_METRIC
        if status != FINISHED:
            return cls(status, math.nan)
        return cls(FINISHED, float(value))

    @property
    def finished(self) -> bool:
        """True if there is a value."""
        return self.status == FINISHED


def finished_values(repeats: Mapping[int, Repeat]) -> dict[int, float]:
    """Return the values of the repeats that have one, by seed."""
    return {seed: repeat.value for seed, repeat in repeats.items() if repeat.finished}


MOST_LAUNCHES = 10
"""A report lists at most so many launches, the newest."""


@dataclass(frozen=True)
class Results:
    """The measurements of a plan's cells.

    Attributes:
        cells: A row per cell of the plan: `CELL_COLUMNS`, one column per `test/*` and `val/*` metric, `seconds`.
        curves: A row per value that a trial logged per epoch: `CURVE_COLUMNS`; steps are epochs from 1.
        runs: A row per run that a cell or a curve comes from: `RUN_COLUMNS`; `versions` is a dict, `ended` is in
            milliseconds since 1970, `dirty` is a bool, `commit` is empty and `seconds` is NaN if unknown.
        warnings: Sentences about anything in the store that a reader must know.
        attention: A row per dynamic layer of a trial, and per class there, on the test split: `ATTENTION_COLUMNS`.
            `index` counts the layers from the input, from 1; `class` is empty in the row over all images.
            Only trials of studies about the attention profile are here.
        canaries: A row per canary of the plan, in the columns of `cells`; `variant` is `planning.CANARY`.
        costs: A row per network that a study counts beside its trainings, in the columns of `cells`.
        correctness: By fingerprint, the test images that were classified correctly. Only nodes of studies that compare
            evaluations of one checkpoint are here, and of these only those that were tracked with it.
        launches: The launches behind a report of this plan, the first one first: their estimates and actual times.
        unlearned: By fingerprint of a training, the reason why it never learned (`reports.collect.unlearned`).
        computing: All runs of the plan's studies with their time, also those that no number comes from.
        looks: The looks at the results of the plan's studies, the first one first.
        frozen: The plans that were frozen before the runs and concern this one, the oldest first.
    """

    cells: pd.DataFrame
    curves: pd.DataFrame
    runs: pd.DataFrame
    warnings: tuple[str, ...] = ()
    attention: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(ATTENTION_COLUMNS)))
    canaries: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CELL_COLUMNS)))
    costs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CELL_COLUMNS)))
    correctness: Mapping[str, Correctness] = field(default_factory=dict)
    launches: tuple[Record, ...] = ()
    unlearned: Mapping[str, str] = field(default_factory=dict)
    computing: Computing = field(default_factory=Computing)
    looks: tuple[Look, ...] = ()
    frozen: tuple[FrozenPlan, ...] = ()

    @property
    def newest(self) -> int:
        """The time when the newest run ended, in milliseconds since 1970, or 0 if there is none."""
        if self.runs.empty:
            return 0
        return int(self.runs["ended"].max())

    def with_launch(self, launch: Record) -> Results:
        """Return the same results with one more launch behind them."""
        return replace(self, launches=in_order((*self.launches, launch)))

    def with_looks(self, looks: Iterable[Look]) -> Results:
        """Return the same results with further looks at them; one at a state that was seen before adds nothing."""
        return replace(self, looks=looks_in_order((*self.looks, *looks)))

    def with_frozen(self, frozen: Iterable[FrozenPlan]) -> Results:
        """Return the same results with further frozen plans, each once, the oldest first."""
        # An edited copy says the digest of the plan that it was made of, and both are kept.
        by_identity = {(plan.digest, plan.is_intact): plan for plan in (*self.frozen, *frozen)}
        # Of plans of one time the intact one comes last, as the last one counts.
        plans = sorted(by_identity.values(), key=lambda plan: (plan.frozen_at, plan.digest, plan.is_intact))
        return replace(self, frozen=tuple(plans))

    def repeats(self, study: str, metric: str) -> dict[tuple[str, str], dict[int, Repeat]]:
        """Return the repeats of each (network, variant) of a study by seed, in the order of the plan.

        A run that finished without a finite value of `metric` counts as absent.
        """
        return _repeats(self.cells, study, metric)

    def cost_repeats(self, study: str, metric: str) -> dict[str, Repeat]:
        """Return a count or a time of the network of each variant of a study, which has one of each."""
        # A study about cost has its counts in its cells.
        cells = self.costs if study in set(self.costs["study"]) else self.cells
        return {variant: repeats[0] for (_, variant), repeats in _repeats(cells, study, metric).items()}

    def canary_repeats(self, study: str, metric: str) -> dict[str, dict[int, Repeat]]:
        """Return the repeats of a study's canaries by inspected network (or empty) and seed."""
        return {network: repeats for (network, _), repeats in _repeats(self.canaries, study, metric).items()}


def in_order(launches: Iterable[Record]) -> tuple[Record, ...]:
    """Return launches by their beginning, each once; of many, the newest."""
    # The last one of a name wins: the record of a launch that is just over replaces the one in the store.
    by_id = {launch.launch: launch for launch in launches}
    return tuple(sorted(by_id.values(), key=lambda record: (record.began, record.launch))[-MOST_LAUNCHES:])


def _repeats(cells: pd.DataFrame, study: str, metric: str) -> dict[tuple[str, str], dict[int, Repeat]]:
    grouped: dict[tuple[str, str], dict[int, Repeat]] = {}
    rows = cells[cells["study"] == study]
    # No run has tracked it yet: every cell counts as one without the metric.
    if metric not in rows:
        rows = rows.assign(**{metric: math.nan})
    columns = (rows["network"], rows["variant"], rows["seed"], rows["status"], rows[metric])
    for network, variant, seed, status, value in zip(*columns, strict=True):
        grouped.setdefault((str(network), str(variant)), {})[int(seed)] = Repeat.of(status, value)
    return grouped
