"""Made-up results of any plan, without a store: enough to set a report on every registered study."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablations import vocabulary as names
from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Cell, Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.registry import available_studies, get_study
from reports.collect.attention import profile_rows
from reports.collect.computing.accounted import AccountedRun, Computing
from reports.collect.correctness import Correctness, compared_by_image
from reports.collect.results import (
    ATTENTION_COLUMNS,
    CELL_COLUMNS,
    CURVE_COLUMNS,
    MISSING,
    RUN_COLUMNS,
    Results,
)
from reports.collect.tracked_runs import FINISHED
from tests.reports.made_up import COMMIT, VERSIONS

RESOLUTIONS = (14, 14, 14, 14, 7, 7, 7, 4, 4, 4, 2, 2)
_MOST_EPOCHS = 5
IMAGES = 500
DIFFICULTY = np.random.default_rng(0).random(IMAGES)
CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat")


def whole_plan(preset: str, *studies: str, seeds: int | None = None, canary: bool = False) -> Plan:
    """Returns the plan of the named studies, or of every registered one."""
    request = Request(PRESETS[preset], seeds=seeds, canary=canary)
    return make_plan([get_study(name, request.base()) for name in studies or available_studies()], request)


def made_up_results(plan: Plan) -> Results:
    """Returns results in which every node of the plan has finished; the same plan gives the same numbers."""
    measured = {node.fingerprint: _metrics(node) for node in plan.nodes}
    curves = [row for node in plan.trials.values() for row in _curves(node)]
    attention = [
        (key, *row)
        for key, node in plan.trials.items()
        if node.spec.model.layer != "static"
        for row in profile_rows(profile_text(_chance(node)))
    ]
    return Results(
        cells=_frame([_cell(cell, measured) for cell in plan.cells]),
        curves=pd.DataFrame(curves, columns=list(CURVE_COLUMNS)),
        runs=pd.DataFrame([_run(node) for node in plan.nodes], columns=list(RUN_COLUMNS)),
        attention=pd.DataFrame(attention, columns=list(ATTENTION_COLUMNS)),
        canaries=_frame([_cell(cell, measured) for cell in plan.canaries]),
        costs=_frame([_cell(cell, measured) for cell in plan.cost_cells]),
        correctness={
            key: images_right(key, measured[key][names.TEST_TOP1])
            for study in plan.studies
            for key in compared_by_image(study, plan)
        },
        computing=Computing(tuple(_accounted(node) for node in plan.nodes)),
    )


def images_right(fingerprint: str, top1: float) -> Correctness:
    """Returns which of 500 images a node gets right: the easy ones, give or take, `top1` per cent of them."""
    rank = DIFFICULTY + 0.3 * np.random.default_rng(int(fingerprint[:12], 16)).random(IMAGES)
    right = np.zeros(IMAGES, dtype=bool)
    right[np.argsort(rank)[: round(top1 * IMAGES / 100)]] = True
    packed = {names.TEST_TOP1: np.packbits(right).tobytes()}
    return Correctness(IMAGES, ("made up", "data set"), fingerprint, packed)


def results_of(plan: Plan, values: Mapping[str, Sequence[float | None]]) -> Results:
    """Returns results that hold the deciding metric by variant (`network: variant`) and seed; `None` failed."""
    metrics = {each.name: each.metric for each in plan.studies}
    cells = []
    for cell in plan.cells:
        value = values[cell.key][cell.seed]
        status = MISSING if value is None else FINISHED
        row = dict(zip(CELL_COLUMNS, (*_place(cell), _run_id(cell.fingerprint), status), strict=True))
        cells.append(row | {metrics[cell.study]: math.nan if value is None else value})
    empty = pd.DataFrame(columns=list(CURVE_COLUMNS)), pd.DataFrame(columns=list(RUN_COLUMNS))
    return Results(pd.DataFrame(cells), *empty)


def profile_text(chance: random.Random) -> str:
    """Returns an attention profile as a runner tracks it, flat at the input and sparser towards the output."""
    layers = []
    for index, resolution in enumerate(RESOLUTIONS):
        entropy = max(0.0, 1 - 0.06 * index * chance.random())
        layers.append(
            {
                "name": f"features.{index}.conv.0",
                "resolution": resolution,
                "depth": index / (len(RESOLUTIONS) - 1),
                "entropy": entropy,
                "entropy_sd": 0.01,
                "per_class": [max(0.0, entropy - 0.1 * chance.random()) for _ in CLASSES],
                "mean_attention": [[0.25] * 4 for _ in CLASSES],
            }
        )
    return json.dumps({"layers": layers, "classes": list(CLASSES)})


def _cell(cell: Cell, measured: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    place = (*_place(cell), _run_id(cell.fingerprint), FINISHED)
    return {**dict(zip(CELL_COLUMNS, place, strict=True)), **measured[cell.fingerprint]}


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(CELL_COLUMNS))


def _chance(node: Node) -> random.Random:
    return random.Random(node.fingerprint)


def _place(cell: Cell) -> tuple[Any, ...]:
    return cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint


def _run_id(fingerprint: str) -> str:
    return fingerprint[-32:]


def _metrics(node: Node) -> dict[str, float]:
    chance = _chance(node)
    if node.kind == "cost":
        found = {names.COST_PARAMETERS: 4e6 * (1 + chance.random()), names.COST_MULTIPLY_ADDS: 3e8 * chance.random()}
        return found | {names.COST_LATENCY: 20 + chance.random(), names.COST_LATENCY_RATIO: 1 + chance.random()}
    top1 = 80 + 4 * chance.random() - (30 * chance.random() if isinstance(node, EvaluationNode) else 0)
    # A share of so many images, as an accuracy is.
    top1 = round(top1 * IMAGES / 100) * 100 / IMAGES
    found = {names.TEST_TOP1: top1, names.TEST_TOP5: 99.0, names.TEST_LOSS: 0.5, names.SECONDS: 20.0}
    return found if node.spec.model.layer == "static" else found | {names.ATTENTION_GAP: chance.gauss(0.1, 0.05)}


def _curves(node: Node) -> list[tuple[Any, ...]]:
    chance, place = _chance(node), (_run_id(node.fingerprint), node.fingerprint)
    epochs = range(1, min(_MOST_EPOCHS, node.spec.train.epochs) + 1)
    rows = [(*place, names.VAL_TOP1, epoch, 80 - 40 / epoch + chance.random()) for epoch in epochs]
    rows += [(*place, names.TRAIN_LOSS, epoch, 2 / epoch + 0.1 * chance.random()) for epoch in epochs]
    if node.spec.model.layer != "static":
        for index in range(len(RESOLUTIONS)):
            metric = names.entropy_metric(f"features.{index}.conv.0")
            rows += [(*place, metric, epoch, math.exp(-0.02 * index * epoch)) for epoch in epochs]
    return rows


def _accounted(node: Node) -> AccountedRun:
    return AccountedRun(
        _run_id(node.fingerprint), node.kind, "counted", 20.0, 1_700_000_001_000, machine="a processor, 2 threads"
    )


def _run(node: Node) -> tuple[Any, ...]:
    place = (_run_id(node.fingerprint), node.title, node.kind, node.fingerprint, node.spec.seed)
    return (*place, COMMIT, False, VERSIONS, 1_700_000_001_000, 20.0)
