"""Knows how much a difference varies from seed to seed: from results in the runs folder, or as is typical of a preset.

`plan` computes with it the seeds that a claim likely needs. No torch and no scipy here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ablations.claims import Contrast
from ablations.planning.plan import Cell, Plan
from ablations.study import Study
from ablations.vocabulary import TEST_TOP1, VAL_TOP1
from runners.state.nodes import StateStore

TYPICAL = {"quick": 0.7}
"""By preset, the standard deviation over seeds of the paired difference of two trainings, in points of top-1 accuracy.

Measured at `quick`: the root mean square over the eight differences of *methods* is 0.70 (docs/presets.md), and the
six networks of *temperature*, whose accuracies vary by 0.51, differ by 0.51 · √2 = 0.72. Other presets have too few
measurements, and the numbers of `smoke` mean nothing.
"""

# Two seeds give a spread at all; it is crude, but it is of this very contrast.
_FEWEST_SEEDS = 2


@dataclass(frozen=True)
class Spread:
    """The standard deviation over seeds of a paired difference.

    Attributes:
        sd: In the unit of the metric, above 0.
        source: Its origin in words.
        rows: Rows of the table that share their spread with the difference; 0 if they measure the same checkpoints.
        is_typical: True if it was not measured here.
    """

    sd: float
    source: str
    rows: int
    is_typical: bool = False


def spread_of(plan: Plan, states: StateStore, study: Study, contrast: Contrast, network: str) -> Spread | None:
    """Return the spread of a contrast on an inspected network (empty if the study trains), `None` if nothing is known.

    What was measured in this runs folder comes first, for the very settings of the plan. What is typical of a preset is
    about separate trainings and about accuracy, with the settings of the preset: evaluations of one checkpoint differ
    thirtyfold in their spread.
    """
    rows = _rows_apart(plan, study, network)
    differences = _differences(plan, states, study, contrast, network)
    if len(differences) >= _FEWEST_SEEDS:
        sd = statistics.stdev(differences)
        # Seeds that all gave one value say nothing of the spread.
        if sd > 0:
            return Spread(sd, f"measured with {len(differences)} seeds here", rows)
    preset = plan.request.preset.name
    # Evaluations of one checkpoint have no typical spread, and an override may change any.
    is_typical = rows and study.metric in (TEST_TOP1, VAL_TOP1) and not plan.request.overrides
    if is_typical and contrast.worse and preset in TYPICAL:
        # The mean of several rows varies less: by the root of the variance that is left of each side.
        share = (1 / len(contrast.better) + 1 / len(contrast.worse)) / 2
        return Spread(TYPICAL[preset] * math.sqrt(share), f"typical of preset {preset}", rows, is_typical=True)
    return None


def _rows_apart(plan: Plan, study: Study, network: str) -> int:
    """Return the number of distinct trainings among the rows of a table, 0 if two rows measure one checkpoint."""
    trainings: set[str] = set()
    nodes: set[str] = set()
    for variant in study.variants:
        # The first seed is enough: rows that share a training share it at every seed.
        for cell in plan.cells_of_row(study.name, network, variant.name)[:1]:
            nodes.add(cell.fingerprint)
            trainings.add(plan.node(cell.fingerprint).training.fingerprint)
    # Two evaluations of one training move together, so that the table says nothing of their difference.
    if len(trainings) < len(nodes):
        return 0
    return len(trainings)


def _differences(plan: Plan, states: StateStore, study: Study, contrast: Contrast, network: str) -> list[float]:
    """Return the contrast at each seed at which every row of it has been measured in this runs folder."""
    better = _values(plan, states, study, contrast.better, network)
    worse = _values(plan, states, study, contrast.worse, network)
    differences = []
    for seed, values in better.items():
        if not contrast.worse:
            differences.append(statistics.fmean(values))
        elif seed in worse:
            differences.append(statistics.fmean(values) - statistics.fmean(worse[seed]))
    return differences


def _values(
    plan: Plan, states: StateStore, study: Study, variants: Sequence[str], network: str
) -> dict[int, list[float]]:
    """Return by seed the values of some rows, of the seeds at which all of them have one."""
    values: dict[int, list[float]] = {}
    for variant in variants:
        for cell in plan.cells_of_row(study.name, network, variant):
            value = _value(plan, states, study, cell)
            if value is not None:
                values.setdefault(cell.seed, []).append(value)
    return {seed: row_values for seed, row_values in values.items() if len(row_values) == len(variants)}


def _value(plan: Plan, states: StateStore, study: Study, cell: Cell) -> float | None:
    # Asking the plan first saves reading a file per cell of a study that was never run.
    if cell.fingerprint not in plan.done:
        return None
    result = states[cell.fingerprint].result()
    if result is None:
        return None
    value: float | None = result["metrics"].get(study.metric)
    return value
